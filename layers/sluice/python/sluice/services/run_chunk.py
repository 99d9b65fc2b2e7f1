"""Work on the chunks of batches: every line gets its result exactly once, however often a chunk's message comes.

An attempt at a chunk
---------------------
It claims the chunk, reads its lines, runs those that have no result yet, puts what came of them into objects of its
own, and then records these in the one transaction that makes them part of the batch. Killed before that, it has written
objects that nobody will ever read; killed after it, the next delivery finds the chunk ended and sends on what is left
to send. A claim is a short lease that is renewed while lines are run, so a killed worker's chunk is soon another's; and
it is fenced, so of two workers that believe they have the chunk one is refused.

What it keeps in memory is bounded: the lines of a chunk, and results up to ``part_bytes``. More than that is recorded
as a part, and the chunk claimed anew.

The pace
--------
A chunk has a slot at every model outside this function that its lines may ask, and one at every provider of these
(:mod:`sluice.services.pace_targets`); where there is none, its message comes again later. So it does where lines are
left that have to wait.

The end
-------
Whoever finds that no line is to be run any more (:attr:`~sluice.domain.batches.Batch.halted`), ends the chunk with what
is done. The lines of an expired batch all get an answer, an error. A missing input file, or a key that is not valid any
more, halts the batch.

A chunk at which one worker after the other was lost goes to the dead-letter queue: its lines may be what kills them.
After a redrive it is tried once more.
"""

import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Final, Protocol

import msgspec

from sluice.domain.batch_lines import LineRequest, requests_in
from sluice.domain.batches import (
    ENDED,
    Batch,
    BatchPointer,
    BatchStatus,
    Chunk,
    ChunkPointer,
    ChunkStatus,
    LineUse,
    Part,
    Recorded,
)
from sluice.domain.deadline import Deadline
from sluice.domain.deliveries import Delivery
from sluice.domain.errors import (
    AuthenticationError,
    CallerError,
    NotFoundError,
    SluiceError,
    StateConflictError,
    StateError,
)
from sluice.domain.inference import Caller
from sluice.domain.pace import holder_of
from sluice.domain.ports import BatchStore, Ledger, ObjectStore, RangeStore, RequestLog, RouteSource, WorkQueue
from sluice.services.chunk_funds import ChunkFunds
from sluice.services.chunk_log import ChunkLog, tell_operators
from sluice.services.chunk_units import ModelsBehind, units_of
from sluice.services.consume import Done, Later, Outcome
from sluice.services.key_holders import KeyHolders
from sluice.services.line_queue import Line, LineName, LineQueue
from sluice.services.pace_targets import PaceTargets
from sluice.services.part_results import PartForms, PartResults
from sluice.services.run_lines import Left, LineEndpoints, RunLines
from sluice.telemetry import logs

# A function that is killed at its timeout is so a little after its deadline.
LEASE_MARGIN_S: Final = 5
# Of its lease, after how much a worker says that it is still there.
RENEW_SHARE: Final = 1 / 3
# Lines for models inside this function are done in no time.
INSIDE_NEEDS_S: Final = 3.0
# Of the time for an attempt, what is kept for writing down what came of it.
WRITING_S: Final = 8.0
WRITING_SHARE: Final = 0.15
# How soon a cancelled batch is noticed, and a pause that another worker was told.
LOOK_S: Final = 2.0
# Whoever watches for chunks that nobody works on must see them come back before that.
LONGEST_WAIT_S: Final = 45
FAILED_WAIT_S: Final = 5
OVERTAKEN_S: Final = 5
# A chunk at which so many workers were lost, one after the other, may well be what kills them; and each may have made
# calls that a provider bills, and nobody has entered.
MOST_LOST: Final = 10
# The pointer of a chunk that was given out this long ago, and is still waiting, may have been lost.
RESEND_AFTER_S: Final = 20

INPUT_GONE: Final = "input_file_gone"
KEY_NOT_VALID: Final = "key_not_valid"
EXPIRED: Final = "batch_expired"
WORKERS_LOST: Final = "workers_lost"
EXPIRED_MESSAGE: Final = "This request could not be executed before the completion window expired."
_log = logs.get_logger()


class LineForm(Protocol):
    """How a line of the input is read."""

    def __call__(self, line: bytes, /) -> LineRequest:
        """What the line asks for. :raises InvalidRequestError: it cannot be read."""
        ...


class MakeEndpoints(Protocol):
    """Makes what answers the lines of one attempt."""

    def __call__(self, batch: Batch, log: RequestLog, ledger: Ledger, /) -> LineEndpoints:
        """Endpoints that enter what they do into ``log``, and pay for it out of ``ledger``."""
        ...


class ChunkSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``line_concurrency``: lines at once. ``tries_here``: runs of a line that fails, in one attempt.

    ``line_tries``: attempts that may leave a line that failed by itself; the last of them gives it an error.
    ``start_needs_s``: the time that a line should have, at least. ``lease_s``: how long nobody else takes a chunk after
    its worker was last heard of. ``part_bytes``: results that are kept in memory.
    """

    line_concurrency: int
    tries_here: int
    line_tries: int
    start_needs_s: float
    lease_s: float
    part_bytes: int = 16 * 1024 * 1024


class _Lines(msgspec.Struct, kw_only=True):
    """The lines of a chunk that have no result yet: those that can be run, and those that never could."""

    runnable: list[Line]
    wrong: list[tuple[LineName, CallerError]]


class RunChunk:
    """Works on one chunk at a time. Pointers to chunks go to ``chunks``, drained batches to ``assembly``."""

    def __init__(  # noqa: PLR0913 - ports, and the clock, which only tests replace
        self,
        *,
        batches: BatchStore,
        ranges: RangeStore,
        objects: ObjectStore,
        holders: KeyHolders,
        routes: RouteSource,
        pace: PaceTargets,
        endpoints: MakeEndpoints,
        read_line: LineForm,
        forms: PartForms,
        chunks: WorkQueue[ChunkPointer],
        assembly: WorkQueue[BatchPointer],
        settings: ChunkSettings,
        clock: Callable[[], float] = time.time,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._batches = batches
        self._ranges = ranges
        self._objects = objects
        self._holders = holders
        self._routes = routes
        self._pace = pace
        self._endpoints = endpoints
        self._read_line = read_line
        self._forms = forms
        self._chunks = chunks
        self._assembly = assembly
        self._settings = settings
        self._clock = clock
        self._jitter = jitter

    def work(self, delivery: Delivery[ChunkPointer], deadline: Deadline) -> Outcome[ChunkPointer]:
        """Do what the delivery's chunk needs, as far as ``deadline`` allows.

        :raises LeasedError: another worker has it.
        :raises SluiceError: it could not be done; nothing is half done.
        """
        start_needs_s = min(self._settings.start_needs_s, deadline.remaining_s() / 2)
        recorded = False
        while True:
            claimed = self._claimed(delivery.pointer, deadline)
            if claimed is None:
                return Done()
            attempt = _Attempt(
                *claimed,
                renew_at=self._clock() + self._settings.lease_s * RENEW_SHARE,
                trusted=delivery.pointer.redriven and delivery.tries == 1,
            )
            wait_s = self._attempted(attempt, deadline, start_needs_s)
            if wait_s is None:
                return Done()
            recorded = recorded or attempt.recorded
            if not attempt.is_full or deadline.remaining_s() < start_needs_s:
                again = delivery.waited(got_on=recorded)
                return Later(min(math.ceil(wait_s), LONGEST_WAIT_S), instead=again)

    def give_up(self, delivery: Delivery[ChunkPointer]) -> None:
        """Mark the chunk as one that only a redrive goes on with."""
        pointer = delivery.pointer
        self._batches.park_chunk(pointer.batch_id, pointer.chunk, now=int(self._clock()))

    def _claimed(self, pointer: ChunkPointer, deadline: Deadline) -> tuple[Batch, Chunk] | None:
        """The chunk, if there is something to do; what its end has brought about is sent on if there is not."""
        now = self._clock()
        lease_until = math.ceil(now + min(self._settings.lease_s, deadline.remaining_s() + LEASE_MARGIN_S))
        claimed = self._batches.claim_chunk(pointer.batch_id, pointer.chunk, now=int(now), lease_until=lease_until)
        if claimed is None:
            logs.canonical(claim="settled")
            self._send_on(self._unsent(pointer))
        return claimed

    def _unsent(self, pointer: ChunkPointer) -> Recorded:
        """What the end of a chunk has brought about, as far as it seems that nobody has sent it on.

        Were every message that comes twice to send another two, there would be millions at the end of a lane.
        """
        recorded = self._batches.end_of(pointer.batch_id, pointer.chunk)
        following, now = recorded.released, int(self._clock())
        if following is None or self._batches.nudge(recorded.batch.id, following, now=now, untouched_s=RESEND_AFTER_S):
            return recorded
        return msgspec.structs.replace(recorded, released=None)

    def _attempted(self, attempt: "_Attempt", deadline: Deadline, start_needs_s: float) -> float | None:
        """Seconds until the chunk is worth another attempt, 0 for at once; ``None``: it has ended."""
        chunk = attempt.chunk
        logs.canonical(claim="claimed", attempt=chunk.attempts, tries=chunk.tries)
        try:
            return self._attempt(attempt, deadline, start_needs_s)
        except StateConflictError:
            # This one's lease ran out, and another has taken over, whose message will see to the rest.
            logs.canonical(taken_over=True)
            return OVERTAKEN_S
        except Exception:
            self._let_go(chunk)
            raise

    def _attempt(self, attempt: "_Attempt", deadline: Deadline, start_needs_s: float) -> float | None:
        over = self._is_over(attempt)
        if not over and attempt.chunk.lost >= MOST_LOST and not attempt.trusted:
            raise _workers_lost()
        caller = None if over else self._caller(attempt)
        content = None if caller is None else self._content(attempt)
        if caller is None or content is None:
            self._end(attempt)
            return None
        endpoints = self._endpoints(attempt.batch, attempt.log, attempt.funds)
        lines = self._lines(attempt, endpoints, content)
        models = ModelsBehind(self._routes.load(), caller.allowed_models)
        tasks = [line.task for line in lines.runnable]
        names, providers = models.outside(tasks), models.providers(tasks)
        holder = holder_of(f"{attempt.batch.id}/{attempt.chunk.number}", attempt.chunk.attempts)
        until = math.ceil(self._clock() + deadline.remaining_s())
        wait_s = self._pace.enter(names, holder, until=until, providers=providers)
        if wait_s is not None:
            logs.canonical(no_slot=True)
            self._batches.put_chunk_back(attempt.chunk, now=int(self._clock()))
            return wait_s
        clean = False
        try:
            run = self._prepared(attempt, lines, endpoints, models, caller, deadline, start_needs_s)
            run.run(
                concurrency=self._settings.line_concurrency,
                look=lambda: self._goes_on(attempt, names),
                look_every_s=LOOK_S,
            )
            clean = not run.left.throttled
        finally:
            self._pace.leave([*names, *providers], holder, clean=clean)
        return self._recorded(attempt, run.left)

    def _is_over(self, attempt: "_Attempt") -> bool:
        """Whether no line is to be run: halted, or just now found to have expired."""
        batch = attempt.batch
        if batch.halted is None and self._clock() >= batch.expires_at:
            self._halt(attempt, BatchStatus.EXPIRED.value)
        return attempt.batch.halted is not None

    def _caller(self, attempt: "_Attempt") -> Caller | None:
        try:
            return self._holders.caller(attempt.batch.key_id, attempt.batch.id)
        except AuthenticationError as error:
            logs.canonical(**logs.describe(error))
            self._halt(attempt, KEY_NOT_VALID)
            return None

    def _content(self, attempt: "_Attempt") -> bytes | None:
        chunk = attempt.chunk
        try:
            content = self._ranges.read_range(attempt.batch.input_key, chunk.start, chunk.end)
        except NotFoundError as error:
            logs.canonical(**logs.describe(error))
            self._halt(attempt, INPUT_GONE)
            return None
        if len(content) != chunk.end - chunk.start:
            raise StateError("The input file is shorter than it was.", code="input_file_changed")
        return content

    def _halt(self, attempt: "_Attempt", reason: str) -> None:
        attempt.batch = self._batches.halt(attempt.batch.id, reason, now=int(self._clock()))

    def _lines(self, attempt: "_Attempt", endpoints: LineEndpoints, content: bytes) -> _Lines:
        found = _Lines(runnable=[], wrong=[])
        for place, number, raw in _unfinished(attempt.chunk, content):
            name = LineName(place=place, number=number, custom_id="")
            try:
                request = self._read_line(raw)
                name = msgspec.structs.replace(name, custom_id=request.custom_id)
                task = endpoints.parse(request.url, request.body)
            except CallerError as error:
                # The splitter has let it pass, so what is allowed has changed since.
                found.wrong.append((name, error))
                continue
            line = Line(place=place, number=number, custom_id=request.custom_id, task=task)
            found.runnable.append(line)
        return found

    def _prepared(
        self,
        attempt: "_Attempt",
        lines: _Lines,
        endpoints: LineEndpoints,
        models: ModelsBehind,
        caller: Caller,
        deadline: Deadline,
        start_needs_s: float,
    ) -> RunLines:
        settings = self._settings
        attempt.results = results = PartResults(attempt.batch, self._forms, most_bytes=settings.part_bytes)
        for name, error in lines.wrong:
            results.failed(name, error)
        left_s = deadline.remaining_s()
        run_s = left_s - min(WRITING_S, left_s * WRITING_SHARE)
        inside = not models.outside([line.task for line in lines.runnable])
        needs_s = min(start_needs_s, INSIDE_NEEDS_S) if inside else start_needs_s
        attempt.queue = LineQueue(
            units_of(lines.runnable, models),
            most=lambda unit: models.most_at_once(unit, settings.line_concurrency),
            start_by=time.monotonic() + max(run_s - needs_s, 0.0),
        )
        return RunLines(
            attempt.queue,
            endpoints=endpoints,
            results=results,
            log=attempt.log,
            caller=caller,
            request_id=lambda line: self._forms.request_id(attempt.batch.id, line.number),
            deadline=Deadline.after(run_s),
            tries_here=settings.tries_here,
            last=attempt.chunk.tries + 1 >= settings.line_tries,
            jitter=self._jitter,
        )

    def _goes_on(self, attempt: "_Attempt", names: Sequence[str]) -> bool:
        """Whether lines are still to be run. Nobody knows better while the table does not answer.

        :raises StateConflictError: another worker has taken the chunk over.
        """
        try:
            self._renew(attempt)
            self._pace.look(names)
            batch = self._batches.get(attempt.batch.id)
            if batch is not None:
                attempt.batch = batch
            return not self._is_over(attempt)
        except StateConflictError:
            raise
        except SluiceError as error:
            _log.warning("batch_not_looked_at", **logs.describe(error))
            return True

    def _renew(self, attempt: "_Attempt") -> None:
        now = self._clock()
        if now >= attempt.renew_at:
            lease_s = self._settings.lease_s
            self._batches.renew_chunk(attempt.chunk, now=int(now), lease_until=math.ceil(now + lease_s))
            attempt.renew_at = now + lease_s * RENEW_SHARE

    def _recorded(self, attempt: "_Attempt", left: Left) -> float | None:
        """Write down what was done. Seconds until the rest is worth another attempt, ``None`` when there is no rest."""
        if self._is_over(attempt):
            self._end(attempt)
            return None
        ended = attempt.missing == 0
        chunk = msgspec.structs.replace(attempt.chunk, tries=attempt.chunk.tries + left.failed)
        if ended or left.failed or attempt.has_something:
            self._write(attempt, chunk, ended=ended)
        else:
            self._batches.put_chunk_back(chunk, now=int(self._clock()))
        if ended:
            return None
        if left.broken is not None:
            raise left.broken
        wait_s = attempt.queue.wait_s() if attempt.queue else None
        if wait_s is None:
            # All that is left has failed too often for one attempt.
            return FAILED_WAIT_S
        return wait_s

    def _end(self, attempt: "_Attempt") -> None:
        """End a chunk of which no further line is to be run."""
        if attempt.batch.halted == BatchStatus.EXPIRED:
            self._answer_expired(attempt)
        self._write(attempt, attempt.chunk, ended=True)

    def _answer_expired(self, attempt: "_Attempt") -> None:
        """Every line that was not run in time gets an error that says so."""
        results = attempt.results or PartResults(attempt.batch, self._forms, most_bytes=self._settings.part_bytes)
        attempt.results = results
        content = self._content(attempt)
        if content is None:
            # Nobody can tell any more which lines there were.
            return
        for place, number, raw in _unfinished(attempt.chunk, content):
            if results.has(place):
                continue
            try:
                custom_id = self._read_line(raw).custom_id
            except CallerError:
                custom_id = ""
            name = LineName(place=place, number=number, custom_id=custom_id)
            results.unanswered(name, code=EXPIRED, message=EXPIRED_MESSAGE)

    def _write(self, attempt: "_Attempt", chunk: Chunk, *, ended: bool) -> None:
        """Objects first, then the transaction: what it names is there."""
        results, log = attempt.results, attempt.log
        part = self._put(attempt) if results is not None else None
        cost = log.cost_micro_usd
        use = LineUse(
            completed=results.completed if results else 0,
            failed=results.errors if results else 0,
            usage=log.usage,
            cost_micro_usd=cost,
            # A chunk under way keeps what its lines have not used: it may be needed for those that are left.
            released_micro_usd=chunk.held_micro_usd if ended else min(cost, chunk.held_micro_usd),
        )
        entries = log.entries(f"{chunk.batch_id}-{chunk.number}-{chunk.attempts}", attempt.batch.key_id)
        wanted = msgspec.structs.replace(
            chunk,
            status=ChunkStatus.ENDED if ended else ChunkStatus.PENDING,
            done=_with(chunk, results.places if results else ()),
        )
        recorded = self._batches.record(
            attempt.batch, wanted, part=part, use=use, entries=entries, now=int(self._clock())
        )
        attempt.recorded = True
        tell_operators(entries)
        _tell(use, missing=0 if ended else attempt.missing, ended=ended)
        self._send_on(recorded)

    def _put(self, attempt: "_Attempt") -> Part | None:
        batch, chunk, results = attempt.batch, attempt.chunk, attempt.results
        if results is None:
            return None
        place = f"{batch.folder}parts/{chunk.number:08d}-{chunk.attempts}"
        part = Part()
        if (output := results.output()) is not None:
            key = f"{place}.{results.suffix}"
            self._objects.put(key, output)
            part = msgspec.structs.replace(part, output_key=key, output_bytes=len(output))
        if (errors := results.error_lines()) is not None:
            key = f"{place}.errors.jsonl"
            self._objects.put(key, errors)
            part = msgspec.structs.replace(part, error_key=key, error_bytes=len(errors))
        return part if part != Part() else None

    def _send_on(self, recorded: Recorded) -> None:
        """What the end of a chunk brings about. Sent again by whoever finds it ended, which does no harm."""
        batch = recorded.batch
        if recorded.released is not None:
            self._chunks.send(ChunkPointer(batch_id=batch.id, chunk=recorded.released))
        if batch.is_drained and batch.status not in ENDED:
            self._batches.finalize(batch, now=int(self._clock()))
            self._assembly.send(BatchPointer(batch_id=batch.id))

    def _let_go(self, chunk: Chunk) -> None:
        """Let the next delivery have the chunk at once; if that fails, it waits for the lease to end."""
        try:
            self._batches.put_chunk_back(chunk, now=int(self._clock()))
        except SluiceError as error:
            _log.warning("chunk_not_put_back", **logs.describe(error))


class _Attempt:
    """One attempt at a chunk: what was claimed, and what has come of it so far. ``batch`` is as last seen.

    The lease is to be renewed at ``renew_at``, in epoch seconds. It is ``trusted`` if an operator says that the chunk
    can be worked on now, however many workers it has cost. It has ``recorded`` what came of it, or not (yet).
    """

    def __init__(self, batch: Batch, chunk: Chunk, *, renew_at: float, trusted: bool) -> None:
        self.batch = batch
        self.chunk = chunk
        self.renew_at = renew_at
        self.trusted = trusted
        self.recorded = False
        self.log = ChunkLog()
        self.funds = ChunkFunds(chunk.held_micro_usd)
        self.results: PartResults | None = None
        self.queue: LineQueue | None = None

    @property
    def is_full(self) -> bool:
        """Whether it ended because more results were not to be kept in memory."""
        return self.results is not None and self.results.full

    @property
    def has_something(self) -> bool:
        """Whether anything has come of it: results, or calls that were billed."""
        found = self.results is not None and bool(self.results.places)
        return found or self.log.usage is not None

    @property
    def missing(self) -> int:
        """Lines without a result."""
        found = self.results.completed + self.results.errors if self.results else 0
        return self.chunk.lines - self.chunk.completed - self.chunk.failed - found


def _workers_lost() -> StateError:
    message = (
        f"{MOST_LOST} workers were lost at this chunk, one after the other. Look for memory and timeouts in"
        " batch_worker's log; each redrive tries once more."
    )
    return StateError(message, code=WORKERS_LOST)


def _unfinished(chunk: Chunk, content: bytes) -> Iterator[tuple[int, int, bytes]]:
    """The lines that have no result: their place among the chunk's requests, their number in the file, their text."""
    places = 0
    for place, (number, raw) in enumerate(requests_in(content, first_line=chunk.first_line)):
        places += 1
        if not _is_done(chunk.done, place):
            yield place, number, raw
    if places != chunk.lines:
        raise StateError("The chunk has other lines than were planned.", code="input_file_changed")


def _is_done(done: bytes, place: int) -> bool:
    return place // 8 < len(done) and bool(done[place // 8] >> place % 8 & 1)


def _with(chunk: Chunk, places: Sequence[int]) -> bytes:
    """The chunk's bits, with those of ``places`` set."""
    if not places:
        return chunk.done
    bits = bytearray(chunk.done.ljust(math.ceil(chunk.lines / 8), b"\0"))
    for place in places:
        bits[place // 8] |= 1 << place % 8
    return bytes(bits)


def _tell(use: LineUse, *, missing: int, ended: bool) -> None:
    told: Mapping[str, int | Decimal | bool] = {
        "completed": use.completed,
        "failed": use.failed,
        "missing": missing,
        "ended": ended,
        "cost_micro_usd": use.cost_micro_usd,
    }
    logs.canonical(**told)
