"""The end of a batch: what its chunks have written becomes its output file and its error file.

Nothing of it is read but what S3's rules demand (:class:`~sluice.domain.ports.Composer`). Whoever assembles a batch has
claimed it, by a short lease that is renewed on the way. What was begun is noted in the batch, so that whoever comes
after a kill, or after this function's own time was over, goes on with it. The files' ids and objects follow from the
batch's id: assembled twice, they are the same files. Nobody sees them before the one write that ends the batch.
"""

import hashlib
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from sluice.domain.batch_steps import ERROR_FILE_SUFFIX
from sluice.domain.batches import ENDED, Batch, BatchError, BatchPointer, BatchStatus, OutputFormat
from sluice.domain.deadline import Clock, Deadline
from sluice.domain.deliveries import Delivery, Unreadable
from sluice.domain.errors import ConfigurationError, LeasedError, NotFoundError, StateConflictError, StateError
from sluice.domain.files import FILE_PREFIX, FilePurpose, StoredFile, object_key_of
from sluice.domain.ports import BatchStore, Composer, Piece, RangeStore
from sluice.services.consume import Consumer, Done, Later, Outcome
from sluice.services.watch_batch import WatchBatch
from sluice.telemetry import logs

# Messages of one invocation that are worked on side by side: to watch takes a moment, to assemble may take minutes.
CONCURRENT_RECORDS: Final = 4
# It stops so long before its own time is over: to say that it is to be gone on with.
STOPPING_S: Final = 10.0
SECONDS_PER_DAY: Final = 86_400
CONTENT_TYPES: Final = {
    OutputFormat.JSONL: "application/jsonl",
    OutputFormat.PARQUET: "application/vnd.apache.parquet",
}
_OUTPUT: Final = "output"
_ERRORS: Final = "errors"
_WHY_FAILED: Final = {
    "input_file_gone": "The input file was deleted, or has expired, before every line was run.",
    "key_not_valid": "The API key was revoked, or has expired, before every line was run.",
}
_log = logs.get_logger()


class Joined(Protocol):
    """Makes one file out of several of the same form, where that takes more than to put them behind each other."""

    def __call__(
        self, parts: Sequence[tuple[str, int]], read_range: Callable[[str, int, int], bytes], /
    ) -> Sequence[Piece]:
        """The pieces of the one file. ``parts`` are keys and sizes; ``read_range`` is called from several threads."""
        ...


class _OutOfTimeError(Exception):
    """Another has to go on."""


