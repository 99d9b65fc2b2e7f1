"""What the tests of the durable modes share: a clock, a scripted model, and both modes wired with fakes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

import msgspec

from sluice.domain.deadline import Deadline
from sluice.domain.deliveries import QueueName
from sluice.domain.errors import SluiceError
from sluice.domain.inference import (
    Caller,
    ChatRequest,
    ChatResult,
    FinishReason,
    Operation,
    Usage,
)
from sluice.domain.jobs import JobPointer
from sluice.domain.keys import ApiKey
from sluice.domain.ports import ModelProvider
from sluice.domain.pricing import Price
from sluice.domain.routing import Target
from sluice.domain.workflows import CaughtError, ChainDefinition, ChainState, ChainStep, ExecutionView
from sluice.runtime.endpoints import CHAT_COMPLETIONS, InferenceEndpoints
from sluice.services.consume import Consumer
from sluice.services.finish_workflow import FinishWorkflow
from sluice.services.infer import Inference, RetryPolicy
from sluice.services.key_holders import KeyHolders
from sluice.services.read_job import ReadJob
from sluice.services.read_workflow import ReadWorkflow
from sluice.services.run_job import RunJob
from sluice.services.run_workflow_step import RunWorkflowStep
from sluice.services.start_workflow import StartWorkflow
from sluice.services.submit_job import SubmitJob
from sluice.testing.clock import FakeClock
from sluice.testing.dead_letters import FakeDeadLetterReasons
from sluice.testing.jobs import FakeJobs
from sluice.testing.keys import FakeKeys
from sluice.testing.ledger import FakeLedger
from sluice.testing.objects import FakeObjects
from sluice.testing.queues import FakeQueue
from sluice.testing.request_log import FakeRequestLog
from sluice.testing.routes import FakeRoutes, alias, target
from sluice.testing.target_states import healthy
from sluice.testing.workflows import FakeEngine, FakeExecutions

CALLER = Caller(key_id="key_1", request_id="request-1")
KEY = ApiKey(id="key_1", key_hash="hash-1", prefix="sk-sluice-abcd", name="tests", created_at=1)
BODY: Mapping[str, object] = {"model": "auto", "messages": [{"role": "user", "content": "a secret question"}]}
NOW = 1_700_000_000.0
ATTEMPTS = 5
TARGET = target(
    "bedrock/small",
    price=Price(version="1", input_per_mtok=Decimal("0.25"), output_per_mtok=Decimal(1)),
    operations=(Operation.CHAT,),
)
UNPRICED = target("bedrock/free", price=None, operations=(Operation.CHAT,))
EMBEDDER = target("bedrock/embedder", operations=(Operation.EMBED, Operation.CLASSIFY))


def routes() -> FakeRoutes:
    return FakeRoutes(TARGET, UNPRICED, EMBEDDER, alias("auto", TARGET.name))


class Clock(FakeClock):
    """Wall clock and monotonic clock in one."""

    def __init__(self) -> None:
        super().__init__(NOW)

    def deadline(self, seconds: float = 60) -> Deadline:
        return Deadline.after(seconds, self)


class Model(ModelProvider):
    """Answers with ``text`` and ``refusal``, or raises ``error``; ``before`` is called with each request."""

    def __init__(self) -> None:
        self.text = "an answer"
        self.refusal: str | None = None
        self.error: Exception | None = None
        self.before: Callable[[ChatRequest], None] = lambda _: None
        self.requests: list[ChatRequest] = []

    def chat(self, target: Target, request: ChatRequest, *, timeout_s: float) -> ChatResult:
        self.requests.append(request)
        self.before(request)
        if self.error is not None:
            raise self.error
        usage = Usage(input_tokens=8, output_tokens=2)
        return ChatResult(text=self.text, finish_reason=FinishReason.STOP, usage=usage, refusal=self.refusal)


def inference(model: Model, log: FakeRequestLog, ledger: FakeLedger, clock: Clock) -> Inference:
    return Inference(
        routes=routes(),
        providers={"bedrock": model},
        request_log=log,
        ledger=ledger,
        watch=healthy(),
        policy=RetryPolicy(max_attempts=1),
        http_status=lambda _: 500,
        now=clock,
        clock=clock,
        sleep=clock.sleep,
        jitter=lambda _, high: high,
    )


@dataclass
class Batch:
    """The whole batch mode on fakes, with a queue that behaves as SQS does."""

    clock: Clock = field(default_factory=Clock)
    model: Model = field(default_factory=Model)
    log: FakeRequestLog = field(default_factory=FakeRequestLog)
    keys: FakeKeys = field(default_factory=lambda: FakeKeys(KEY))
    objects: FakeObjects = field(default_factory=FakeObjects)
    jobs: FakeJobs = field(default_factory=FakeJobs)
    reasons: FakeDeadLetterReasons = field(default_factory=FakeDeadLetterReasons)

    def __post_init__(self) -> None:
        self.ledger = FakeLedger(self.log, now=self.clock)
        self.queue = FakeQueue(JobPointer, clock=self.clock, max_receive_count=ATTEMPTS + 1)
        self.submit = SubmitJob(
            endpoints=InferenceEndpoints(),
            routes=routes(),
            objects=self.objects,
            jobs=self.jobs,
            queue=self.queue,
            result_ttl_days=30,
            clock=self.clock,
        )
        self.worker = RunJob(
            endpoints=InferenceEndpoints(inference(self.model, self.log, self.ledger, self.clock)),
            holders=KeyHolders(self.keys, now=self.clock, clock=self.clock),
            objects=self.objects,
            jobs=self.jobs,
            consumer=Consumer(
                queue=self.queue,
                reasons=self.reasons,
                queue_name=QueueName.ASYNC,
                max_receive_count=ATTEMPTS,
                retry_base_s=2,
                start_needs_s=20,
                clock=self.clock,
                jitter=lambda _, high: high,
            ),
            clock=self.clock,
            jitter=lambda _, high: high,
        )
        self.reader = ReadJob(jobs=self.jobs, objects=self.objects, clock=self.clock)

    def submitted(self, body: Mapping[str, object] = BODY, *, endpoint: str = CHAT_COMPLETIONS) -> str:
        return self.submit.submit(endpoint, json.dumps(body).encode(), CALLER).id

    def deliver(self, *, seconds: float = 60) -> list[str]:
        """One invocation of the worker on everything visible; the ids it reported as failed."""
        deliveries = self.queue.receive()
        reported = self.worker.run(deliveries, self.clock.deadline(seconds))
        self.queue.acknowledge(deliveries, except_for=reported)
        return reported

    def deliver_until_quiet(self) -> None:
        """Deliver, letting the longest delay pass each time, until the queue is empty."""
        for _ in range(20):
            self.deliver()
            if not self.queue.bodies:
                return
            self.clock.advance(self.queue.visibility_s)
        raise AssertionError("The queue never became empty.")


def steps(*prompts: str) -> ChainDefinition:
    return ChainDefinition(steps=tuple(ChainStep(prompt=prompt, model="auto") for prompt in prompts), input="the text")


@dataclass
class Chain:
    """The whole workflow mode on fakes."""

    clock: Clock = field(default_factory=Clock)
    model: Model = field(default_factory=Model)
    log: FakeRequestLog = field(default_factory=FakeRequestLog)
    keys: FakeKeys = field(default_factory=lambda: FakeKeys(KEY))
    objects: FakeObjects = field(default_factory=FakeObjects)
    executions: FakeExecutions = field(default_factory=FakeExecutions)
    engine: FakeEngine = field(default_factory=FakeEngine)

    def __post_init__(self) -> None:
        self.ledger = FakeLedger(self.log, now=self.clock)
        self.starter = StartWorkflow(
            routes=routes(),
            objects=self.objects,
            executions=self.executions,
            engine=self.engine,
            result_ttl_days=30,
            clock=self.clock,
        )
        self.runner = RunWorkflowStep(
            inference=inference(self.model, self.log, self.ledger, self.clock),
            holders=KeyHolders(self.keys, now=self.clock, clock=self.clock),
            objects=self.objects,
            executions=self.executions,
            clock=self.clock,
            jitter=lambda _, high: high,
        )
        self.finisher = FinishWorkflow(executions=self.executions, clock=self.clock)
        self.reader = ReadWorkflow(
            executions=self.executions, objects=self.objects, engine=self.engine, clock=self.clock
        )

    def start(self, definition: ChainDefinition) -> ChainState:
        execution, _ = self.starter.start("chain", definition, CALLER)
        return ChainState(execution_id=execution.id, key_id=CALLER.key_id, step_count=len(definition.steps), index=0)

    def step(self, state: ChainState) -> ChainState:
        return self.runner.run(state, self.clock.deadline())

    def run(self, definition: ChainDefinition, *, tries: int = 3) -> ExecutionView:
        """What the state machine does."""
        state = self.start(definition)
        while state.outcome in (None, "continue", "wait") and state.failure is None:
            state = self._tried(state, tries)
        self.finisher.finish(state)
        return self.read(state)

    def read(self, state: ChainState) -> ExecutionView:
        return self.reader.read(state.execution_id, CALLER)

    def _tried(self, state: ChainState, tries: int) -> ChainState:
        for left in reversed(range(tries)):
            self.clock.advance(1)
            try:
                state = self.step(state)
                self.clock.advance(state.wait_seconds or 0)
                return state
            except SluiceError as exc:
                if not left:
                    cause = json.dumps({"errorType": "Runtime.HandlerError", "errorMessage": f"a secret: {exc}"})
                    return msgspec.structs.replace(
                        state, failure=CaughtError(error="Runtime.HandlerError", cause=cause)
                    )
        raise AssertionError("unreachable")
