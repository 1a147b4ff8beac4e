"""The questions that a teacher is asked about an image, and the answers that count.

The attributes are CelebA's (Liu et al., ICCV 2015), which published no definitions: what stands
here is how its annotators seem to have used the words.
"""

import hashlib
import json
import re
from typing import Any, NamedTuple

from celeba_fl.data.schema import ATTRIBUTES

DEFINITIONS = {
    "5_o_Clock_Shadow": "short stubble, as of a man some hours after shaving",
    "Arched_Eyebrows": "eyebrows that rise to a clear arch",
    "Attractive": "most annotators would call this face attractive",
    "Bags_Under_Eyes": "puffiness or dark rings under the eyes",
    "Bald": "no hair on the top of the head",
    "Bangs": "hair cut or combed over the forehead",
    "Big_Lips": "full lips, larger than is usual",
    "Big_Nose": "a nose that is large or broad for the face",
    "Black_Hair": "the hair is black",
    "Blond_Hair": "the hair is blond",
    "Blurry": "the image is blurred or out of focus",
    "Brown_Hair": "the hair is brown",
    "Bushy_Eyebrows": "thick eyebrows",
    "Chubby": "a rounded, full face",
    "Double_Chin": "a fold of flesh under the chin",
    "Eyeglasses": "wears glasses, sunglasses among them",
    "Goatee": "a beard on the chin",
    "Gray_Hair": "the hair is grey or white",
    "Heavy_Makeup": "make-up that is plain to see",
    "High_Cheekbones": "prominent cheekbones; often visible in a smile",
    "Male": "annotators would take this person for a man; no, if for a woman",
    "Mouth_Slightly_Open": "the lips are apart, teeth or the inside of the mouth visible",
    "Mustache": "hair on the upper lip",
    "Narrow_Eyes": "eyes that are narrow or narrowed",
    "No_Beard": "no beard on the chin or the cheeks; yes for nearly all women",
    "Oval_Face": "a face longer than wide, with a rounded outline",
    "Pale_Skin": "skin that is very light",
    "Pointy_Nose": "a nose with a pointed tip",
    "Receding_Hairline": "the hairline is far back, at the temples or the forehead",
    "Rosy_Cheeks": "cheeks that are red or pink",
    "Sideburns": "hair grown down in front of the ears",
    "Smiling": "the person smiles",
    "Straight_Hair": "the hair is straight",
    "Wavy_Hair": "the hair is wavy or curly",
    "Wearing_Earrings": "an earring is visible",
    "Wearing_Hat": "wears a hat, a cap or the like",
    "Wearing_Lipstick": "wears lipstick",
    "Wearing_Necklace": "a necklace is visible",
    "Wearing_Necktie": "a necktie or bow tie is visible",
    "Young": "annotators would call this person young; no, if middle-aged or old",
}

INSTRUCTIONS = (
    "You label images of faces for a data set with the 40 binary attributes of CelebA. The image "
    "is a face, a photograph or a drawing, cropped and aligned. Judge appearance alone, as an "
    "annotator would who sees nothing but this image; do not identify anybody. Answer every "
    "attribute with yes, no, or unsure where the image does not show it, and with your confidence "
    "from 0 to 1 that the answer is right. Answer with one JSON object alone: a key for each "
    'attribute, each with an object such as {"answer": "yes", "confidence": 0.9}.\n\n'
    "The attributes:\n" + "\n".join(f"- {name}: {text}" for name, text in DEFINITIONS.items())
)

# How models say in words that they will not answer.
REFUSAL = re.compile(
    r"\b(sorry|apologi[sz]e|cannot|can['\u2019]?t|unable|won['\u2019]?t|not able|not comfortable|"
    r"decline|refuse|not allowed)\b",
    re.IGNORECASE,
)
# Of an answer, so many characters are read, and so many braces tried.
LONGEST, BRACES = 100_000, 100

VALUES = {"yes": "1", "no": "0", "unsure": ""}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


# As `strict` wants it: all keys required, and no others.
SCHEMA = _object(
    {
        name: _object(
            {"answer": {"type": "string", "enum": list(VALUES)}, "confidence": {"type": "number"}}
        )
        for name in ATTRIBUTES
    }
)

# Answers to other questions are other labels.
QUESTIONS_HASH = hashlib.sha256(json.dumps([INSTRUCTIONS, SCHEMA]).encode()).hexdigest()


class Answer(NamedTuple):
    """A teacher's answer for one attribute."""

    value: str  # "1", "0", or empty where it is unsure
    confidence: float | None  # from 0 to 1; None: unknown


UNSURE = (Answer("", None),) * len(ATTRIBUTES)


def is_refusal(text: str) -> bool:
    """True if an answer without JSON says that there will be none."""
    return "{" not in text and bool(REFUSAL.search(text))


def parse_answers(text: str) -> tuple[Answer, ...]:
    """Read a teacher's answer; not every endpoint keeps to the schema that it is given.

    What is plainly meant is taken: JSON in a code fence, after thoughts or with a sentence around
    it, ``Yes`` for ``yes``, and a confidence in per cent. The answers are in the order of
    `ATTRIBUTES`.

    Raises
    ------
    ValueError
        If an attribute is missing, or its answer or confidence is not understood.
    """
    answers = _object_in(text)
    missing = [name for name in ATTRIBUTES if name not in answers]
    if missing:
        raise ValueError(f"{missing[0]!r} is missing")
    return tuple(_parse_answer(name, answers[name]) for name in ATTRIBUTES)


def _object_in(text: Any) -> dict[str, Any]:
    """The first JSON object in a text, thoughts aside, that speaks of an attribute."""
    if not isinstance(text, str):  # answers in parts
        raise ValueError(f"no JSON: {str(text)[:40]!r}")
    said = text.rpartition("</think>")[2][:LONGEST]
    for found in list(re.finditer("{", said))[:BRACES]:
        try:
            value, _ = json.JSONDecoder().raw_decode(said, found.start())
        except (ValueError, RecursionError):
            continue
        if any(name in DEFINITIONS for name in value):
            return value
    raise ValueError(f"no JSON: {said.strip()[:40]!r}")


def _parse_answer(name: str, value: Any) -> Answer:
    if not isinstance(value, dict) or not {"answer", "confidence"} <= value.keys():
        raise ValueError(f"{name!r} is {value!r}")
    answer = value["answer"]
    word = answer.strip().lower() if isinstance(answer, str) else answer
    if not isinstance(word, str) or word not in VALUES:
        raise ValueError(f"{name!r} is answered with {answer!r}")
    return Answer(VALUES[word], _confidence(name, value["confidence"]))


def _confidence(name: str, value: Any) -> float:
    """From 0 to 1: of a number, one in quotation marks, or per cent from 2 to 100."""
    number = value
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,9})?%?", value.strip()):
        number = float(value.strip().rstrip("%")) / (100 if "%" in value else 1)
    if type(number) in (int, float) and 2 <= number <= 100 and number == int(number):
        number /= 100
    if type(number) not in (int, float) or not 0 <= number <= 1:
        raise ValueError(f"{name!r} has the confidence {value!r}")
    return float(number)