@dataclass(frozen=True)
class AssembleBatch:
    """Assembles batches, and watches over them.

    ``lease_s`` is how long nobody else takes a batch after its assembler was last heard of. ``file_ttl_days`` is how
    long files are kept whose batch does not say so.
    """

    batches: BatchStore
    ranges: RangeStore
    composer: Composer
    join_parquet: Joined
    watch: WatchBatch
    consumer: Consumer[BatchPointer]
    file_ttl_days: int
    lease_s: float
    clock: Callable[[], float] = time.time
    monotonic: Clock = time.monotonic

    def run(self, deliveries: Sequence[Delivery[BatchPointer] | Unreadable], deadline: Deadline) -> list[str]:
        """The ids of the messages that the queue must keep: to deliver them again, or to move them to its DLQ."""

        def work(delivery: Delivery[BatchPointer], _: bool) -> Outcome[BatchPointer]:  # noqa: FBT001 - as Work has it
            batch_id = delivery.pointer.batch_id
            logs.bind(batch_id=batch_id)
            if delivery.pointer.watch:
                return self.watch.look(delivery.pointer)
            # What was stopped had come further: it uses up no attempt.
            return Done() if self.assemble(batch_id, deadline) else Later(0, instead=delivery.waited())

        return self.consumer.run(deliveries, work, deadline, give_up=self.give_up, concurrency=CONCURRENT_RECORDS)

    def give_up(self, delivery: Delivery[BatchPointer]) -> Done | None:
        """No attempt is left: a batch that is not assembled waits for an operator.

        :raises LeasedError: another is at work on it.
        """
        logs.bind(batch_id=delivery.pointer.batch_id)
        if delivery.pointer.watch:
            return None
        batch = self.batches.get(delivery.pointer.batch_id)
        if batch is None or batch.status in ENDED or not batch.is_drained:
            return Done()
        if batch.lease_until is not None and batch.lease_until > self.clock():
            raise LeasedError(lease_until=batch.lease_until)
        self.batches.park(batch.id, now=self._now())
        return None

    def assemble(self, batch_id: str, deadline: Deadline) -> bool:
        """Whether nothing is left to do. If not, what was done is noted, and to be gone on with at once.

        :raises NotFoundError: there is no such batch, or something that it has written is gone.
        :raises LeasedError: another is at work on it.
        """
        batch = self._claimed(batch_id)
        if batch is None:
            return True
        hold = _Hold(self, batch, deadline)
        try:
            self._end(batch, self._files(batch, hold))
        except _OutOfTimeError:
            self.batches.unclaim(batch, now=self._now())
            logs.canonical(out_of_time=True)
            return False
        except StateConflictError:
            # Another has taken over.
            raise
        except Exception:
            self._let_go(batch)
            raise
        return True

    def _claimed(self, batch_id: str) -> Batch | None:
        """The batch, if it is to be assembled."""
        batch = self.batches.get(batch_id)
        if batch is None:
            raise NotFoundError("There is no such batch.")
        logs.canonical(status=batch.status.value)
        if batch.status in ENDED or not batch.is_drained:
            return None
        now = self.clock()
        # Whoever has ended the last chunk may have been killed before it could say so.
        self.batches.finalize(batch, now=int(now))
        wanted = (BatchStatus.FINALIZING, BatchStatus.CANCELLING)
        return self.batches.claim(batch_id, wanted, now=int(now), lease_until=math.ceil(now + self.lease_s))

    # ---- The files ----

    def _files(self, batch: Batch, hold: "_Hold") -> list[StoredFile]:
        outputs, errors = self._parts(batch, hold)
        is_parquet = batch.output_format is OutputFormat.PARQUET
        pieces = self._joined(outputs, hold) if is_parquet else _behind_each_other(outputs)
        found = [
            self._file(batch, hold, _OUTPUT, pieces, f"_output.{batch.output_format.value}", batch.output_format),
            self._file(batch, hold, _ERRORS, _behind_each_other(errors), ERROR_FILE_SUFFIX, OutputFormat.JSONL),
        ]
        return [file for file in found if file is not None]

    def _parts(self, batch: Batch, hold: "_Hold") -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
        """Key and size of every object with answers, and of every one with errors, in the order of the lines."""
        outputs: list[tuple[str, int]] = []
        errors: list[tuple[str, int]] = []
        completed = failed = 0
        for chunk in self.batches.chunks(batch):
            hold.look()
            completed, failed = completed + chunk.completed, failed + chunk.failed
            outputs += [(part.output_key, part.output_bytes) for part in chunk.parts if part.output_key]
            errors += [(part.error_key, part.error_bytes) for part in chunk.parts if part.error_key]
        if (completed, failed) != (batch.completed, batch.failed):
            # Better no output than one that lacks something.
            raise StateError("The chunks have other results than their batch counts.", code="results_incomplete")
        logs.canonical(parts=len(outputs) + len(errors), completed=completed, failed=failed)
        return outputs, errors

    def _joined(self, parts: Sequence[tuple[str, int]], hold: "_Hold") -> Sequence[Piece]:
        def read_range(key: str, start: int, end: int) -> bytes:
            hold.look()
            return self.ranges.read_range(key, start, end)

        return self.join_parquet(parts, read_range) if parts else ()

    def _file(
        self,
        batch: Batch,
        hold: "_Hold",
        kind: str,
        pieces: Sequence[Piece],
        suffix: str,
        form: OutputFormat,
    ) -> StoredFile | None:
        """One of the files, complete; ``None`` when there is nothing for it."""
        size = sum(piece.size for piece in pieces)
        if not size:
            return None
        file_id = _file_id(batch, kind)
        key = object_key_of(batch.key_id, file_id)
        hold.compose(self.composer, kind, key, pieces, content_type=CONTENT_TYPES[form])
        now = self._now()
        ttl_s = batch.output_ttl_s or self.file_ttl_days * SECONDS_PER_DAY
        return StoredFile(
            id=file_id,
            key_id=batch.key_id,
            filename=f"{batch.id}{suffix}",
            bytes=size,
            purpose=FilePurpose.BATCH_OUTPUT,
            created_at=now,
            expires_at=now + ttl_s,
            object_key=key,
            content_type=CONTENT_TYPES[form],
        )

    # ---- How it ends ----

    def _end(self, batch: Batch, files: Sequence[StoredFile]) -> None:
        status, errors = _outcome(batch)
        logs.canonical(ended=status.value, files=len(files), bytes=sum(file.bytes for file in files))
        self.batches.finish(batch, status, files=files, errors=errors, now=self._now())

    def _let_go(self, batch: Batch) -> None:
        try:
            self.batches.unclaim(batch, now=self._now())
        except (StateError, ConfigurationError) as error:
            # Then whoever comes next waits for the lease.
            _log.warning("assemble.not_let_go", **logs.describe(error))

    def _now(self) -> int:
        return int(self.clock())


