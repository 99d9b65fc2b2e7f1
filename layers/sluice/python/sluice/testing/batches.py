"""Batches in memory: every method is one atomic step, with the money of the ledger and the request log in it."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal

import msgspec

from sluice.domain import batch_steps as steps
from sluice.domain.batches import (
    ENDED,
    Batch,
    BatchError,
    BatchStatus,
    Chunk,
    ChunkStatus,
    LineUse,
    Part,
    Recorded,
)
from sluice.domain.errors import LeasedError, NotFoundError, SluiceError, StateConflictError
from sluice.domain.files import StoredFile
from sluice.domain.ledger import Ask, Limits, Spent
from sluice.domain.ports import FileStore
from sluice.domain.request_log import RequestLogEntry
from sluice.testing.ledger import FakeLedger
from sluice.testing.request_log import FakeRequestLog

_HOLD_S = 60


class FakeBatches:
    """Implements :class:`~sluice.domain.ports.BatchStore`. ``failing`` maps a method's name to what it raises.

    ``items`` and ``stored_chunks`` are what is stored. What a batch writes for its owner goes to ``files``, if given.
    """

    def __init__(
        self,
        ledger: FakeLedger | None = None,
        request_log: FakeRequestLog | None = None,
        files: FileStore | None = None,
    ) -> None:
        self.items: dict[str, Batch] = {}
        self.stored_chunks: dict[tuple[str, int], Chunk] = {}
        self.failing: dict[str, SluiceError] = {}
        self.ledger = ledger or FakeLedger()
        self.request_log = request_log or FakeRequestLog()
        self._files = files
        self._lock = threading.RLock()

    # ---- The batch ----

    def create(self, batch: Batch) -> None:
        self._fail("create")
        with self._lock:
            if self.items.setdefault(batch.id, batch) != batch:
                raise StateConflictError("The batch exists already.")

    def get(self, batch_id: str) -> Batch | None:
        self._fail("get")
        return self.items.get(batch_id)

    def page(self, key_id: str, *, limit: int, after: str | None) -> tuple[tuple[Batch, ...], bool]:
        self._fail("page")
        with self._lock:
            own = [batch for batch in self.items.values() if batch.key_id == key_id]
        own.sort(key=_place, reverse=True)
        if after is not None:
            last = next((batch for batch in own if batch.id == after), None)
            if last is None:
                raise NotFoundError("There is no such batch.")
            own = [batch for batch in own if _place(batch) < _place(last)]
        return tuple(own[:limit]), len(own) > limit

    def claim(self, batch_id: str, statuses: Sequence[BatchStatus], *, now: int, lease_until: int) -> Batch | None:
        self._fail("claim")
        with self._lock:
            batch = self._batch(batch_id)
            if batch.status not in statuses:
                return None
            _refuse_leased(batch, now)
            return self._store(
                batch,
                attempts=batch.attempts + 1,
                lease_until=lease_until,
                updated_at=now,
                parked=False,
            )

    def note(self, batch: Batch, progress: Mapping[str, object], *, now: int, lease_until: int) -> Batch:
        self._fail("note")
        with self._lock:
            stored = self._batch(batch.id)
            if not steps.is_claimed(stored, batch):
                raise steps.overtaken()
            return self._store(stored, progress=dict(progress), lease_until=lease_until, updated_at=now)

    def unclaim(self, batch: Batch, *, now: int) -> None:
        self._fail("unclaim")
        with self._lock:
            stored = self._batch(batch.id)
            if stored.attempts != batch.attempts:
                raise steps.overtaken()
            if stored.lease_until is not None:
                self._store(stored, lease_until=None, updated_at=now)

    def begin(self, batch: Batch, *, most_cost_micro_usd: Decimal, limits: Limits, now: int) -> Batch:
        self._fail("begin")
        with self._lock:
            stored = self._batch(batch.id)
            if stored.attempts == batch.attempts and stored.funds is not None:
                return stored
            if not steps.can_begin(stored, batch):
                raise steps.overtaken()
            hold = self.ledger.reserve(
                batch.key_id,
                msgspec.structs.replace(limits, rpm=None, tpm=None),
                Ask(requests=0, cost_micro_usd=most_cost_micro_usd),
                until=self.ledger.now() + _HOLD_S,
            )
            self.ledger.set_aside(hold)
            self.items[batch.id] = steps.begun(stored, batch, hold, now=now)
            return self.items[batch.id]

    def halt(self, batch_id: str, reason: str, *, now: int) -> Batch:
        self._fail("halt")
        with self._lock:
            self.items[batch_id] = steps.halted(self._batch(batch_id), reason, now=now)
            return self.items[batch_id]

    def finalize(self, batch: Batch, *, now: int) -> Batch:
        self._fail("finalize")
        with self._lock:
            self.items[batch.id] = steps.finalized(self._batch(batch.id), now=now)
            return self.items[batch.id]

    def finish(
        self, batch: Batch, status: BatchStatus, *, files: Sequence[StoredFile], errors: Sequence[BatchError], now: int
    ) -> Batch:
        self._fail("finish")
        with self._lock:
            stored = self._batch(batch.id)
            ended = steps.finished(stored, status, files=files, errors=errors, now=now)
            if stored.attempts == batch.attempts and steps.is_same_end(stored, ended):
                return stored
            if not steps.is_claimed(stored, batch) or stored.status in ENDED:
                raise steps.overtaken()
            for file in files:
                if self._files is not None:
                    self._files.create(file)
            if stored.funds is not None:
                self.ledger.settle_part(
                    stored.key_id, stored.funds.month, Spent(requests=0), released=stored.held_micro_usd
                )
            self.items[batch.id] = ended
            return ended

    def park(self, batch_id: str, *, now: int) -> None:
        self._fail("park")
        with self._lock:
            batch = self.items.get(batch_id)
            if batch is not None and batch.status not in ENDED and not _is_leased(batch, now):
                self._store(batch, parked=True, updated_at=now)

    # ---- Its chunks ----

    def put_chunks(self, batch: Batch, chunks: Sequence[Chunk]) -> None:
        self._fail("put_chunks")
        with self._lock:
            stored = self._batch(batch.id)
            if not steps.is_claimed(stored, batch) or stored.status is not BatchStatus.VALIDATING:
                raise steps.overtaken()
            for chunk in chunks:
                self.stored_chunks[batch.id, chunk.number] = msgspec.structs.replace(chunk, updated_at=batch.updated_at)

    def chunks(self, batch: Batch) -> Iterator[Chunk]:
        self._fail("chunks")
        for number in range(batch.chunks or 0):
            yield self._chunk(batch.id, number)

    def chunks_out(self, batch: Batch) -> Sequence[Chunk]:
        self._fail("chunks_out")
        with self._lock:
            return tuple(
                chunk
                for chunk in self.chunks(batch)
                if chunk.status is not ChunkStatus.ENDED and steps.is_out(batch, chunk)
            )

    def claim_chunk(self, batch_id: str, number: int, *, now: int, lease_until: int) -> tuple[Batch, Chunk] | None:
        self._fail("claim_chunk")
        with self._lock:
            batch, chunk = self._batch(batch_id), self._chunk(batch_id, number)
            if batch.status in ENDED or chunk.status is ChunkStatus.ENDED or not steps.is_out(batch, chunk):
                return None
            _refuse_leased(chunk, now)
            claimed = self._store_chunk(
                chunk,
                status=ChunkStatus.RUNNING,
                attempts=chunk.attempts + 1,
                lease_until=lease_until,
                updated_at=now,
                parked=False,
            )
            return batch, claimed

    def renew_chunk(self, chunk: Chunk, *, now: int, lease_until: int) -> None:
        self._fail("renew_chunk")
        with self._lock:
            stored = self._chunk(chunk.batch_id, chunk.number)
            if stored.attempts != chunk.attempts or stored.status is not ChunkStatus.RUNNING:
                raise steps.overtaken()
            self._store_chunk(stored, lease_until=lease_until, updated_at=now)

    def record(
        self,
        batch: Batch,
        chunk: Chunk,
        *,
        part: Part | None,
        use: LineUse,
        entries: Sequence[RequestLogEntry],
        now: int,
    ) -> Recorded:
        self._fail("record")
        with self._lock:
            recorded, spent = steps.recorded_chunk(chunk, part, use, now=now), steps.spent_by(entries, use)
            stored = self._chunk(batch.id, chunk.number)
            if steps.has_recorded(stored, recorded, part):
                return self.end_of(batch.id, chunk.number)
            if stored.attempts != chunk.attempts or stored.status is not ChunkStatus.RUNNING:
                raise steps.overtaken()
            after, following = steps.recorded(self._batch(batch.id), recorded, use, now=now)
            self.stored_chunks[batch.id, chunk.number] = recorded
            self.items[batch.id] = after
            if following is not None:
                self._store_chunk(self._chunk(batch.id, following), released=True, updated_at=now)
            if after.funds is not None:
                self.ledger.settle_part(after.key_id, after.funds.month, spent, released=use.released_micro_usd)
            for entry in steps.entered(after, entries):
                self.request_log.append(entry)
            return Recorded(batch=after, released=following)

    def end_of(self, batch_id: str, number: int) -> Recorded:
        self._fail("end_of")
        with self._lock:
            batch = self._batch(batch_id)
            following = steps.successor(batch, number)
            waiting = following is not None and steps.is_waiting(self._chunk(batch_id, following))
            return Recorded(batch=batch, released=following if waiting else None)

    def nudge(self, batch_id: str, number: int, *, now: int, untouched_s: int) -> bool:
        self._fail("nudge")
        with self._lock:
            chunk = self.stored_chunks.get((batch_id, number))
            if chunk is None or chunk.status is not ChunkStatus.PENDING or chunk.attempts:
                return False
            if chunk.updated_at > now - untouched_s:
                return False
            self._store_chunk(chunk, updated_at=now)
            return True

    def put_chunk_back(self, chunk: Chunk, *, now: int) -> None:
        self._fail("put_chunk_back")
        with self._lock:
            stored = self._chunk(chunk.batch_id, chunk.number)
            if stored.attempts != chunk.attempts or stored.status is ChunkStatus.ENDED:
                raise steps.overtaken()
            if stored.status is ChunkStatus.RUNNING:
                heard_of = stored.heard_of + 1
                self._store_chunk(
                    stored, status=ChunkStatus.PENDING, heard_of=heard_of, lease_until=None, updated_at=now
                )

    def park_chunk(self, batch_id: str, number: int, *, now: int) -> None:
        self._fail("park_chunk")
        with self._lock:
            chunk = self.stored_chunks.get((batch_id, number))
            if chunk is not None and chunk.status is not ChunkStatus.ENDED and not _is_leased(chunk, now):
                self._store_chunk(chunk, parked=True, updated_at=now)

    def _batch(self, batch_id: str) -> Batch:
        if batch_id not in self.items:
            raise NotFoundError("There is no such batch.")
        return self.items[batch_id]

    def _chunk(self, batch_id: str, number: int) -> Chunk:
        if (batch_id, number) not in self.stored_chunks:
            raise NotFoundError("There is no such chunk.")
        return self.stored_chunks[batch_id, number]

    def _store(self, batch: Batch, **changes: object) -> Batch:
        self.items[batch.id] = msgspec.structs.replace(batch, **changes)
        return self.items[batch.id]

    def _store_chunk(self, chunk: Chunk, **changes: object) -> Chunk:
        changed = msgspec.structs.replace(chunk, **changes)
        self.stored_chunks[chunk.batch_id, chunk.number] = changed
        return changed

    def _fail(self, method: str) -> None:
        if error := self.failing.get(method):
            raise error


def _place(batch: Batch) -> tuple[int, str]:
    return batch.created_at, batch.id


def _is_leased(leased: Batch | Chunk, now: int) -> bool:
    return leased.lease_until is not None and leased.lease_until > now


def _refuse_leased(leased: Batch | Chunk, now: int) -> None:
    if leased.lease_until is not None and leased.lease_until > now:
        raise LeasedError(lease_until=leased.lease_until)
