"""Reading a prompt: which task it sets, and which of its sentences are material, question or instruction.

Patterns over English prompts. They choose what is compared; what is answered is decided by the
embeddings in ``extractive.py``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from local.models.text import sentences, words

_ANY_CASE = re.IGNORECASE

_SUMMARISE = re.compile(
    r"\b(summar(?:y|ies|i[sz]e[sd]?|i[sz]ing)|tl;?dr|key points?|main points?|gist|condense|shorten|in brief)\b",
    _ANY_CASE,
)
_CLASSIFY = re.compile(
    r"\b(classif(?:y|ies|ication)|categori[sz]e|categor(?:y|ies)|labels?|sentiment|"
    r"which (?:class|department|team|topic))\b",
    _ANY_CASE,
)
_NUMBER_WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_NUMBERS = {word: number for number, word in enumerate(_NUMBER_WORDS, 1)}
_ANY_NUMBER = "|".join(_NUMBER_WORDS)
_SENTENCE_COUNT = re.compile(
    rf"\b(\d{{1,2}}|{_ANY_NUMBER})\s+(?:short\s+|key\s+|main\s+)?(?:sentence|bullet|point|line)", _ANY_CASE
)
# Where a list of labels starts, the surest cue first.
_LABEL_CUES = (
    re.compile(r"(?:labels|categories|classes|options|topics|one of[^:\n.]{,40})(?: are)?\s*:\s*([^\n.;]+)", _ANY_CASE),
    re.compile(r"\b(?:as|into|one of|either|between)\s+(?:either\s+|one of\s+)?([^:\n.;?]+)", _ANY_CASE),
    re.compile(r"\b((?:[\w-]+,\s+)*[\w-]+,?\s+or\s+[\w-]+)\b", _ANY_CASE),
)
_LABEL_BREAK = re.compile(r"\s*(?:,\s*(?:or|and)\b|,|/|\||\bor\b|\band\b)\s*")
_LABEL_QUOTES = " \t\"'`[](){}*:"
_LABEL_WORDS = 5
_REQUEST = re.compile(
    r"^(?:please\s+)?(?:tell|explain|describe|list|find|give|name|show|state|say|answer|identify|extract|quote)\b",
    _ANY_CASE,
)
# What a prompt tells the model about itself is never an answer to the user.
_INSTRUCTION = re.compile(
    r"^(?:you are|you're|you will|answer|reply|respond|use only|do not|don't|be (?:brief|concise)|please|always|never|"
    r"based on the|given the|read the|use the following)\b",
    _ANY_CASE,
)

_JSON = re.compile(r"\b(?:answer|reply|respond|return|output|give|produce|write)\b[^.\n]{0,40}\bjson\b", _ANY_CASE)

_TIME = re.compile(
    r"\b(?:1\d{3}|20\d{2}|\d{1,2}(?::\d{2})?\s*(?:am|pm|o'clock)|(?:mon|tues|wednes|thurs|fri|satur|sun)days?|"
    r"january|february|march|april|may|june|july|august|september|october|november|december|"
    rf"noon|midnight|morning|evening|yesterday|today|tomorrow|at (?:{_ANY_NUMBER}))\b",
    _ANY_CASE,
)
_MONEY = re.compile(r"[$€£¥]|\b(?:euros?|dollars?|pounds?|cents?|usd|eur|free|costs?|prices?|fees?|paid)\b", _ANY_CASE)
_NUMBER = re.compile(rf"\d|\b(?:{_ANY_NUMBER}|hundred|thousand|million)\b", _ANY_CASE)
_NAME = re.compile(r"(?<=\w\s)[A-Z]\w+|[A-Z]\w+\s+[A-Z]\w+")
_PLACE = re.compile(r"\b(?:in|at|on|near|from|inside|behind|beside|under)\s+(?:the\s+)?\w+")
_CAUSE = re.compile(r"\b(?:because|due to|since|so that|owing to|caused|as a result|to avoid|in order)\b", _ANY_CASE)
# What a question asks for, and what a sentence that has it looks like.
_EXPECTED = (
    (re.compile(r"\bwhen\b|\b(?:what|which) (?:time|year|date|day|month)\b", _ANY_CASE), _TIME),
    (re.compile(r"\bhow much\b|\bcosts?\b|\bprice\b|\bfees?\b|\bfare\b", _ANY_CASE), _MONEY),
    (re.compile(r"\bhow (?:many|tall|long|old|far|high|fast|deep|wide|heavy|big|often)\b", _ANY_CASE), _NUMBER),
    (re.compile(r"\bwho(?:se|m)?\b", _ANY_CASE), _NAME),
    (re.compile(r"\bwhere\b", _ANY_CASE), _PLACE),
    (re.compile(r"\bwhy\b", _ANY_CASE), _CAUSE),
)


@dataclass(frozen=True)
class Classification:
    """Labels as the prompt spells them, and what else it says: usually the text to classify."""

    labels: list[str]
    rest: str


@dataclass(frozen=True)
class Summary:
    """The text to summarise, if the prompt holds it, and how many sentences it wants, if it says so."""

    text: list[str]
    count: int | None


def classification(prompt: str) -> Classification | None:
    """The labels a prompt offers; ``None`` when it does not ask to classify or offers fewer than two."""
    if not _CLASSIFY.search(prompt):
        return None
    for cue in _LABEL_CUES:
        for match in cue.finditer(prompt):
            parts = (part.strip(_LABEL_QUOTES) for part in _LABEL_BREAK.split(match[1]))
            labels = [part for part in parts if part]
            if len(labels) > 1 and all(len(label.split()) <= _LABEL_WORDS for label in labels):
                return Classification(labels, _besides(prompt, match))
    return None


def summary(prompt: str) -> Summary | None:
    """What a prompt wants summarised; ``None`` when it does not ask for a summary."""
    if not _SUMMARISE.search(prompt):
        return None
    text: list[str] = []
    asked: list[str] = []
    for sentence in sentences(prompt):
        if not _SUMMARISE.search(sentence):
            text.append(sentence)
            continue
        # "Summarise this: Cats sleep a lot." is both at once.
        request, _, tail = sentence.partition(":")
        asked.append(request)
        if len(words(tail)) > 2:
            text.append(tail.strip())
    return Summary([s for s in text if not _INSTRUCTION.match(s)], _sentence_count(" ".join(asked)))


def question(own: Sequence[str]) -> str | None:
    """What a message asks: its last question, else its last request, else itself if it is one sentence."""
    asked = [s for s in own if s.endswith("?")] or [s for s in own if _REQUEST.match(s)]
    if asked:
        return asked[-1]
    return own[0] if len(own) == 1 else None


def wants_json(prompts: Sequence[str]) -> bool:
    """Whether any of these asks for the answer to be a JSON object."""
    return any(_JSON.search(prompt) for prompt in prompts)


def statements(pool: Sequence[str], besides: str | None = None) -> list[str]:
    """Sentences that can be an answer: no questions, no instructions to the model, no repeats."""
    unique = [s for s in dict.fromkeys(pool) if s != besides and not s.endswith("?")]
    return [s for s in unique if not _INSTRUCTION.match(s)] or unique


def fits_kind(asked: str, candidate: str) -> bool:
    """Whether ``candidate`` has what the question asks for: a time, an amount, a name, a place, a reason."""
    return next((bool(answer.search(candidate)) for cue, answer in _EXPECTED if cue.search(asked)), False)


def _besides(prompt: str, match: re.Match[str]) -> str:
    """What a prompt says besides naming its task and labels."""
    before = [s for s in sentences(prompt[: match.start()]) if not _CLASSIFY.search(s)]
    after = [s for s in sentences(prompt[match.end() :].lstrip(" \t\n.:;?")) if not _CLASSIFY.match(s)]
    return " ".join(s for s in [*before, *after] if not _INSTRUCTION.match(s))


def _sentence_count(request: str) -> int | None:
    match = _SENTENCE_COUNT.search(request)
    if not match:
        return None
    word = match[1].lower()
    return max(1, _NUMBERS.get(word) or int(word))
