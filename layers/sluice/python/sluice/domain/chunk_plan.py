"""How a batch's lines are put together into chunks: so many that a worker ends well inside its time, and no more.

What a line will take is a guess, made of what can be told beforehand. A guess that is wrong does no harm: what a worker
does not get done in its time is left for the next one, and what it gets done sooner leaves room for the next chunk.
"""

from decimal import Decimal
from typing import Final

import msgspec

from sluice.domain.admission import EXACT
from sluice.domain.batch_lines import Line
from sluice.domain.batches import Chunk
from sluice.domain.bounds import Bound
from sluice.domain.classification import MAX_LABELS, ClassificationRequest
from sluice.domain.inference import ChatRequest, EmbeddingRequest
from sluice.domain.ledger import ZERO
from sluice.domain.scoring import ScoreRequest
from sluice.domain.strategies import TYPICAL_OUTPUT_TOKENS
from sluice.domain.tasks import TaskRequest

# A call of a provider: until it begins to answer, for what it reads, and for what it writes.
CALL_S: Final = 0.5
READ_S_PER_BYTE: Final = 0.000_02
WRITE_S_PER_TOKEN: Final = 0.02
# A line whose model is inside the function: nothing waits, but everything else takes its time as well.
INSIDE_S: Final = 0.000_4
INSIDE_S_PER_BYTE: Final = 0.000_001
INSIDE_S_PER_ROW: Final = 0.000_02
# What results come to as JSON: what is around them, a token of text, a label's or a row's score, a vector of a model
# inside or outside.
RESULT_BYTES: Final = 1_024
TOKEN_BYTES: Final = 6
SCORE_BYTES: Final = 64
INSIDE_VECTOR_BYTES: Final = 4_096
VECTOR_BYTES: Final = 32_768
# As much as a worker should have to read, and to write, for one chunk.
CHUNK_INPUT_BYTES: Final = 16_777_216
CHUNK_OUTPUT_BYTES: Final = 67_108_864


class LineWork(msgspec.Struct, frozen=True, gc=False):
    """What a line comes to: seconds of the worker, and bytes of its results."""

    seconds: float
    output_bytes: int


def work_of(request: TaskRequest, bound: Bound, *, inside: bool, at_once: int) -> LineWork:
    """The work of a line that comes to ``bound`` at most.

    ``inside`` says that its model runs within the function. Other models are waited for, ``at_once`` lines at a time.
    """
    output_tokens = min(bound.output_tokens, bound.calls * TYPICAL_OUTPUT_TOKENS)
    output_bytes = RESULT_BYTES + output_tokens * TOKEN_BYTES + _numbers_bytes(request, inside=inside)
    if inside:
        rows = len(request.rows) if isinstance(request, ScoreRequest) else 0
        seconds = INSIDE_S + bound.input_tokens * INSIDE_S_PER_BYTE + rows * INSIDE_S_PER_ROW
        return LineWork(seconds, output_bytes)
    seconds = bound.calls * CALL_S + bound.input_tokens * READ_S_PER_BYTE + output_tokens * WRITE_S_PER_TOKEN
    return LineWork(seconds / at_once, output_bytes)


def _numbers_bytes(request: TaskRequest, *, inside: bool) -> int:
    match request:
        case EmbeddingRequest():
            return len(request.inputs) * (INSIDE_VECTOR_BYTES if inside else VECTOR_BYTES)
        case ClassificationRequest():
            return len(request.inputs) * (len(request.labels) or MAX_LABELS) * SCORE_BYTES
        case ScoreRequest():
            return len(request.rows) * SCORE_BYTES
        case ChatRequest():
            return 0


class ChunkLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How much a chunk holds; of a line that is too much for any, just that one."""

    lines: int
    seconds: float
    input_bytes: int = CHUNK_INPUT_BYTES
    output_bytes: int = CHUNK_OUTPUT_BYTES


class OpenChunk(msgspec.Struct, frozen=True, kw_only=True):
    """The chunk that is being filled."""

    start: int
    end: int
    first_line: int
    lines: int
    seconds: float
    output_bytes: int
    held_micro_usd: Decimal


class ChunkPlan:
    """Puts lines into chunks, one after the other. ``planned`` chunks are closed; the ``open`` one comes after them."""

    def __init__(
        self, batch_id: str, limits: ChunkLimits, *, planned: int = 0, opened: OpenChunk | None = None
    ) -> None:
        self._batch_id = batch_id
        self._limits = limits
        self.planned = planned
        self.opened = opened

    def add(self, line: Line, work: LineWork, *, held_micro_usd: Decimal) -> Chunk | None:
        """Put a line into the open chunk; or into a new one, and then the full one is closed."""
        opened = self.opened
        if opened is None:
            self.opened = _begun(line, work, held_micro_usd)
            return None
        grown = OpenChunk(
            start=opened.start,
            end=line.end,
            first_line=opened.first_line,
            lines=opened.lines + 1,
            seconds=opened.seconds + work.seconds,
            output_bytes=opened.output_bytes + work.output_bytes,
            held_micro_usd=EXACT.add(opened.held_micro_usd, held_micro_usd),
        )
        if self._holds(grown):
            self.opened = grown
            return None
        closed = self.close()
        self.opened = _begun(line, work, held_micro_usd)
        return closed

    def close(self) -> Chunk | None:
        """The chunk that was open, if any was."""
        if self.opened is None:
            return None
        chunk = Chunk(
            batch_id=self._batch_id,
            number=self.planned,
            start=self.opened.start,
            end=self.opened.end,
            first_line=self.opened.first_line,
            lines=self.opened.lines,
            held_micro_usd=self.opened.held_micro_usd,
        )
        self.opened, self.planned = None, self.planned + 1
        return chunk

    def _holds(self, chunk: OpenChunk) -> bool:
        limits = self._limits
        return (
            chunk.lines <= limits.lines
            and chunk.seconds <= limits.seconds
            and chunk.end - chunk.start <= limits.input_bytes
            and chunk.output_bytes <= limits.output_bytes
        )


def _begun(line: Line, work: LineWork, held_micro_usd: Decimal) -> OpenChunk:
    return OpenChunk(
        start=line.start,
        end=line.end,
        first_line=line.number,
        lines=1,
        seconds=work.seconds,
        output_bytes=work.output_bytes,
        held_micro_usd=EXACT.add(ZERO, held_micro_usd),
    )
