"""What the tests of the splitter share: inputs, and a splitter over fakes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from typing import Any

from sluice.domain.batch_lines import LineRequest, requests_in
from sluice.domain.batches import Batch, BatchEndpoint, BatchPointer, BatchStatus, Chunk, ChunkPointer
from sluice.domain.chunk_plan import ChunkLimits
from sluice.domain.deadline import Deadline
from sluice.domain.deliveries import QueueName
from sluice.domain.inference import Operation
from sluice.domain.keys import ApiKey
from sluice.runtime.endpoints import InferenceEndpoints
from sluice.services.consume import Consumer
from sluice.services.key_holders import KeyHolders
from sluice.services.line_costs import LineCosts
from sluice.services.plan_chunks import InputLimits
from sluice.services.split_batch import SplitBatch
from sluice.testing.batches import FakeBatches
from sluice.testing.clock import FakeClock
from sluice.testing.dead_letters import FakeDeadLetterReasons
from sluice.testing.keys import FakeKeys
from sluice.testing.ledger import FakeLedger
from sluice.testing.objects import FakeObjects
from sluice.testing.queues import FakeQueue
from sluice.testing.ranges import FakeRanges
from sluice.testing.routes import FakeRoutes, alias, target
from sluice.wire.batch_lines import read_line

NOW = 1_700_000_000
ID = "batch_" + "0" * 32
KEY = ApiKey(id="key_1", key_hash="hash-1", prefix="sk-sluice-abcd", name="tests", created_at=1)
INPUT = "files/key_1/file_1"
BATCH = Batch(
    id=ID,
    key_id="key_1",
    endpoint=BatchEndpoint.CHAT_COMPLETIONS,
    input_file_id="file_1",
    input_key=INPUT,
    completion_window="24h",
    status=BatchStatus.VALIDATING,
    created_at=NOW,
    updated_at=NOW,
    expires_at=NOW + 86_400,
    forget_at=NOW + 864_000,
    window=3,
)
LIMITS = InputLimits(
    lines=1_000, total_bytes=1_000_000, line_bytes=2_000, chunk=ChunkLimits(lines=4, seconds=1e9), at_once=16
)
LEASE_S = 30.0
URL = BATCH.endpoint.value
HELLO: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": "Hello"}]}


def request(custom_id: object, body: object = HELLO, *, url: str = URL, method: str = "POST") -> dict[str, object]:
    return {"custom_id": custom_id, "method": method, "url": url, "body": body}


def jsonl(rows: Iterable[object]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def many(count: int, start: int = 0) -> bytes:
    return jsonl(request(f"q{number}") for number in range(start, start + count))


class Splitting:
    """A splitter over fakes. A clock that everything goes by moves by ``block_s`` with every block that is read."""

    def __init__(
        self, content: bytes = b"", *, batch: Batch = BATCH, limits: InputLimits = LIMITS, key: ApiKey = KEY
    ) -> None:
        self.clock = FakeClock(NOW)
        self.block_s = 0.0
        self.before_block: Callable[[int], None] = lambda _: None
        self.objects = FakeObjects()
        self.objects.put(INPUT, content)
        self.ranges = FakeRanges(self.objects)
        self.ledger = FakeLedger(now=self.clock)
        self.batches = FakeBatches(self.ledger)
        self.batches.create(batch)
        self.chunk_queue = FakeQueue(ChunkPointer, clock=self.clock)
        self.queue = FakeQueue(BatchPointer, clock=self.clock, max_receive_count=4)
        self.reasons = FakeDeadLetterReasons()
        self.keys = FakeKeys(key)
        models = alias("auto", "a/model"), alias("fast", "a/model")
        embedder = target("a/embedder", operations=(Operation.EMBED,))
        embed = alias("embed", embedder.name, operation=Operation.EMBED)
        self.routes = FakeRoutes(target("a/model"), embedder, *models, embed)
        self.limits = limits
        self.limited = key.limits
        self.splitter = self.another()

    def another(self, limits: InputLimits | None = None) -> SplitBatch:
        return SplitBatch(
            batches=self.batches,
            ranges=_Slowly(self),
            objects=self.objects,
            endpoints=InferenceEndpoints(),
            holders=KeyHolders(self.keys, now=self.clock, clock=self.clock),
            costs=LineCosts(self.routes, most_output_tokens=100),
            chunk_queue=self.chunk_queue,
            read_line=read_line,
            limits=limits or self.limits,
            lease_s=LEASE_S,
            consumer=Consumer(
                queue=self.queue,
                reasons=self.reasons,
                queue_name=QueueName.BATCHES,
                max_receive_count=3,
                retry_base_s=1,
                clock=self.clock,
                jitter=lambda _, most: most,
            ),
            clock=self.clock,
            monotonic=self.clock,
            jitter=lambda _, most: most,
        )

    def split(self, *, seconds: float = 900.0) -> bool:
        """Whether nothing is left to do."""
        return self.splitter.split(ID, Deadline.after(seconds, self.clock)) is None

    def deliver(self, *, seconds: float = 900.0) -> None:
        """Let the splitter have what is in its queue, as Lambda would."""
        deliveries = self.queue.receive()
        kept = self.splitter.run(deliveries, Deadline.after(seconds, self.clock))
        self.queue.acknowledge(deliveries, except_for=kept)

    @property
    def batch(self) -> Batch:
        return self.batches.items[ID]

    @property
    def chunks(self) -> list[Chunk]:
        return list(self.batches.chunks(self.batch))

    @property
    def errors(self) -> list[tuple[int | None, str, str | None]]:
        return [(error.line, error.code, error.param) for error in self.batch.errors]

    @property
    def sent(self) -> list[int]:
        return [pointer.chunk for pointer in self.chunk_queue.pointers]

    def planned(self) -> list[tuple[int, LineRequest]]:
        """The lines that the workers will find in the chunks."""
        content = self.objects.get(INPUT)
        found = []
        for chunk in self.chunks:
            lines = list(requests_in(content[chunk.start : chunk.end], first_line=chunk.first_line))
            assert len(lines) == chunk.lines
            found += [(number, read_line(line)) for number, line in lines]
        return found

    def held(self) -> Decimal:
        return self.ledger.standing("key_1", self.limited).total_held_micro_usd


class _Slowly:
    """The ranges of a splitting, each block of which takes its time."""

    def __init__(self, splitting: Splitting) -> None:
        self._splitting = splitting

    def size(self, key: str) -> int:
        return self._splitting.ranges.size(key)

    def read_range(self, key: str, start: int, end: int) -> bytes:
        return self._splitting.ranges.read_range(key, start, end)

    def stream(self, key: str, *, start: int = 0) -> Iterator[bytes]:
        for count, block in enumerate(self._splitting.ranges.stream(key, start=start)):
            self._splitting.before_block(count)
            self._splitting.clock.advance(self._splitting.block_s)
            yield block
