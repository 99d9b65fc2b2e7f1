"""The lines of the batch, and what the right answer to each is. Both follow from the line's number alone."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

__all__ = ["ENDPOINT", "custom_id", "number_of", "text", "write"]

ENDPOINT = "/v1/embeddings"

_PREFIX = "line-"
_WORDS = (
    *("river", "stone", "market", "signal", "garden", "winter", "bridge", "paper", "engine", "harbour", "letter"),
    *("mountain", "window", "copper", "forest", "kitchen", "teacher", "music", "velvet", "planet", "courage", "ladder"),
    *("pocket", "thunder", "village", "whisper", "yellow", "basket", "candle", "dragon", "échelle", "Straße", "naïve"),
    *("東京", "дом", "🙂"),
)


def custom_id(number: int) -> str:
    """The id of a line, counted from 0."""
    return f"{_PREFIX}{number:08}"


def number_of(identity: str) -> int | None:
    """The number of the line with this id, or None when no line has it."""
    digits = identity.removeprefix(_PREFIX)
    number = int(digits) if digits.isdecimal() else None
    return number if number is not None and custom_id(number) == identity else None


def text(number: int) -> str:
    """What the line embeds: six to eighteen words, and its number, so that no two lines have the same vector."""
    chance = random.Random(number)
    return " ".join((*chance.choices(_WORDS, k=chance.randint(6, 18)), str(number)))


def texts(numbers: Sequence[int]) -> list[str]:
    """The texts of some lines."""
    return [text(number) for number in numbers]


def write(path: Path, count: int, model: str) -> int:
    """Write the input file; its size in bytes."""
    with path.open("wb") as file:
        file.writelines(_lines(count, model))
    return path.stat().st_size


def _lines(count: int, model: str) -> Iterator[bytes]:
    encoder = msgspec.json.Encoder()
    for number in range(count):
        body = {"model": model, "input": text(number)}
        line = {"custom_id": custom_id(number), "method": "POST", "url": ENDPOINT, "body": body}
        yield encoder.encode(line) + b"\n"
