"""Plain-text tools of the extractive model: sentences and content words."""

from __future__ import annotations

import re

# "Dr" or an initial before a full stop: the sentence goes on.
_ABBREVIATION = re.compile(
    r"mr|mrs|ms|dr|prof|sr|jr|st|vs|etc|approx|no|fig|inc|ltd|co|e\.g|i\.e|u\.s|u\.k|[ap]\.m|[a-z]"
)
_BREAK = re.compile(r"(?<=[.!?…])[\"')\]]*\s+(?=[^\s])")
_BULLET = re.compile(r"^\s*(?:[-*•#>]+|\d{1,3}[.)])\s+")
# "Context:" and the like announce what follows and are no part of it.
_ANNOUNCEMENT = re.compile(
    r"^(?:context|document|text|passage|article|background|notes?|input|question|q|answer|ticket|message|email)"
    r"\s*:\s*",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W_]+(?:['\u2019.-][^\W_]+)*")

STOP_WORDS = frozenset(
    _WORD.findall(
        """
        a about an and any are as at be been being but by can could did do does doing done down for from had has have
        having he her hers him his how i if in into is it its itself just let many me much my no nor not of off on once
        only or our ours out over own please s same shall she should so some such t than that the their theirs them
        then there these they this those through to too under until up very was we were what when where which while who
        whom whose why will with would you your yours tell give say explain describe know
        """
    )
)


def sentences(text: str) -> list[str]:
    """The sentences of ``text`` in order: line breaks and bullets also end one."""
    found: list[str] = []
    for line in text.splitlines():
        plain = _ANNOUNCEMENT.sub("", _BULLET.sub("", line)).strip()
        if plain:
            found.extend(_split(plain))
    return found


def words(text: str) -> list[str]:
    """Lower-cased words of ``text``, in order."""
    return [word.lower() for word in _WORD.findall(text)]


def content_words(text: str) -> list[str]:
    """The words that carry meaning; all words when every one is a stop word."""
    every = words(text)
    return [word for word in every if word not in STOP_WORDS] or every


def _split(line: str) -> list[str]:
    parts: list[str] = []
    start = 0
    for gap in _BREAK.finditer(line):
        last = line[start : gap.start()].rsplit(maxsplit=1)[-1].lower().rstrip(".").lstrip("(\"'")
        if line[gap.start() - 1] == "." and _ABBREVIATION.fullmatch(last):
            continue
        parts.append(line[start : gap.end()].strip())
        start = gap.end()
    parts.append(line[start:].strip())
    return [part for part in parts if part]
