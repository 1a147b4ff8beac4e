import json

import pytest
from api import answers

from celeba_fl.data.schema import ATTRIBUTES
from celeba_fl.teach.questions import (
    DEFINITIONS,
    INSTRUCTIONS,
    SCHEMA,
    Answer,
    is_refusal,
    parse_answers,
)


def test_every_attribute_is_defined_and_asked_for():
    assert tuple(DEFINITIONS) == ATTRIBUTES
    assert all(f"- {name}: {text}\n" in f"{INSTRUCTIONS}\n" for name, text in DEFINITIONS.items())
    assert tuple(SCHEMA["properties"]) == ATTRIBUTES


def test_schema_is_strict_throughout():
    objects = [SCHEMA, *SCHEMA["properties"].values()]
    assert all(part["type"] == "object" for part in objects)
    assert all(part["additionalProperties"] is False for part in objects)
    assert all(part["required"] == list(part["properties"]) for part in objects)
    assert SCHEMA["properties"]["Male"]["properties"]["answer"]["enum"] == ["yes", "no", "unsure"]


def test_answers_in_the_order_of_the_attributes_whatever_theirs():
    said = json.loads(
        answers(
            Male={"answer": "yes", "confidence": 1},
            Young={"answer": "unsure", "confidence": 0.0},
        )
    )
    found = parse_answers(json.dumps(dict(reversed(said.items()))))
    by_name = dict(zip(ATTRIBUTES, found, strict=True))
    assert by_name.pop("Male") == Answer("1", 1.0)
    assert by_name.pop("Young") == Answer("", 0.0)
    assert set(by_name.values()) == {Answer("0", 0.75)}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no JSON"),
        ("I cannot tell.", "no JSON: 'I cannot tell.'"),
        (answers()[:-1], "no JSON"),
        ("[" * 3000, "no JSON"),
        ("{" * 90_000, "no JSON"),
        ("[]", "no JSON"),
        ("null", "no JSON"),
        (answers().replace("Bangs", "Fringe"), "'Bangs' is missing"),
        (answers(Male=True), "'Male' is True"),
        (answers(Male={"answer": "no"}), "'Male' is {'answer': 'no'}"),
        (answers(Male={"answer": "maybe", "confidence": 1}), "answered with 'maybe'"),
        (answers(Male={"answer": None, "confidence": 1}), "answered with None"),
        (answers(Male={"answer": ["no"], "confidence": 1}), r"answered with \['no'\]"),
        (answers(Male={"answer": "no", "confidence": 1.01}), "the confidence 1.01"),
        (answers(Male={"answer": "no", "confidence": -0.1}), "the confidence -0.1"),
        (answers(Male={"answer": "no", "confidence": "high"}), "the confidence 'high'"),
        (answers(Male={"answer": "no", "confidence": 101}), "the confidence 101"),
        (answers(Male={"answer": "no", "confidence": "9" * 5000}), "the confidence '9"),
        (answers(Male={"answer": "no", "confidence": True}), "the confidence True"),
        (answers(Male={"answer": "no", "confidence": float("nan")}), "the confidence nan"),
    ],
)
def test_malformed_answers(text, why):
    with pytest.raises(ValueError, match=why):
        parse_answers(text)


@pytest.mark.parametrize(
    "text",
    [
        f"```json\n{answers()}\n```",
        f"<think>Is it {{}}? {answers(Male=1)} no.</think>\n{answers()}",
        f"Here is what I see: {answers()} I hope that this helps.",
        answers(Tall={"answer": "no", "confidence": 1}),
        answers(Male={"answer": "No", "confidence": 0.75, "why": "a dress"}),
        answers(Male={"answer": " NO ", "confidence": "0.75"}),
        answers(Male={"answer": "no", "confidence": 75}),
        answers(Male={"answer": "no", "confidence": "75%"}),
    ],
)
def test_what_is_plainly_meant_is_read(text: str) -> None:
    assert parse_answers(text) == parse_answers(answers())


@pytest.mark.parametrize(
    ("text", "refuses"),
    [
        ("I'm sorry, but I can't help with that.", True),
        ("I am unable to judge people by their appearance.", True),
        ("I won\u2019t label faces.", True),
        ("yes", False),
        ("", False),
        (f"Sorry for the delay: {answers()}", False),
    ],
)
def test_a_refusal_in_words_is_a_refusal(text: str, refuses: bool) -> None:
    assert is_refusal(text) == refuses