class _Hold:
    """The claim on a batch while it is assembled: signs of life, notes, and the time. Safe to use in any thread."""

    def __init__(self, assemble: AssembleBatch, batch: Batch, deadline: Deadline) -> None:
        self._assemble = assemble
        self._batch = batch
        self._deadline = deadline
        self._stop_s = min(STOPPING_S, deadline.remaining_s() / 4)
        self._beat_s = assemble.lease_s / 3
        self._next_beat = assemble.monotonic() + self._beat_s
        self._progress: dict[str, object] = dict(batch.progress or {})
        self._lock = threading.Lock()

    def look(self) -> None:
        """To be called now and then.

        :raises _OutOfTimeError: the time is over.
        :raises StateConflictError: another has taken over.
        """
        if self._left_s <= 0:
            raise _OutOfTimeError
        with self._lock:
            if self._assemble.monotonic() >= self._next_beat:
                self._tell()

    def compose(self, composer: Composer, kind: str, key: str, pieces: Sequence[Piece], *, content_type: str) -> None:
        """Make an object. Raises what :meth:`look` does."""

        def note(begun: str) -> None:
            with self._lock:
                self._progress[kind] = begun
                self._tell()

        while True:
            self.look()
            begun = self._progress.get(kind)
            done = composer.compose(
                key,
                pieces,
                content_type=content_type,
                begun=begun if isinstance(begun, str) else None,
                on_begun=note,
                deadline=Deadline.after(max(0.0, self._left_s), self._assemble.monotonic),
                look=self.look,
            )
            if done:
                return

    def _tell(self) -> None:
        now = self._assemble.clock()
        lease_until = math.ceil(now + self._assemble.lease_s)
        self._assemble.batches.note(self._batch, self._progress, now=int(now), lease_until=lease_until)
        self._next_beat = self._assemble.monotonic() + self._beat_s

    @property
    def _left_s(self) -> float:
        return self._deadline.remaining_s() - self._stop_s


def _behind_each_other(parts: Sequence[tuple[str, int]]) -> list[Piece]:
    return [Piece(key, size) for key, size in parts]


def _file_id(batch: Batch, kind: str) -> str:
    return f"{FILE_PREFIX}_{hashlib.sha256(f'{batch.id}|{kind}'.encode()).hexdigest()[:32]}"


def _outcome(batch: Batch) -> tuple[BatchStatus, tuple[BatchError, ...]]:
    if batch.halted is None:
        return BatchStatus.COMPLETED, ()
    if batch.halted in (BatchStatus.EXPIRED, BatchStatus.CANCELLED):
        return BatchStatus(batch.halted), ()
    message = _WHY_FAILED.get(batch.halted, "The batch could not be gone on with.")
    return BatchStatus.FAILED, (BatchError(code=batch.halted, message=message),)
