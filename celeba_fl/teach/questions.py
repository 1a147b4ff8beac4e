"""The questions that a teacher is asked about an image, and the answers that count.

The attributes are CelebA's (Liu et al., ICCV 2015), which published no definitions: what stands
here is how its annotators seem to have used the words.
"""

import hashlib
import json
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


def parse_answers(text: str) -> tuple[Answer, ...]:
    """Read a teacher's answer strictly; not every endpoint keeps to the schema that it is given.

    The answers are in the order of `ATTRIBUTES`.

    Raises
    ------
    ValueError
        If it is anything but what `SCHEMA` says, or a confidence is not from 0 to 1.
    """
    try:
        answers = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:  # TypeError: answers in parts
        raise ValueError(f"no JSON: {text[:40]!r}") from error
    if not isinstance(answers, dict):
        raise ValueError(f"no JSON object: {text[:40]!r}")
    for name in [*ATTRIBUTES, *answers]:
        if (name in answers) != (name in DEFINITIONS):
            raise ValueError(f"{name!r} is {'no attribute' if name in answers else 'missing'}")
    return tuple(_parse_answer(name, answers[name]) for name in ATTRIBUTES)


def _parse_answer(name: str, value: Any) -> Answer:
    if not isinstance(value, dict) or value.keys() != {"answer", "confidence"}:
        raise ValueError(f"{name!r} is {value!r}")
    answer, confidence = value["answer"], value["confidence"]
    if not isinstance(answer, str) or answer not in VALUES:
        raise ValueError(f"{name!r} is answered with {answer!r}")
    if type(confidence) not in (int, float) or not 0 <= confidence <= 1:
        raise ValueError(f"{name!r} has the confidence {confidence!r}")
    return Answer(VALUES[answer], float(confidence))
