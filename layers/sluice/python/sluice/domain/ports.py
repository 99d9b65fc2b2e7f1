"""What the use cases need of the outside world. Adapters implement these; tests use the fakes in ``sluice.testing``."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from sluice.domain.events import Change, EventV1
from sluice.domain.inference import ChatRequest, ChatResult, EmbeddingRequest, EmbeddingResult
from sluice.domain.jobs import AsyncJob, Claim, JobPointer
from sluice.domain.keys import ApiKey
from sluice.domain.request_log import RequestLogEntry
from sluice.domain.routing import RouteTable, Target
from sluice.domain.workflows import EngineStatus, Execution, StepRecord


class ModelProvider(Protocol):
    """A model provider. Both calls raise only :class:`~sluice.domain.errors.ProviderError` and its kinds."""

    def chat(self, target: Target, request: ChatRequest, *, timeout_s: float) -> ChatResult:
        """Continue the conversation, within ``timeout_s`` seconds."""
        ...

    def embed(self, target: Target, request: EmbeddingRequest, *, timeout_s: float) -> EmbeddingResult:
        """Embed every input, within ``timeout_s`` seconds."""
        ...


class RouteSource(Protocol):
    """Where aliases and targets come from."""

    def load(self) -> RouteTable:
        """The current routes; may be up to a minute old."""
        ...


class RequestLog(Protocol):
    """Where finished units of work are recorded."""

    def append(self, entry: RequestLogEntry) -> None:
        """Record the entry; the same ``request_id`` and ``started_at`` replace an earlier one."""
        ...


class KeyStore(Protocol):
    """Where API keys live, by hash."""

    def get(self, key_hash: str) -> ApiKey | None:
        """The key with this hash, or ``None``."""
        ...

    def create(self, key: ApiKey) -> None:
        """Store a new key."""
        ...

    def revoke(self, key_id: str, *, now: int) -> ApiKey:
        """Mark a key as revoked, whatever it was before. :raises NotFoundError: no such id."""
        ...


class ObjectStore(Protocol):
    """Bodies too large or too private for a table."""

    def put(self, key: str, body: bytes) -> None:
        """Store ``body`` under ``key``, replacing what was there."""
        ...

    def get(self, key: str) -> bytes:
        """The body under ``key``. :raises NotFoundError: there is none."""
        ...


class JobStore(Protocol):
    """Asynchronous requests. Every change is one conditional write."""

    def create(self, job: AsyncJob) -> None:
        """Store a new job."""
        ...

    def get(self, job_id: str) -> AsyncJob | None:
        """The job as last written, or ``None``."""
        ...

    def claim(self, job_id: str, *, now: int, lease_until: int, final_attempt: bool) -> Claim:
        """Try to take the job: ``in_progress``, one attempt more, leased.

        :raises NotFoundError: no such job (any more).
        """
        ...

    def settle(self, job: AsyncJob) -> None:
        """Store what became of attempt ``job.attempts``: completed, failed, or queued again. A repeat changes nothing.

        :raises StateConflictError: a later attempt has it, or it has another outcome already.
        """
        ...


class JobQueue(Protocol):
    """The queue between submit and worker."""

    def send(self, pointer: JobPointer, *, delay_s: int = 0) -> None:
        """Enqueue one pointer, to be received after ``delay_s`` seconds (at most 900)."""
        ...

    def delay(self, receipt_handle: str, *, seconds: int) -> None:
        """Make a received message visible again after ``seconds`` instead of the queue's own timeout."""
        ...


class ExecutionStore(Protocol):
    """Workflow executions and their steps."""

    def create(self, execution: Execution, steps: Sequence[StepRecord]) -> None:
        """Store a new execution; ``steps`` is what is known of its steps."""
        ...

    def get(self, execution_id: str) -> tuple[Execution, tuple[StepRecord, ...]] | None:
        """The execution and its steps in order, as last written, or ``None``."""
        ...

    def record_step(self, execution: Execution, step: StepRecord) -> None:
        """Store what is known of a step, replacing what was.

        :raises StateConflictError: it has succeeded already, which nothing replaces.
        """
        ...

    def finish(self, execution: Execution) -> None:
        """Store a terminal status once; a repeat changes nothing, whatever it says."""
        ...


class WorkflowEngine(Protocol):
    """What runs executions."""

    def start(self, execution: Execution) -> None:
        """Start it; starting the same execution again changes nothing."""
        ...

    def status(self, execution_id: str) -> EngineStatus | None:
        """The engine's own view. ``None``: it does not know the execution."""
        ...


class EventBus(Protocol):
    """Where events go."""

    def publish(self, events: Sequence[EventV1]) -> Sequence[int]:
        """Publish all; the indexes of those that were not accepted and may be sent again."""
        ...


class ChangeReader(Protocol):
    """What turns a record of the table's stream into a change of the domain."""

    def read(self, record: Mapping[str, Any]) -> Change | None:
        """The change, or ``None`` when the record is of no interest. :raises ValueError: it cannot be understood."""
        ...
