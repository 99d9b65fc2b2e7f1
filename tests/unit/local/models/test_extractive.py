"""The extractive model by itself; how well it answers is tested over the wire (tests/contract/local_models)."""

from __future__ import annotations

import pytest

from local.models.chat import before_stop
from local.models.embeddings import Embedder
from local.models.extractive import ExtractiveModel, Turn

TEXT = [
    "Cats sleep all day.",
    "Cats sleep most of the day.",
    "The stock market fell sharply.",
    "Kittens like to sleep.",
]


@pytest.fixture
def model(embedder: Embedder) -> ExtractiveModel:
    return ExtractiveModel(embedder)


def test_a_summary_does_not_repeat_itself(model: ExtractiveModel) -> None:
    two = model.summarise(TEXT, 2)
    assert len(two) == 2
    assert set(two) != set(TEXT[:2])


def test_a_summary_is_never_longer_than_its_text(model: ExtractiveModel) -> None:
    assert model.summarise(TEXT, 10) == TEXT
    assert model.summarise([], 3) == []


def test_no_sentence_is_found_where_none_comes_near(model: ExtractiveModel) -> None:
    assert model.best_sentence("When do cats sleep?", []) is None
    assert model.best_sentence("What is the capital of France?", ["xyzzy plugh"]) is None


def test_a_label_keeps_its_spelling(model: ExtractiveModel) -> None:
    assert model.classify("The team won the football match.", ["World Politics", "SPORTS"]) == "SPORTS"


def test_the_last_user_turn_is_answered(model: ExtractiveModel) -> None:
    turns = [
        Turn("user", "When do cats sleep?"),
        Turn("assistant", "Cats sleep all day."),
        Turn("user", "What fell? The stock market fell sharply."),
        Turn("assistant", "I am thinking."),
    ]
    assert model.answer(turns) == "The stock market fell sharply."


def test_no_conversation_has_no_answer(model: ExtractiveModel) -> None:
    assert model.answer([]) == ""
    assert model.answer([Turn("system", "Cats sleep.")]) == "Cats sleep."


@pytest.mark.parametrize(
    ("stop", "expected"),
    [
        ((), ("one two three", False)),
        (("two",), ("one ", True)),
        (("three", "two"), ("one ", True)),
        (("one",), ("", True)),
        (("four", ""), ("one two three", False)),
    ],
)
def test_the_first_stop_sequence_ends_a_text(stop: tuple[str, ...], expected: tuple[str, bool]) -> None:
    assert before_stop("one two three", stop) == expected
