"""The beginning of a batch: its whole input is checked, put into chunks, paid for in advance, and given out.

Whoever has claimed the batch holds it by a short lease that is renewed on the way. Every so often all that is known is
kept in a checkpoint, and the batch's note says where: whoever comes after a kill, or after this function's own time was
over, goes on from there. Nothing can be seen of any of it but the batch's state, until it begins or fails.

A batch that only what the key's requests and other batches hold keeps from its money waits for it; one that what is
spent leaves too little for has failed.
"""

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from sluice.domain.batches import (
    Batch,
    BatchEndpoint,
    BatchError,
    BatchPointer,
    BatchStatus,
    ChunkPointer,
    OutputFormat,
)
from sluice.domain.deadline import Clock, Deadline
from sluice.domain.deliveries import Delivery, Unreadable
from sluice.domain.errors import (
    AuthenticationError,
    BudgetExceededError,
    ConfigurationError,
    LeasedError,
    NotFoundError,
    StateConflictError,
    StateError,
)
from sluice.domain.inference import Caller
from sluice.domain.patience import passes
from sluice.domain.ports import BatchStore, Endpoints, ObjectStore, RangeStore, WorkQueue
from sluice.services.consume import Consumer, Done, Later, Outcome
from sluice.services.key_holders import KeyHolders
from sluice.services.line_costs import LineCosts
from sluice.services.plan_chunks import Checkpoint, ChunkPlanning, InputLimits, ReadLine, TooManyLinesError
from sluice.telemetry import logs

INPUT_GONE: Final = BatchError(
    code="input_file_gone", message="The input file was deleted, or has expired.", param="input_file_id"
)
# How often a splitter says that it is alive, and looks whether its work is still wanted; at least thrice a lease.
BEAT_S: Final = 2.0
CHECKPOINT_S: Final = 15.0
# It stops so long before its own time is over: to keep what it has, and to tell that it is to be gone on with.
STOPPING_S: Final = 10.0
# A batch that waits for money asks again after so long at most: before the watch takes it for lost.
LONGEST_WAIT_S: Final = 45
_CHECKPOINT: Final = "checkpoint"
_log = logs.get_logger()
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Checkpoint)


class _EndedError(Exception):
    """The batch ends here, with ``status``."""

    def __init__(self, status: BatchStatus, *errors: BatchError) -> None:
        super().__init__(status)
        self.status = status
        self.errors = errors


def _failed(code: str, message: str, param: str | None = None) -> _EndedError:
    return _EndedError(BatchStatus.FAILED, BatchError(code=code, message=message, param=param))


class _LaterError(Exception):
    """Another has to go on from the checkpoint, in ``wait_s`` seconds."""

    def __init__(self, wait_s: int) -> None:
        super().__init__(wait_s)
        self.wait_s = wait_s


