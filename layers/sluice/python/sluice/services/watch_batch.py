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

    def look(self, batch_id: str) -> Outcome[BatchPointer]:
        """Look after a batch; when to look again, if it has not ended."""
        try:
            batch = self.batches.get(batch_id)
            if batch is None or batch.status in ENDED:
                return Done()
            now = int(self.clock())
            expires = batch.expires_at <= now and batch.halted is None
            if expires:
                batch = self.batches.halt(batch_id, BatchStatus.EXPIRED, now=now)
            self._heal(batch, now, expires=expires)
        except StateError as error:
            # A table that is away for longer than a message has attempts must not end the watch.
            logs.canonical(**logs.describe(error))
            return self._again(batch_id, self.watch_s)
        if batch.status in ENDED:
            return Done()
        left = batch.expires_at - now
        return self._again(batch_id, min(self.watch_s, left) if left > 0 else self.watch_s)

    def _again(self, batch_id: str, seconds: int) -> Later[BatchPointer]:
        return Later(seconds, instead=BatchPointer(batch_id=batch_id, watch=True))

    def _heal(self, batch: Batch, now: int, *, expires: bool) -> None:
        if batch.status in ENDED:
            return
        pointer = BatchPointer(batch_id=batch.id)
        if batch.chunks is None:
            if self._is_stalled(batch, batch, now, at_once=expires):
                logs.canonical(sent_again="batches")
                self.splitting.send(pointer)
        elif batch.is_drained:
            if self._is_stalled(batch, batch, now, at_once=False):
                logs.canonical(sent_again="assembly")
                self.assembly.send(pointer)
        else:
            self._heal_chunks(batch, now, at_once=expires)

    def _heal_chunks(self, batch: Batch, now: int, *, at_once: bool) -> None:
        stalled = [
            ChunkPointer(batch_id=batch.id, chunk=chunk.number)
            for chunk in self.batches.chunks_out(batch)
            if self._is_stalled(batch, chunk, now, at_once=at_once)
        ]
        if stalled:
            logs.canonical(sent_again="chunks", chunks=len(stalled))
            self.chunks.send_many(stalled)

    def _is_stalled(self, batch: Batch, work: Batch | Chunk, now: int, *, at_once: bool) -> bool:
        """Whether a pointer to the batch, or to one of its chunks, is to be sent again."""
        if work.lease_until is not None and work.lease_until > now:
            return False
        if work.parked and (batch.halted_at is None or work.updated_at > batch.halted_at):
            return False
        # The workers at it have seen that the batch was halted; what waits for its turn need not wait any more.
        waits_in_vain = isinstance(work, Chunk) and batch.halted_at is not None and work.updated_at <= batch.halted_at
        idle = max(0, now - work.updated_at) // self.watch_s
        # After 1, 2, 4, 8 … rounds: the message may only be waiting, behind many others, and would become many itself.
        return at_once or (waits_in_vain and not idle) or (idle > 0 and idle & (idle - 1) == 0)
