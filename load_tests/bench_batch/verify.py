"""Reads a batch's output and holds every line against what it must be: there once, answered, with the right vector.

The vectors are reckoned again, by the code of the local model server, which shares none with the platform.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from load_tests.bench_batch.lines import custom_id, number_of, texts

__all__ = ["Check", "Row", "VectorsOf", "check", "jsonl_rows", "parquet_rows"]

_TOLERANCE = 1e-6
# Rows that are compared at once, and problems that are told.
_BLOCK = 2048
_TOLD = 10


class VectorsOf(Protocol):
    """What reckons the vectors (`local.models.embeddings.Embedder`)."""

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """A vector per text."""
        ...

    def count(self, text: str) -> int:
        """The tokens of a text."""
        ...


class Row(NamedTuple):
    """One line's answer: its id, its vector, its tokens (None: not told); or `problem`, when it is no answer."""

    identity: str
    vector: Sequence[float] = ()
    tokens: int | None = None
    problem: str | None = None


@dataclass
class Check:
    """What was found in so many `rows` of output. Nothing is wrong when there are no `problems`."""

    expected: int
    rows: int = 0
    wrong: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether every line is there once, with its own vector."""
        return self.wrong == 0 and self.rows == self.expected

    def blame(self, problem: str) -> None:
        """Count something that is wrong; the first few are told in words."""
        self.wrong += 1
        if len(self.problems) < _TOLD:
            self.problems.append(problem)


def check(rows: Iterable[Row], expected: int, model: VectorsOf) -> Check:
    """Hold the `rows` against the `expected` lines 0, 1, 2 and so on."""
    result = Check(expected)
    seen = bytearray(expected)
    for block in _blocks(rows):
        result.rows += len(block)
        answered = [row for row in block if _is_new(row, seen, result)]
        _compare(answered, model, result)
    for number in (at for at, mark in enumerate(seen) if not mark):
        result.blame(f"{custom_id(number)} is missing")
    return result


def _blocks(rows: Iterable[Row]) -> Iterator[list[Row]]:
    block: list[Row] = []
    for row in rows:
        block.append(row)
        if len(block) == _BLOCK:
            yield block
            block = []
    yield block


def _is_new(row: Row, seen: bytearray, result: Check) -> bool:
    number = number_of(row.identity)
    if number is None or number >= len(seen):
        result.blame(row.problem or f"{row.identity[:40]!r} was never asked")
        return False
    if seen[number]:
        result.blame(f"{row.identity} is there twice")
        return False
    seen[number] = 1
    if row.problem:
        result.blame(f"{row.identity}: {row.problem}")
    return row.problem is None


def _compare(rows: Sequence[Row], model: VectorsOf, result: Check) -> None:
    wanted = texts([number for row in rows if (number := number_of(row.identity)) is not None])
    vectors = model.embed(wanted)
    for row, wanted_text, vector in zip(rows, wanted, vectors, strict=True):
        if len(row.vector) != len(vector) or float(np.abs(vector - np.asarray(row.vector)).max()) > _TOLERANCE:
            result.blame(f"{row.identity} has another line's vector, or none")
        elif row.tokens is not None and row.tokens != model.count(wanted_text):
            result.blame(f"{row.identity}: {row.tokens} tokens")


class _Embedding(msgspec.Struct):
    embedding: tuple[float, ...]


class _Usage(msgspec.Struct):
    prompt_tokens: int


class _Body(msgspec.Struct):
    data: list[_Embedding]
    usage: _Usage


class _Response(msgspec.Struct):
    status_code: int
    request_id: str
    body: msgspec.Raw


class _Line(msgspec.Struct):
    id: str
    custom_id: str
    response: _Response | None
    error: Any


def jsonl_rows(blocks: Iterable[bytes]) -> Iterator[Row]:
    """The rows of an output file in JSON Lines, which comes in `blocks` cut anywhere."""
    decoder, bodies = msgspec.json.Decoder(_Line), msgspec.json.Decoder(_Body)
    return (_row(line, decoder, bodies) for line in _cut(blocks))


def _row(line: bytes, decoder: msgspec.json.Decoder[_Line], bodies: msgspec.json.Decoder[_Body]) -> Row:
    try:
        answer = decoder.decode(line)
        if answer.response is None or answer.response.status_code != 200 or answer.error is not None:
            return Row(answer.custom_id, problem=f"not answered: {line[:300].decode(errors='replace')}")
        body = bodies.decode(answer.response.body)
    except (msgspec.DecodeError, UnicodeDecodeError) as malformed:
        return Row("", problem=f"not OpenAI's format: {malformed}")
    if len(body.data) != 1:
        return Row(answer.custom_id, problem=f"{len(body.data)} vectors")
    return Row(answer.custom_id, body.data[0].embedding, body.usage.prompt_tokens)


def _cut(blocks: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for block in blocks:
        *lines, rest = (rest + block).split(b"\n")
        yield from lines
    if rest:
        yield rest


def parquet_rows(path: Path) -> Iterator[Row]:
    """The rows of an output file in Parquet."""
    from pyarrow import parquet

    file = parquet.ParquetFile(path, page_checksum_verification=True)
    for batch in file.iter_batches(_BLOCK):
        columns = [batch.column(name).to_pylist() for name in ("custom_id", "embedding", "prompt_tokens")]
        for identity, vector, tokens in zip(*columns, strict=True):
            yield Row(identity, vector, tokens)
