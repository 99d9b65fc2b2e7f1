"""What the tests of the batch worker share: one batch, planned and begun, on fakes, with a scripted model."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from sluice.domain.batch_lines import requests_in
from sluice.domain.batches import Batch, BatchEndpoint, BatchPointer, BatchStatus, Chunk, ChunkPointer, OutputFormat
from sluice.domain.deadline import Deadline
from sluice.domain.deliveries import Delivery
from sluice.domain.inference import (
    ChatRequest,
    ChatResult,
    EmbeddingRequest,
    EmbeddingResult,
    FinishReason,
    Operation,
    Usage,
)
from sluice.domain.keys import ApiKey
from sluice.domain.ledger import Limits
from sluice.domain.ports import Ledger, ModelProvider, RequestLog
from sluice.domain.pricing import Price
from sluice.domain.resilience import CircuitPolicy
from sluice.domain.routing import Alias, Target
from sluice.runtime import http
from sluice.runtime.endpoints import InferenceEndpoints
from sluice.runtime.line_results import LineResults
from sluice.services.consume import Consumer
from sluice.services.infer import Inference, RetryPolicy
from sluice.services.key_holders import KeyHolders
from sluice.services.line_costs import LineCosts
from sluice.services.pace_targets import PaceTargets, PatientWatch
from sluice.services.run_chunk import ChunkSettings, RunChunk
from sluice.services.run_chunks import RunChunks
from sluice.services.run_lines import LineEndpoints
from sluice.testing.batches import FakeBatches
from sluice.testing.dead_letters import FakeDeadLetterReasons
from sluice.testing.keys import FakeKeys
from sluice.testing.ledger import FakeLedger
from sluice.testing.objects import FakeObjects
from sluice.testing.pace import FakePace
from sluice.testing.queues import FakeQueue
from sluice.testing.ranges import FakeRanges
from sluice.testing.request_log import FakeRequestLog
from sluice.testing.routes import FakeRoutes, alias, target
from sluice.testing.target_states import FakeTargetStates
from sluice.wire.batch_lines import read_line

BATCH_ID = "batch_" + "0" * 32
KEY = ApiKey(id="key_1", key_hash="hash-1", prefix="sk-sluice-abcd", name="tests", created_at=1)
PRICE = Price(version="1", input_per_mtok=Decimal(2), output_per_mtok=Decimal(3))
USAGE = Usage(input_tokens=8, output_tokens=2)
COST = Decimal(22)
INPUT_KEY = "files/key_1/file_1"


class Model(ModelProvider):
    """Answers with the text it is asked; ``before`` is called with each text, and may raise."""

    def __init__(self) -> None:
        self.before: Callable[[str, Target], None] = lambda _, __: None
        self.asked: Counter[str] = Counter()
        self.embeds: list[int] = []
        self._lock = threading.Lock()

    def chat(self, target: Target, request: ChatRequest, *, timeout_s: float) -> ChatResult:
        text = request.messages[-1].content
        self._ask(text, target)
        return ChatResult(text=f"re: {text}", finish_reason=FinishReason.STOP, usage=USAGE)

    def embed(self, target: Target, request: EmbeddingRequest, *, timeout_s: float) -> EmbeddingResult:
        with self._lock:
            self.embeds.append(len(request.inputs))
        for text in request.inputs:
            self._ask(text, target)
        tokens = tuple(map(len, request.inputs))
        return EmbeddingResult(
            vectors=tuple((float(count), 0.5) for count in tokens),
            usage=Usage(input_tokens=sum(tokens)),
            tokens_by_input=tokens,
        )

    def _ask(self, text: str, target: Target) -> None:
        with self._lock:
            self.asked[text] += 1
        self.before(text, target)


def chat_line(custom_id: str, text: str | None = None, *, model: str = "auto") -> dict[str, Any]:
    messages = [{"role": "user", "content": text or custom_id}]
    return _line(custom_id, "/v1/chat/completions", {"model": model, "messages": messages, "max_tokens": 10})


def embed_line(custom_id: str, text: str | Sequence[str] | None = None, **body: Any) -> dict[str, Any]:
    return _line(custom_id, "/v1/embeddings", {"model": "inside", "input": text or custom_id, **body})


def _line(custom_id: str, url: str, body: dict[str, Any]) -> dict[str, Any]:
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body}


@dataclass
class World:
    """One batch in progress, with ``lines`` in chunks of ``per_chunk``; the clock of the store is ``now``."""

    lines: Sequence[dict[str, Any]]
    per_chunk: int = 100
    window: int = 1
    limits: Limits = field(default_factory=Limits)
    output_format: OutputFormat = OutputFormat.JSONL
    routes: Sequence[Target | Alias] = ()
    held: Decimal | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    circuit_failures: int = 1_000
    most_at_target: int = 6

    def __post_init__(self) -> None:
        self.now = 1_700_000_000.0
        self.model = Model()
        self.log = FakeRequestLog()
        self.ledger = FakeLedger(self.log, now=self.clock)
        self.batches = FakeBatches(self.ledger, self.log)
        self.objects = FakeObjects()
        self.ranges = FakeRanges(self.objects)
        self.keys = FakeKeys(KEY)
        self.states = FakeTargetStates()
        self.pace_store = FakePace()
        self.chunks = FakeQueue(ChunkPointer, clock=self.clock)
        self.assembly = FakeQueue(BatchPointer, clock=self.clock)
        self.reasons = FakeDeadLetterReasons()
        self.replace()
        inside = target("in_process/inside", price=PRICE, operations=(Operation.EMBED,))
        self.route_source = FakeRoutes(
            target("a/one", price=PRICE),
            Target(**{**_fields(inside), "provider": "in_process"}),
            alias("auto", "a/one"),
            alias("inside", "in_process/inside", operation=Operation.EMBED),
            alias("embed", "a/one", operation=Operation.EMBED),
            *self.routes,
        )
        self.pace = PaceTargets(
            self.pace_store,
            most=self.most_at_target,
            now=self.clock,
            sleep=lambda _: None,
            jitter=lambda low, _: low,
        )
        self.run_chunk = self._run_chunk()
        self._begin()

    def replace(self) -> None:
        """Where other adapters than the fakes are put in place."""

    def clock(self) -> float:
        return self.now

    def _run_chunk(self) -> RunChunk:
        watch = PatientWatch(
            self.states,
            CircuitPolicy(failures=self.circuit_failures, minimum_volume=1_000),
            cache_s=0.0,
            pace=self.pace,
            now=self.clock,
        )

        def endpoints(batch: Batch, log: RequestLog, ledger: Ledger) -> LineEndpoints:
            inference = Inference(
                routes=self.route_source,
                providers={"bedrock": self.model, "in_process": self.model},
                request_log=log,
                ledger=ledger,
                watch=watch,
                policy=RetryPolicy(max_attempts=1),
                http_status=http.status_of,
                now=self.clock,
            )
            return InferenceEndpoints(inference, as_vectors=batch.output_format is OutputFormat.PARQUET)

        fast = {"line_concurrency": 4, "tries_here": 2, "line_tries": 3, "start_needs_s": 0.5, "lease_s": 60}
        return RunChunk(
            batches=self.batches,
            ranges=self.ranges,
            objects=self.objects,
            holders=KeyHolders(self.keys, cache_s=0, now=self.clock),
            routes=self.route_source,
            pace=self.pace,
            endpoints=endpoints,
            read_line=read_line,
            forms=LineResults(),
            chunks=self.chunks,
            assembly=self.assembly,
            settings=ChunkSettings(**{**fast, **self.settings}),
            clock=self.clock,
            jitter=lambda low, _: low,
        )

    def _begin(self) -> None:
        written = [json.dumps(line).encode() + b"\n" for line in self.lines]
        self.objects.put(INPUT_KEY, b"".join(written))
        batch = Batch(
            id=BATCH_ID,
            key_id=KEY.id,
            endpoint=BatchEndpoint.CHAT_COMPLETIONS,
            input_file_id="file_1",
            input_key=INPUT_KEY,
            completion_window="24h",
            status=BatchStatus.VALIDATING,
            created_at=int(self.now),
            updated_at=int(self.now),
            expires_at=int(self.now) + 86_400,
            forget_at=int(self.now) + 8 * 86_400,
            output_format=self.output_format,
        )
        self.batches.create(batch)
        claimed = self.batches.claim(BATCH_ID, [BatchStatus.VALIDATING], now=int(self.now), lease_until=2**40)
        assert claimed is not None
        chunks = self._planned(written)
        self.batches.put_chunks(claimed, chunks)
        planned = _replaced(claimed, chunks=len(chunks), lines=len(self.lines), window=self.window)
        most = sum((chunk.held_micro_usd for chunk in chunks), Decimal(0))
        self.batches.begin(planned, most_cost_micro_usd=most, limits=self.limits, now=int(self.now))

    def _planned(self, written: Sequence[bytes]) -> list[Chunk]:
        costs = LineCosts(self.route_source, most_output_tokens=None)
        caller = KeyHolders(self.keys, now=self.clock).caller(KEY.id, "plan")
        chunks: list[Chunk] = []
        start = 0
        for first in range(0, len(written), self.per_chunk):
            own = written[first : first + self.per_chunk]
            end = start + sum(map(len, own))
            tasks = [read_line(raw) for _, raw in requests_in(b"".join(own), first_line=first + 1)]
            parse = InferenceEndpoints().parse
            held = sum((costs.of(parse(each.url, each.body), caller).most_micro_usd for each in tasks), Decimal(0))
            chunk = Chunk(
                batch_id=BATCH_ID,
                number=len(chunks),
                start=start,
                end=end,
                first_line=first + 1,
                lines=len(own),
                held_micro_usd=held if self.held is None else self.held,
            )
            chunks.append(chunk)
            start = end
        return chunks

    # ---- What a test does ----

    def deliver(self, number: int = 0, *, seconds: float = 20.0, **pointer: Any) -> Any:
        """One delivery of a chunk's pointer."""
        delivery = Delivery(
            message_id="message-1",
            receipt_handle="receipt-1",
            receive_count=1,
            pointer=ChunkPointer(batch_id=BATCH_ID, chunk=number, **pointer),
        )
        return self.run_chunk.work(delivery, Deadline.after(seconds))

    def consumed(self, *, seconds: float = 20.0, max_receive_count: int = 3) -> list[str]:
        """One invocation of the worker with everything that is visible."""
        consumer = Consumer(
            queue=self.chunks,
            reasons=self.reasons,
            queue_name="chunks",
            max_receive_count=max_receive_count,
            retry_base_s=1.0,
            clock=self.clock,
        )
        deliveries = self.chunks.receive()
        kept = RunChunks(consumer, self.run_chunk).run(deliveries, Deadline.after(seconds))
        self.chunks.acknowledge(deliveries, except_for=kept)
        return kept

    # ---- What a test looks at ----

    @property
    def batch(self) -> Batch:
        found = self.batches.get(BATCH_ID)
        assert found is not None
        return found

    def chunk(self, number: int = 0) -> Chunk:
        return self.batches.stored_chunks[BATCH_ID, number]

    def outputs(self) -> list[dict[str, Any]]:
        """Every line of the output of every part that was recorded."""
        return self._written("output_key")

    def errors(self) -> list[dict[str, Any]]:
        return self._written("error_key")

    def _written(self, key: str) -> list[dict[str, Any]]:
        parts = [part for chunk in self.batches.chunks(self.batch) for part in chunk.parts]
        bodies = [self.objects.get(name) for part in parts if (name := getattr(part, key)) is not None]
        return [json.loads(line) for body in bodies for line in body.splitlines()]

    def pointers(self) -> list[ChunkPointer]:
        return [delivery.pointer for delivery in self.chunks.receive() if isinstance(delivery, Delivery)]

    def check_money(self) -> None:
        """The ledger, the request log and the batch all say the same."""
        spent = sum((entry.cost_micro_usd or Decimal(0) for entry in self.log.entries), Decimal(0))
        standing = self.ledger.standing(KEY.id, self.limits)
        assert standing.spent_micro_usd == self.batch.cost_micro_usd == spent
        assert standing.held_micro_usd == self.batch.held_micro_usd


def _fields(struct: Any) -> dict[str, Any]:
    return {name: getattr(struct, name) for name in struct.__struct_fields__}


def _replaced(batch: Batch, **changes: Any) -> Batch:
    return Batch(**{**_fields(batch), **changes})
