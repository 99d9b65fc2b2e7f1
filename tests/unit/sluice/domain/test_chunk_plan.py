"""Chunks: every line in exactly one, and none more than a worker can take."""

from decimal import Decimal

import pytest

from sluice.domain.batch_lines import Line
from sluice.domain.batches import Chunk
from sluice.domain.bounds import Bound, of_chat, of_embedding
from sluice.domain.chunk_plan import ChunkLimits, ChunkPlan, LineWork, work_of
from sluice.domain.classification import ClassificationRequest, Label
from sluice.domain.inference import ChatRequest, EmbeddingRequest, Message
from sluice.domain.scoring import ScoreRequest

BATCH = "batch_" + "0" * 32
LIMITS = ChunkLimits(lines=4, seconds=10.0, input_bytes=1_000, output_bytes=500)
SMALL = LineWork(0.1, 10)


def planned(*lines: tuple[int, LineWork], limits: ChunkLimits = LIMITS, gap: int = 0) -> list[Chunk]:
    """The chunks of lines of these sizes and this work, each of them followed by ``gap`` bytes of blank lines."""
    plan, chunks, start = ChunkPlan(BATCH, limits), [], 0
    for index, (size, work) in enumerate(lines):
        number = 1 + index * (1 + gap)
        chunks.append(plan.add(Line(number, start, start + size, b"x"), work, held_micro_usd=Decimal("0.5")))
        start += size + gap
    chunks.append(plan.close())
    return [chunk for chunk in chunks if chunk is not None]


def shape(chunks: list[Chunk]) -> list[tuple[int, int, int, int, int]]:
    return [(chunk.number, chunk.start, chunk.end, chunk.first_line, chunk.lines) for chunk in chunks]


def test_a_chunk_is_full_with_so_many_lines() -> None:
    chunks = planned(*[(10, SMALL)] * 9)
    assert shape(chunks) == [(0, 0, 40, 1, 4), (1, 40, 80, 5, 4), (2, 80, 90, 9, 1)]
    assert [chunk.held_micro_usd for chunk in chunks] == [Decimal(2), Decimal(2), Decimal("0.5")]


def test_blank_lines_between_chunks_belong_to_none() -> None:
    assert shape(planned(*[(10, SMALL)] * 5, gap=2)) == [(0, 0, 46, 1, 4), (1, 48, 58, 13, 1)]


@pytest.mark.parametrize(
    ("size", "work"),
    [(10, LineWork(4.0, 10)), (400, SMALL), (10, LineWork(0.1, 200))],
    ids=["seconds", "bytes in", "bytes out"],
)
def test_a_chunk_is_full_with_so_much_work(size: int, work: LineWork) -> None:
    assert [chunk.lines for chunk in planned(*[(size, work)] * 5)] == [2, 2, 1]


def test_a_line_that_is_too_much_for_any_chunk_has_one_of_its_own() -> None:
    chunks = planned((10, SMALL), (5_000, LineWork(100.0, 9_999)), (10, SMALL))
    assert [chunk.lines for chunk in chunks] == [1, 1, 1]


def test_nothing_makes_no_chunk() -> None:
    assert planned() == []


def seconds(request: ChatRequest | EmbeddingRequest, *, inside: bool = False, at_once: int = 16) -> float:
    bound = of_chat(request) if isinstance(request, ChatRequest) else of_embedding(request)
    return work_of(request, bound, inside=inside, at_once=at_once).seconds


def chat(max_tokens: int | None = None, words: int = 10) -> ChatRequest:
    return ChatRequest(model="auto", messages=(Message("user", "word " * words),), max_tokens=max_tokens)


def test_dear_lines_make_small_chunks_and_cheap_ones_large_chunks() -> None:
    text = EmbeddingRequest(model="embed", inputs=("a short text",))
    inside, outside = seconds(text, inside=True), seconds(text)
    assert inside < 0.01
    assert inside * 20 < outside < seconds(chat(max_tokens=16)) < seconds(chat(max_tokens=200)) < seconds(chat())
    assert seconds(chat(words=10)) < seconds(chat(words=10_000))
    assert seconds(chat(), at_once=1) == pytest.approx(16 * seconds(chat(), at_once=16))


def test_what_comes_out_is_reckoned_by_what_was_asked_for() -> None:
    few, many = (EmbeddingRequest(model="embed", inputs=("text",) * count) for count in (1, 100))
    labels = tuple(Label(str(number)) for number in range(10))
    classify = ClassificationRequest(model="classify", inputs=("text",) * 100, labels=labels)
    rows = ScoreRequest(model="score", rows=[[0.0] * 50] * 1_000)
    out = [
        work_of(request, Bound(), inside=inside, at_once=1).output_bytes
        for request, inside in ((few, True), (few, False), (classify, False), (rows, True), (many, False))
    ]
    assert out == sorted(out)
    assert out[-1] > 100 * 20_000
    assert (
        work_of(rows, Bound(), inside=True, at_once=1).seconds > work_of(few, Bound(), inside=True, at_once=1).seconds
    )
