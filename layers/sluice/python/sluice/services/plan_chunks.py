"""One pass over a batch's input: every line is checked, and put into a chunk.

The pass can be left after any line and gone on with by somebody else: :meth:`ChunkPlanning.checkpoint` is all it knows.
"""

from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Final

import msgspec

from sluice.domain.admission import EXACT
from sluice.domain.batch_lines import Line, LineRequest, lines_of, requests_in
from sluice.domain.batches import MOST_REPORTED_ERRORS, Batch, BatchError, Chunk
from sluice.domain.chunk_plan import ChunkLimits, ChunkPlan, OpenChunk, work_of
from sluice.domain.custom_ids import REGION_BYTES, CustomIds, Region
from sluice.domain.errors import CallerError, InvalidRequestError
from sluice.domain.inference import Caller
from sluice.domain.ledger import ZERO
from sluice.domain.ports import Endpoints, RangeStore
from sluice.services.line_costs import LineCosts

METHOD: Final = "POST"
# A hundred errors have to fit into the batch's item, so what they quote is cut.
_LONGEST_QUOTE: Final = 64
_LONGEST_MESSAGE: Final = 400
_LONGEST_PARAM: Final = 100

ReadLine = Callable[[bytes], LineRequest]


class InputLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How much an input may have, and how much of it goes into a chunk.

    ``line_bytes`` is without the line feed. ``at_once`` is how many lines of a chunk a worker runs at the same time.
    """

    lines: int
    total_bytes: int
    line_bytes: int
    chunk: ChunkLimits
    at_once: int


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """How far a pass has come: up to the byte ``offset``, where line ``number`` begins.

    ``prints`` are the fingerprints since the checkpoint before; ``before`` are the keys of all checkpoints before, in
    order. ``faults`` counts the errors, of which ``errors`` are the first.
    """

    offset: int
    number: int
    lines: int
    planned: int
    opened: OpenChunk | None
    held_micro_usd: Decimal
    model: str | None
    mixed: bool
    faults: int
    errors: tuple[BatchError, ...]
    prints: bytes
    marks: tuple[bytes, bytes]
    before: tuple[str, ...] = ()


class TooManyLinesError(Exception):
    """The input has more lines than it may have; nothing after that is looked at."""


class ChunkPlanning:
    """The pass over the input of one ``batch`` that ``caller`` has submitted."""

    def __init__(
        self,
        batch: Batch,
        caller: Caller,
        *,
        ranges: RangeStore,
        endpoints: Endpoints,
        costs: LineCosts,
        read_line: ReadLine,
        limits: InputLimits,
    ) -> None:
        self._batch = batch
        self._caller = caller
        self._ranges = ranges
        self._endpoints = endpoints
        self._costs = costs
        self._read_line = read_line
        self._limits = limits
        self._ids = CustomIds(batch.id)
        self._plan = ChunkPlan(batch.id, limits.chunk)
        self._closed: list[Chunk] = []
        self._errors: list[BatchError] = []
        self._faults = 0
        self._offset, self._number = 0, 1
        self._saved_prints = 0
        self._before: tuple[str, ...] = ()
        self._mixed = False
        self.model: str | None = None
        self.lines = 0
        self.held_micro_usd = ZERO

    @property
    def chunks(self) -> int:
        """How many chunks are planned. After :meth:`finish` these are all."""
        return self._plan.planned

    @property
    def is_faulty(self) -> bool:
        """Whether anything is wrong with any line."""
        return self._faults > 0

    def errors(self) -> tuple[BatchError, ...]:
        """What is wrong: of more errors than are reported, the last says how many more there are."""
        if self._faults <= MOST_REPORTED_ERRORS:
            return tuple(self._errors)
        told = self._errors[: MOST_REPORTED_ERRORS - 1]
        message = f"{self._faults - len(told):,} more lines have errors."
        return (*told, BatchError(code="more_errors", message=message))

    def read(self, look: Callable[[], None]) -> None:
        """Read the rest of the input; ``look`` is called before every block of it, and may end the reading by an error.

        :raises NotFoundError: the input is gone.
        :raises TooManyLinesError: there are more lines than there may be; the last error says so.
        """
        lines = lines_of(self._blocks(look), longest=self._limits.line_bytes, start=self._offset, number=self._number)
        for line in lines:
            self._take(line)
            self._offset, self._number = line.end, line.number + 1

    def _blocks(self, look: Callable[[], None]) -> Iterator[bytes]:
        for block in self._ranges.stream(self._batch.input_key, start=self._offset):
            look()
            yield block

    def take_closed(self) -> Sequence[Chunk]:
        """The chunks that were closed since this was last asked."""
        closed, self._closed = self._closed, []
        return closed

    def finish(self) -> None:
        """Close the last chunk: no further line will come."""
        self._close(self._plan.close())

    def checkpoint(self) -> Checkpoint:
        """Everything that goes on from here needs, but the chunks that were closed."""
        return Checkpoint(
            offset=self._offset,
            number=self._number,
            lines=self.lines,
            planned=self._plan.planned,
            opened=self._plan.opened,
            held_micro_usd=self.held_micro_usd,
            model=self.model,
            mixed=self._mixed,
            faults=self._faults,
            errors=tuple(self._errors),
            prints=self._ids.saved(since=self._saved_prints),
            marks=self._ids.marks(),
            before=self._before,
        )

    def checkpointed(self, key: str) -> None:
        """The last checkpoint is kept under ``key``: the next one need not say again what it says."""
        self._saved_prints = len(self._ids)
        self._before = (*self._before, key)

    def restore(self, kept: Checkpoint, key: str, load: Callable[[str], Checkpoint]) -> None:
        """Go on from a checkpoint that is kept under ``key``; ``load`` gets those before it."""
        for earlier in kept.before:
            self._ids.restore(load(earlier).prints, kept.marks)
        self._ids.restore(kept.prints, kept.marks)
        self._plan = ChunkPlan(self._batch.id, self._limits.chunk, planned=kept.planned, opened=kept.opened)
        self._offset, self._number = kept.offset, kept.number
        self._faults, self._errors = kept.faults, list(kept.errors)
        self.lines, self.held_micro_usd = kept.lines, kept.held_micro_usd
        self.model, self._mixed = kept.model, kept.mixed
        self._before = kept.before
        self.checkpointed(key)

    def _take(self, line: Line) -> None:
        content = line.content
        if content is None:
            most = self._limits.line_bytes
            self._fault(line, "line_too_long", f"This line has {line.end - line.start:,} bytes; {most:,} are allowed.")
        elif content:
            self._count(line)
            self._check(line, content)

    def _count(self, line: Line) -> None:
        self.lines += 1
        most = self._limits.lines
        if self.lines > most:
            self._fault(line, "too_many_lines", f"A batch may have {most:,} lines here; this is one more.")
            raise TooManyLinesError

    def _check(self, line: Line, content: bytes) -> None:
        try:
            asked = self._read_line(content)
        except InvalidRequestError as error:
            self._blame(line, error, within="")
            return
        if self._is_duplicate(asked.custom_id, line) or self._is_misdirected(asked, line):
            return
        try:
            task = self._endpoints.parse(self._batch.endpoint, asked.body)
            cost = self._costs.of(task, self._caller)
        except CallerError as error:
            self._blame(line, error, within="body.")
            return
        if self.is_faulty:
            # None of it will be run: only what else is wrong still matters.
            return
        self.held_micro_usd = EXACT.add(self.held_micro_usd, cost.most_micro_usd)
        self._meet(task.model)
        work = work_of(task.request, cost.bound, inside=cost.inside, at_once=self._limits.at_once)
        self._close(self._plan.add(line, work, held_micro_usd=cost.most_micro_usd))

    def _meet(self, model: str) -> None:
        if self._mixed or model == self.model:
            return
        self._mixed = self.model is not None
        self.model = None if self._mixed else model

    def _close(self, chunk: Chunk | None) -> None:
        if chunk is not None:
            self._closed.append(chunk)

    def _is_duplicate(self, name: str, line: Line) -> bool:
        alike = self._ids.look_alikes(name, at=line.start)
        if alike and (self._is_full or any(self._has(region, name) for region in alike)):
            told = name if len(name) <= _LONGEST_QUOTE else f"{name[:_LONGEST_QUOTE]}…"
            message = f"The custom_id '{told}' is that of an earlier line already; it has to differ from line to line."
            self._fault(line, "duplicate_custom_id", message, "custom_id")
            return True
        self._ids.add(name, at=line.start)
        return False

    def _has(self, region: Region, name: str) -> bool:
        """Whether a line of the region has this very custom id."""
        # A line that is too long for any name may follow the last one of a region.
        end = min(region.end, region.start + REGION_BYTES + self._limits.line_bytes + 1)
        content = self._ranges.read_range(self._batch.input_key, region.start, end)
        return any(self._name_of(line) == name for _, line in requests_in(content, first_line=region.start + 1))

    def _name_of(self, content: bytes) -> str | None:
        try:
            return self._read_line(content).custom_id
        except InvalidRequestError:
            return None

    def _is_misdirected(self, asked: LineRequest, line: Line) -> bool:
        if asked.method != METHOD:
            self._fault(line, "invalid_method", f"The method of every line has to be '{METHOD}'.", "method")
            return True
        if asked.url != self._batch.endpoint:
            wanted = self._batch.endpoint.value
            self._fault(
                line, "invalid_url", f"The url of every line has to be the batch's endpoint, '{wanted}'.", "url"
            )
            return True
        return False

    @property
    def _is_full(self) -> bool:
        return self._faults >= MOST_REPORTED_ERRORS

    def _blame(self, line: Line, error: CallerError, *, within: str) -> None:
        param = f"{within}{error.param}" if error.param else None
        self._fault(line, error.code or "invalid_request", error.message, param)

    def _fault(self, line: Line, code: str, message: str, param: str | None = None) -> None:
        self._faults += 1
        if len(self._errors) < MOST_REPORTED_ERRORS:
            told = message[:_LONGEST_MESSAGE]
            self._errors.append(
                BatchError(code=code, message=told, line=line.number, param=param and param[:_LONGEST_PARAM])
            )
