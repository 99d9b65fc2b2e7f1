"""The watch over a batch: a message that comes back until the batch has ended.

It sees that the batch expires in time, and that nothing stalls. Whoever works on something holds it by a lease, so
what nobody holds, and nobody has touched for a while, has lost its message or its worker: its pointer is sent again.
That may be one message too many, which changes nothing.

What ended in a dead-letter queue is parked, and left to the operator; unless the batch was halted after that, because
then the little that is left to do may well succeed.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from sluice.domain.batches import ENDED, Batch, BatchPointer, BatchStatus, Chunk, ChunkPointer
from sluice.domain.errors import StateError
from sluice.domain.ports import BatchStore, WorkQueue
from sluice.services.consume import Done, Later, Outcome
from sluice.telemetry import logs


@dataclass(frozen=True)
class WatchBatch:
    """Looks after batches every ``watch_s`` seconds, and after what was not touched for so long."""

    batches: BatchStore
    splitting: WorkQueue[BatchPointer]
    chunks: WorkQueue[ChunkPointer]
    assembly: WorkQueue[BatchPointer]
    watch_s: int
    clock: Callable[[], float] = time.time

    def look(self, pointer: BatchPointer) -> Outcome[BatchPointer]:
        """Look after a batch; when to look again, if it has not ended."""
        now = int(self.clock())
        try:
            batch = self.batches.get(pointer.batch_id)
            if batch is None or batch.status in ENDED:
                return Done()
            expires = batch.expires_at <= now and batch.halted is None
            if expires:
                batch = self.batches.halt(batch.id, BatchStatus.EXPIRED, now=now)
            self._heal(batch, _Look(now=now, before=pointer.looked_at or 0, at_once=expires))
        except StateError as error:
            # A table that is away for longer than a message has attempts must not end the watch.
            logs.canonical(**logs.describe(error))
            return Later(self.watch_s, instead=msgspec.structs.replace(pointer, receives=0))
        if batch.status in ENDED:
            return Done()
        left = batch.expires_at - now
        again = BatchPointer(batch_id=batch.id, watch=True, looked_at=now)
        return Later(min(self.watch_s, left) if left > 0 else self.watch_s, instead=again)

    def _heal(self, batch: Batch, look: "_Look") -> None:
        if batch.status in ENDED:
            return
        pointer = BatchPointer(batch_id=batch.id)
        if batch.chunks is None:
            if self._is_stalled(batch, batch, look):
                logs.canonical(sent_again="batches")
                self.splitting.send(pointer)
        elif batch.is_drained:
            if self._is_stalled(batch, batch, msgspec.structs.replace(look, at_once=False)):
                logs.canonical(sent_again="assembly")
                self.assembly.send(pointer)
        else:
            self._heal_chunks(batch, look)

    def _heal_chunks(self, batch: Batch, look: "_Look") -> None:
        stalled = [
            ChunkPointer(batch_id=batch.id, chunk=chunk.number)
            for chunk in self.batches.chunks_out(batch)
            if self._is_stalled(batch, chunk, look)
        ]
        if stalled:
            logs.canonical(sent_again="chunks", chunks=len(stalled))
            self.chunks.send_many(stalled)

    def _is_stalled(self, batch: Batch, work: Batch | Chunk, look: "_Look") -> bool:
        """Whether a pointer to the batch, or to one of its chunks, is to be sent again."""
        if work.lease_until is not None and work.lease_until > look.now:
            return False
        if work.parked and (batch.halted_at is None or work.updated_at > batch.halted_at):
            return False
        since, unheeded = work.updated_at, False
        if work.lease_until is not None:
            # Whoever had it was lost, which shows as soon as the lease is over.
            since = max(since, work.lease_until - self.watch_s)
        if isinstance(work, Chunk) and batch.halted_at is not None and since <= batch.halted_at:
            # Who is at work has seen the halt; what waits for its turn, however long it has, need not wait any more.
            since, unheeded = batch.halted_at, look.before <= batch.halted_at
        # After 1, 2, 4, 8 … rounds, or as soon after that as somebody looks: the message may only be waiting, behind
        # many others, and would become many itself.
        rounds, before = (max(0, at - since) // self.watch_s for at in (look.now, look.before))
        return look.at_once or unheeded or rounds.bit_length() > before.bit_length()


class _Look(msgspec.Struct, frozen=True, kw_only=True):
    """One look at a batch, and the one ``before`` it, in epoch seconds; ``at_once``: what is not held is sent again."""

    now: int
    before: int
    at_once: bool
