"""What is filled into a schema comes out of the text, and always conforms."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from local.models.embeddings import Embedder
from local.models.forms import FormFiller, Hint, asked_keys, keys_schema, phrases, siblings

STORY = "Ann Smith is 34 years old and lives in Berlin. She is employed as an engineer and loves her wonderful job."


@pytest.fixture(scope="module")
def filler(embedder: Embedder) -> FormFiller:
    return FormFiller(embedder)


def filled(filler: FormFiller, schema: dict[str, Any], text: str = STORY, name: str = "person") -> Any:
    value = filler.fill(schema, text, subject=Hint(name))
    jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker()).validate(value)
    return value


def members(*required: str, **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required or properties),
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    ("schema", "text", "expected"),
    [
        ({"type": "integer"}, STORY, 34),
        ({"type": "number", "minimum": 50}, "It costs 20 or 75.5 euros.", 75.5),
        ({"type": "integer", "minimum": 5}, "Nobody says a number.", 5),
        ({"type": "integer", "exclusiveMinimum": 3, "multipleOf": 4}, "No number here.", 4),
        ({"enum": ["positive", "negative"]}, STORY, "positive"),
        ({"enum": ["red", "green"]}, "The green one, please.", "green"),
        ({"const": 5}, STORY, 5),
        ({"type": "null"}, STORY, None),
        ({"type": "string", "format": "email"}, "Write to ann@example.com today.", "ann@example.com"),
        ({"type": "string", "format": "date"}, "Due on 2026-12-24 at the latest.", "2026-12-24"),
        ({"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3}$"}, "Ticket AB-123 is open.", "AB-123"),
        ({"type": "array", "items": {"type": "integer"}}, "Take 3, 5 and seven.", [3, 5, 7]),
        ({"type": "array", "items": {"enum": ["a", "b", "c"]}}, "Both a and c.", ["a", "c"]),
        ({"anyOf": [{"type": "null"}, {"type": "integer"}]}, STORY, 34),
        ({"allOf": [{"type": "integer"}, {"minimum": 30}]}, STORY, 34),
        ({"type": "string", "maxLength": 3}, "The capital is Berlin.", "Ber"),
        ({"type": "boolean", "description": "employed"}, STORY, True),
    ],
    ids=str,
)
def test_a_value_is_found_by_its_kind(filler: FormFiller, schema: dict[str, Any], text: str, expected: Any) -> None:
    assert filled(filler, schema, text) == expected


def test_members_are_told_apart_by_their_names(filler: FormFiller) -> None:
    schema = members(
        name={"type": "string"},
        age={"type": "integer"},
        city={"type": "string"},
        employed={"type": "boolean"},
        mood={"enum": ["happy", "sad"]},
    )
    assert filled(filler, schema) == {
        "name": "Ann Smith",
        "age": 34,
        "city": "Berlin",
        "employed": True,
        "mood": "happy",
    }


def test_what_follows_a_name_and_a_colon_is_its_value(filler: FormFiller) -> None:
    schema = members(title={"type": "string"}, seats={"type": "integer"}, topics={"type": "array"})
    text = "title: The long road\nseats: 40\ntopics: history, art and music"
    assert filled(filler, schema, text) == {
        "title": "The long road",
        "seats": 40,
        "topics": ["history", "art", "music"],
    }


def test_what_need_not_be_there_is_left_out_unless_the_text_has_it(filler: FormFiller) -> None:
    unit = {"type": "string", "enum": ["celsius", "fahrenheit"]}
    schema = members("city", city={"type": "string"}, unit=unit)
    assert filled(filler, schema, "Weather in Oslo?") == {"city": "Oslo"}
    assert filled(filler, schema, "Weather in Oslo in celsius?") == {"city": "Oslo", "unit": "celsius"}


def test_references_and_recursion_come_to_an_end(filler: FormFiller) -> None:
    node = {
        "type": "object",
        "properties": {"label": {"type": "string"}, "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
        "required": ["label", "next"],
        "additionalProperties": False,
    }
    assert filled(filler, {"$ref": "#/$defs/node", "$defs": {"node": node}})["label"]


def test_bounds_of_an_array_hold(filler: FormFiller) -> None:
    items = {"type": "integer"}
    assert len(filled(filler, {"type": "array", "items": items, "minItems": 3}, "Only 7.")) == 3
    assert filled(filler, {"type": "array", "items": items, "maxItems": 2}, "1, 2, 3 and 4") == [1, 2]
    assert filled(filler, {"type": "array", "items": items, "uniqueItems": True}, "5, 5 and 6") == [5, 6]


def test_the_same_text_gives_the_same_value(filler: FormFiller) -> None:
    schema = members(name={"type": "string"}, age={"type": "integer"})
    assert filled(filler, schema) == filled(filler, schema)


def test_phrases_are_quotations_names_and_words() -> None:
    assert phrases('Book "The Ritz" for Ann Smith')[:2] == ["The Ritz", "Ann Smith"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Weather in Paris, Rome and Oslo?", ["Paris", "Rome", "Oslo"]),
        ("Weather in Paris and Rome today, please.", ["Paris", "Rome"]),
        ("Weather in Paris?", ["Paris"]),
    ],
)
def test_what_is_enumerated_belongs_together(text: str, expected: list[str]) -> None:
    assert siblings(text, "Paris") == expected


def test_keys_are_read_from_a_prompt() -> None:
    keys = asked_keys('Answer in JSON with the keys "name", "age" and "city".')
    assert keys == ["name", "age", "city"]
    assert keys_schema(keys)["properties"]["age"] == {"type": "number"}
    assert asked_keys("Answer in JSON.") == []
