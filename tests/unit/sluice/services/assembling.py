"""Batches whose chunks have been run, with the assembler and its queues, on fakes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from sluice.domain.batches import (
    Batch,
    BatchEndpoint,
    BatchPointer,
    BatchStatus,
    Chunk,
    ChunkPointer,
    ChunkStatus,
    Funds,
    Part,
)
from sluice.domain.deadline import Deadline
from sluice.domain.deliveries import QueueName
from sluice.domain.ledger import Ask, Limits
from sluice.domain.ports import Piece
from sluice.services.assemble_batch import AssembleBatch
from sluice.services.consume import Consumer
from sluice.services.watch_batch import WatchBatch
from sluice.testing.batches import FakeBatches
from sluice.testing.clock import FakeClock
from sluice.testing.composing import FakeComposer
from sluice.testing.dead_letters import FakeDeadLetterReasons
from sluice.testing.files import FakeFiles
from sluice.testing.ledger import FakeLedger
from sluice.testing.objects import FakeObjects
from sluice.testing.queues import FakeQueue
from sluice.testing.ranges import FakeRanges
from sluice.testing.request_log import FakeRequestLog

NOW = 1_700_000_000
DAY = 86_400
KEY_ID = "key_" + "1" * 32
BATCH_ID = "batch_" + "2" * 32
WATCH_S, LEASE_S, ATTEMPTS = 60, 60, 3
POINTER = BatchPointer(batch_id=BATCH_ID)
WATCH = BatchPointer(batch_id=BATCH_ID, watch=True)


def planned(**changes: Any) -> Batch:
    """A batch that is at work, of one chunk that is out."""
    batch = Batch(
        id=BATCH_ID,
        key_id=KEY_ID,
        endpoint=BatchEndpoint.EMBEDDINGS,
        input_file_id="file_" + "3" * 32,
        input_key=f"files/{KEY_ID}/input",
        completion_window="24h",
        status=BatchStatus.IN_PROGRESS,
        created_at=NOW - 100,
        updated_at=NOW - 100,
        expires_at=NOW + DAY,
        forget_at=NOW + 30 * DAY,
        window=2,
        chunks=1,
        released=1,
    )
    return msgspec.structs.replace(batch, **changes)


def joined(parts: Sequence[tuple[str, int]], read_range: Callable[[str, int, int], bytes]) -> Sequence[Piece]:
    """As of Parquet: something before the parts, and behind them something that takes the end of each to write."""
    ends = b"".join(read_range(key, size - 1, size) for key, size in parts)
    return [Piece(None, 1, literal=b"<"), *(Piece(key, size) for key, size in parts), Piece(None, len(ends), 0, ends)]


class World:
    def __init__(self) -> None:
        self.clock = FakeClock(NOW)
        self.log = FakeRequestLog()
        self.ledger = FakeLedger(self.log, now=self.clock)
        self.files = FakeFiles(self.clock)
        self.batches = FakeBatches(self.ledger, self.log, self.files)
        self.objects = FakeObjects()
        self.composer = FakeComposer(self.objects)
        self.ranges = FakeRanges(self.objects)
        self.reasons = FakeDeadLetterReasons()
        self.splitting = FakeQueue(BatchPointer, clock=self.clock)
        self.chunks = FakeQueue(ChunkPointer, clock=self.clock)
        self.queue = FakeQueue(BatchPointer, clock=self.clock, max_receive_count=ATTEMPTS + 1)
        self.service = AssembleBatch(
            batches=self.batches,
            ranges=self.ranges,
            composer=self.composer,
            join_parquet=joined,
            watch=WatchBatch(
                batches=self.batches,
                splitting=self.splitting,
                chunks=self.chunks,
                assembly=self.queue,
                watch_s=WATCH_S,
                clock=self.clock,
            ),
            consumer=Consumer(
                queue=self.queue,
                reasons=self.reasons,
                queue_name=QueueName.ASSEMBLY,
                max_receive_count=ATTEMPTS,
                retry_base_s=2,
                clock=self.clock,
                jitter=lambda _, high: high,
            ),
            file_ttl_days=30,
            lease_s=LEASE_S,
            clock=self.clock,
            monotonic=self.clock,
        )

    @property
    def batch(self) -> Batch:
        return self.batches.items[BATCH_ID]

    def change(self, **changes: Any) -> None:
        self.batches.items[BATCH_ID] = msgspec.structs.replace(self.batch, **changes)

    def change_chunk(self, number: int, **changes: Any) -> None:
        chunk = self.batches.stored_chunks[BATCH_ID, number]
        self.batches.stored_chunks[BATCH_ID, number] = msgspec.structs.replace(chunk, **changes)

    def add(self, batch: Batch, *chunks: Chunk) -> None:
        self.batches.items[batch.id] = batch
        self.batches.stored_chunks |= {(batch.id, chunk.number): chunk for chunk in chunks}

    def with_money(self) -> None:
        """Give the batch funds, of which ten millionths are left."""
        hold = self.ledger.reserve(
            KEY_ID, Limits(), Ask(requests=0, cost_micro_usd=Decimal(10)), until=self.clock() + 60
        )
        self.ledger.set_aside(hold)
        self.change(
            funds=Funds(shard=hold.shard, month=hold.month, held_micro_usd=Decimal(10)), held_micro_usd=Decimal(10)
        )

    def ended(self, *contents: tuple[str, str], suffix: str = "jsonl", **changes: Any) -> None:
        """A batch whose chunks have all ended; each has the lines of these answers and errors, in two parts each."""
        chunks = [self._chunk(number, *content, suffix) for number, content in enumerate(contents)]
        completed, failed = sum(chunk.completed for chunk in chunks), sum(chunk.failed for chunk in chunks)
        count = len(chunks)
        counts = {"chunks": count, "released": count, "ended": count, "lines": completed + failed}
        self.add(planned(**{**counts, "completed": completed, "failed": failed, **changes}), *chunks)

    def _chunk(self, number: int, answers: str, errors: str, suffix: str) -> Chunk:
        parts = []
        for attempt, (good, bad) in enumerate(zip(_halves(answers), _halves(errors), strict=True), start=1):
            place = f"batches/{KEY_ID}/{BATCH_ID}/parts/{number:08d}-{attempt}"
            part = Part()
            if good:
                self.objects.put(f"{place}.{suffix}", good)
                part = msgspec.structs.replace(part, output_key=f"{place}.{suffix}", output_bytes=len(good))
            if bad:
                self.objects.put(f"{place}.errors.jsonl", bad)
                part = msgspec.structs.replace(part, error_key=f"{place}.errors.jsonl", error_bytes=len(bad))
            parts += [part] if part != Part() else []
        return Chunk(
            batch_id=BATCH_ID,
            number=number,
            start=0,
            end=1,
            first_line=1,
            lines=len(answers) + len(errors),
            status=ChunkStatus.ENDED,
            completed=len(answers),
            failed=len(errors),
            parts=tuple(parts),
        )

    def deliver(self, *, seconds: float = 300) -> list[str]:
        """One invocation on everything visible; the ids that it reported as failed."""
        deliveries = self.queue.receive()
        kept = self.service.run(deliveries, Deadline.after(seconds, self.clock))
        self.queue.acknowledge(deliveries, except_for=kept)
        return kept

    def assemble(self, *, seconds: float = 300) -> bool:
        return self.service.assemble(BATCH_ID, Deadline.after(seconds, self.clock))

    def file(self, file_id: str | None) -> tuple[str, bytes] | None:
        """Name and content of one of the owner's files."""
        file = self.files.get(KEY_ID, file_id) if file_id else None
        return (file.filename, self.objects.get(file.object_key)) if file else None


def _halves(text: str) -> tuple[bytes, bytes]:
    """The letters as lines, shared between two parts."""
    lines = [f"{letter}\n".encode() for letter in text]
    middle = len(lines) // 2
    return b"".join(lines[:middle]), b"".join(lines[middle:])
