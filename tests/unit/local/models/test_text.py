"""Sentences, words, and what a prompt asks for."""

from __future__ import annotations

import pytest

from local.models import prompts
from local.models.text import content_words, sentences


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("Dr. Smith met J. Doe at 5 p.m. today. He left.", ["Dr. Smith met J. Doe at 5 p.m. today.", "He left."]),
        ("It costs 3.50 euros. Cheap.", ["It costs 3.50 euros.", "Cheap."]),
        ("- first point\n* second point\n3) third point", ["first point", "second point", "third point"]),
        ("Context: The sky is blue.\nQuestion: Why?", ["The sky is blue.", "Why?"]),
        ('He said "Stop." Then he left.', ['He said "Stop."', "Then he left."]),
        ("", []),
        (" \n\n ", []),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


def test_content_words_are_all_words_when_none_carries_meaning() -> None:
    assert content_words("What is the price of a bicycle?") == ["price", "bicycle"]
    assert content_words("What is it?") == ["what", "is", "it"]


@pytest.mark.parametrize(
    ("prompt", "labels", "rest"),
    [
        ("Classify this as positive or negative: Great!", ["positive", "negative"], "Great!"),
        ("Classify the text. Labels: a, b, and c\nSome text.", ["a", "b", "c"], "Some text."),
        ("Some text.\nWhich category fits: a, b or c?", ["a", "b", "c"], "Some text."),
        ('Categorize into one of: ["tech support", "sales"]\nText: Hi there.', ["tech support", "sales"], "Hi there."),
        ("Is the sentiment positive, neutral or negative? Great!", ["positive", "neutral", "negative"], "Great!"),
    ],
)
def test_a_request_to_classify_gives_labels_and_text(prompt: str, labels: list[str], rest: str) -> None:
    assert prompts.classification(prompt) == prompts.Classification(labels, rest)


@pytest.mark.parametrize("prompt", ["Is it red or blue?", "Classify this.", "What labels does the box have?"])
def test_other_prompts_are_no_request_to_classify(prompt: str) -> None:
    assert prompts.classification(prompt) is None


@pytest.mark.parametrize(
    ("prompt", "text", "count"),
    [
        ("Summarise in two sentences: Cats sleep a lot. Dogs bark.", ["Cats sleep a lot.", "Dogs bark."], 2),
        ("Cats sleep. Dogs bark.\nTL;DR", ["Cats sleep.", "Dogs bark."], None),
        ("Give me the key points in 3 bullets.\nCats sleep.", ["Cats sleep."], 3),
        ("Please write a summary.", [], None),
    ],
)
def test_a_request_to_summarise_gives_text_and_count(prompt: str, text: list[str], count: int | None) -> None:
    assert prompts.summary(prompt) == prompts.Summary(text, count)


def test_other_prompts_are_no_request_to_summarise() -> None:
    assert prompts.summary("What does the cat do?") is None


@pytest.mark.parametrize(
    ("own", "question"),
    [
        (["It is late.", "When is it?"], "When is it?"),
        (["The sky is blue.", "Describe the sky."], "Describe the sky."),
        (["One thing."], "One thing."),
        (["One thing.", "Another thing."], None),
        ([], None),
    ],
)
def test_the_question_of_a_message(own: list[str], question: str | None) -> None:
    assert prompts.question(own) == question


def test_statements_are_neither_questions_nor_instructions() -> None:
    pool = ["You are a helpful assistant.", "Who am I?", "The sky is blue.", "The sky is blue.", "Describe it."]
    assert prompts.statements(pool, besides="Describe it.") == ["The sky is blue."]
    assert prompts.statements(["You are late."]) == ["You are late."]


@pytest.mark.parametrize(
    ("question", "fits", "does_not"),
    [
        ("When did it open?", "It opened in 1889.", "It opened."),
        ("How many are there?", "There are twelve.", "There are some."),
        ("How much is it?", "It is five euros.", "It is five miles."),
        ("Who built it?", "It was built by Gustave.", "It was built."),
        ("Why is it closed?", "Closed because of rain.", "It is closed."),
        ("Where is it?", "It stands in Paris.", "It stands."),
    ],
)
def test_a_sentence_may_have_what_a_question_asks_for(question: str, fits: str, does_not: str) -> None:
    assert prompts.fits_kind(question, fits)
    assert not prompts.fits_kind(question, does_not)