@dataclass(frozen=True)
class SplitBatch:
    """Splits batches. ``lease_s`` is how long nobody else takes a batch after its splitter was last heard of."""

    batches: BatchStore
    ranges: RangeStore
    objects: ObjectStore
    endpoints: Endpoints
    holders: KeyHolders
    costs: LineCosts
    chunk_queue: WorkQueue[ChunkPointer]
    read_line: ReadLine
    limits: InputLimits
    lease_s: float
    consumer: Consumer[BatchPointer]
    clock: Callable[[], float] = time.time
    monotonic: Clock = time.monotonic
    jitter: Callable[[float, float], float] = random.uniform

    def run(self, deliveries: Sequence[Delivery[BatchPointer] | Unreadable], deadline: Deadline) -> list[str]:
        """The ids of the messages that the queue must keep: to deliver them again, or to move them to its DLQ."""

        def work(delivery: Delivery[BatchPointer], _: bool) -> Outcome[BatchPointer]:  # noqa: FBT001 - as Work has it
            logs.bind(batch_id=delivery.pointer.batch_id)
            wait_s = self.split(delivery.pointer.batch_id, deadline)
            # What was stopped had come further, and what waits for money has not failed: neither uses up an attempt.
            return Done() if wait_s is None else Later(wait_s, instead=delivery.waited())

        return self.consumer.run(deliveries, work, deadline, give_up=self.give_up)

    def give_up(self, delivery: Delivery[BatchPointer]) -> Done | None:
        """No attempt is left: a batch that has not begun waits for an operator.

        :raises LeasedError: another splitter is at work on it.
        """
        batch = self.batches.get(delivery.pointer.batch_id)
        if batch is None:
            raise _no_such_batch()
        if not _is_unsplit(batch):
            return Done()
        if batch.lease_until is not None and batch.lease_until > self.clock():
            raise LeasedError(lease_until=batch.lease_until)
        self.batches.park(batch.id, now=self._now())
        return None

    def split(self, batch_id: str, deadline: Deadline) -> int | None:
        """``None`` when nothing is left to do; else what was done is kept, to be gone on with in so many seconds.

        :raises LeasedError: another splitter is at work on it.
        """
        batch = self._claimed(batch_id)
        if batch is None:
            return None
        try:
            return self._attempt(batch, deadline)
        except Exception:
            self._let_go(batch)
            raise

    def _attempt(self, batch: Batch, deadline: Deadline) -> int | None:
        try:
            self._begin(batch, deadline)
        except _EndedError as end:
            self._end(batch, end.status, end.errors)
        except _LaterError as later:
            self.batches.unclaim(batch, now=self._now())
            return later.wait_s
        except StateConflictError:
            self._end_cancelled(batch)
        return None

    def _claimed(self, batch_id: str) -> Batch | None:
        """The batch, if there is anything to be done for it here."""
        batch = self.batches.get(batch_id)
        if batch is None:
            raise _no_such_batch()
        if not _is_unsplit(batch):
            self._give_out_again(batch)
            return None
        now = self.clock()
        wanted = (BatchStatus.VALIDATING, BatchStatus.CANCELLING)
        claimed = self.batches.claim(batch_id, wanted, now=int(now), lease_until=self._lease(now))
        if claimed is not None and not _is_unsplit(claimed):
            # Another has begun it meanwhile, and it was cancelled right then.
            self.batches.unclaim(claimed, now=int(now))
            return None
        return claimed

    def _begin(self, batch: Batch, deadline: Deadline) -> None:
        self._check_wanted(batch)
        caller = self._owner(batch)
        self._check_form(batch)
        reading = self._read(batch, caller, deadline)
        planning = reading.planning
        if planning.is_faulty:
            raise _EndedError(BatchStatus.FAILED, *planning.errors())
        if not planning.lines:
            raise _failed("empty_file", "The input file has no line with a request.")
        planned = msgspec.structs.replace(
            batch, chunks=planning.chunks, lines=planning.lines, model=planning.model, window=max(1, batch.window)
        )
        try:
            begun = self.batches.begin(
                planned, most_cost_micro_usd=planning.held_micro_usd, limits=caller.limits, now=self._now()
            )
        except BudgetExceededError as error:
            if passes(error):
                # Requests and other batches hold it, which may come back.
                logs.canonical(waits_for_money=True)
                reading.pause()
                raise _LaterError(math.ceil(self.jitter(LONGEST_WAIT_S / 3, LONGEST_WAIT_S))) from error
            message = f"{error.message} For a batch, the most that all its lines can come to is held at its beginning."
            raise _failed(error.code or "insufficient_quota", message) from error
        logs.canonical(lines=begun.lines, chunks=begun.chunks, held_micro_usd=begun.held_micro_usd)
        self._give_out(begun)

    def _give_out(self, batch: Batch) -> None:
        """Send the pointers of the first chunks; each of them brings the next one along when it ends."""
        self.chunk_queue.send_many([ChunkPointer(batch_id=batch.id, chunk=number) for number in range(batch.released)])

    def _give_out_again(self, batch: Batch) -> None:
        """A splitter that was killed once the batch had begun may not have told any worker."""
        if batch.status is BatchStatus.IN_PROGRESS and batch.ended == 0:
            logs.canonical(given_out_again=True)
            self._give_out(batch)

    # ---- What can be told without reading ----

    def _check_wanted(self, batch: Batch) -> None:
        if batch.halted == BatchStatus.CANCELLED or batch.status is BatchStatus.CANCELLING:
            raise _EndedError(BatchStatus.CANCELLED)
        if batch.halted == BatchStatus.EXPIRED or batch.expires_at <= self.clock():
            raise _EndedError(BatchStatus.EXPIRED)

    def _owner(self, batch: Batch) -> Caller:
        try:
            return self.holders.caller(batch.key_id, batch.id)
        except AuthenticationError as error:
            raise _failed(error.code or "invalid_api_key", error.message) from error

    def _check_form(self, batch: Batch) -> None:
        if batch.output_format is OutputFormat.PARQUET and batch.endpoint is not BatchEndpoint.EMBEDDINGS:
            message = f"Only batches of {BatchEndpoint.EMBEDDINGS.value} can be written as Parquet."
            raise _failed("invalid_value", message, "output_format")
        try:
            size = self.ranges.size(batch.input_key)
        except NotFoundError as error:
            raise _EndedError(BatchStatus.FAILED, INPUT_GONE) from error
        if size > self.limits.total_bytes:
            message = f"The input file has {size:,} bytes; {self.limits.total_bytes:,} are allowed here."
            raise _failed("file_too_large", message, "input_file_id")

    # ---- The pass over the input ----

    def _read(self, batch: Batch, caller: Caller, deadline: Deadline) -> "_Pass":
        planning = ChunkPlanning(
            batch,
            caller,
            ranges=self.ranges,
            endpoints=self.endpoints,
            costs=self.costs,
            read_line=self.read_line,
            limits=self.limits,
        )
        reading = _Pass(self, batch, planning, deadline)
        reading.restore()
        try:
            planning.read(reading.look)
        except TooManyLinesError:
            return reading
        except NotFoundError as error:
            raise _EndedError(BatchStatus.FAILED, INPUT_GONE) from error
        planning.finish()
        reading.store_chunks()
        return reading

    # ---- How it ends, if it does not begin ----

    def _end(self, batch: Batch, status: BatchStatus, errors: Sequence[BatchError]) -> None:
        logs.canonical(ended=status.value, errors=len(errors), error_code=errors[0].code if errors else None)
        self.batches.finish(batch, status, files=(), errors=errors, now=self._now())

    def _end_cancelled(self, batch: Batch) -> None:
        """End what was cancelled while we were at it. :raises StateConflictError: another has taken over."""
        stored = self.batches.get(batch.id)
        if stored is None or not _is_unsplit(stored) or stored.attempts != batch.attempts or stored.halted is None:
            raise StateConflictError("Another splitter has taken over.")
        status = BatchStatus.EXPIRED if stored.halted == BatchStatus.EXPIRED else BatchStatus.CANCELLED
        self._end(stored, status, ())

    def _let_go(self, batch: Batch) -> None:
        try:
            self.batches.unclaim(batch, now=self._now())
        except (StateError, ConfigurationError) as error:
            # Then whoever comes next waits for the lease.
            _log.warning("split.not_let_go", batch_id=batch.id, **logs.describe(error))

    def _now(self) -> int:
        return int(self.clock())

    def _lease(self, now: float) -> int:
        return math.ceil(now + self.lease_s)


class _Pass:
    """What happens beside the reading: signs of life, chunks that go to the table, checkpoints, and the time.

    ``planning`` has what was read.
    """

    def __init__(self, split: SplitBatch, batch: Batch, planning: ChunkPlanning, deadline: Deadline) -> None:
        self._split = split
        self._batch = batch
        self.planning = planning
        self._deadline = deadline
        self._stop_s = min(STOPPING_S, deadline.remaining_s() / 4)
        self._beat_s = min(BEAT_S, split.lease_s / 3)
        self._next_beat = self._next_checkpoint = 0.0
        self._kept = self._kept_offset = 0
        self._progress: dict[str, object] = dict(batch.progress or {})

    def restore(self) -> None:
        """Go on from where another has stopped."""
        now = self._split.monotonic()
        key = self._progress.get(_CHECKPOINT)
        if isinstance(key, str):
            kept = self._load(key)
            self.planning.restore(kept, key, self._load)
            self._kept, self._kept_offset = len(kept.before) + 1, kept.offset
            logs.canonical(resumed_at=kept.offset)
        self._next_beat, self._next_checkpoint = now + self._beat_s, now + CHECKPOINT_S

    def look(self) -> None:
        """To be called now and then.

        :raises _EndedError: the batch is not wanted any more.
        :raises _LaterError: the time is over; everything is kept.
        """
        now = self._split.monotonic()
        if now < self._next_beat:
            return
        self._next_beat = now + self._beat_s
        self.store_chunks()
        late = self._deadline.remaining_s() <= self._stop_s
        if late or now >= self._next_checkpoint:
            self._keep()
            self._next_checkpoint = self._split.monotonic() + CHECKPOINT_S
        self._tell()
        if late:
            logs.canonical(out_of_time=True)
            raise _LaterError(0)

    def store_chunks(self) -> None:
        """Put what has been planned into the table."""
        if chunks := self.planning.take_closed():
            if self.planning.is_faulty:
                return
            self._split.batches.put_chunks(self._batch, chunks)

    def pause(self) -> None:
        """Keep what was read, for whoever goes on. :raises _EndedError: the batch is not wanted any more."""
        self._keep()
        self._tell()

    def _keep(self) -> None:
        # Named for the attempt: one that has been given up cannot replace what a later one keeps.
        key = f"{self._batch.folder}plan/{self._batch.attempts:06d}-{self._kept:06d}.msgpack"
        checkpoint = self.planning.checkpoint()
        if checkpoint.offset <= self._kept_offset:
            # Nothing was read since.
            return
        self._split.objects.put(key, _encoder.encode(checkpoint))
        self.planning.checkpointed(key)
        self._kept, self._kept_offset = self._kept + 1, checkpoint.offset
        self._progress = {_CHECKPOINT: key}

    def _tell(self) -> None:
        now = self._split.clock()
        lease_until = math.ceil(now + self._split.lease_s)
        batch = self._split.batches.note(self._batch, self._progress, now=int(now), lease_until=lease_until)
        if batch.halted is not None:
            raise _EndedError(BatchStatus.EXPIRED if batch.halted == BatchStatus.EXPIRED else BatchStatus.CANCELLED)
        if batch.expires_at <= now:
            raise _EndedError(BatchStatus.EXPIRED)

    def _load(self, key: str) -> Checkpoint:
        try:
            return _decoder.decode(self._split.objects.get(key))
        except (NotFoundError, msgspec.DecodeError) as exc:
            raise StateError("The checkpoint cannot be read.", code="checkpoint_unreadable") from exc


def _is_unsplit(batch: Batch) -> bool:
    """Whether it has still to be found out what there is to run."""
    unsettled = batch.status in (BatchStatus.VALIDATING, BatchStatus.CANCELLING)
    return unsettled and batch.chunks is None


def _no_such_batch() -> NotFoundError:
    return NotFoundError("There is no such batch.")
