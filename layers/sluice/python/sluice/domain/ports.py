"""What the use cases need of the outside world. Adapters implement these; tests use the fakes in ``sluice.testing``."""

from collections.abc import Generator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any, Protocol

from sluice.domain.audit import AdminAction
from sluice.domain.caching import CachedAnswer
from sluice.domain.errors import ProviderAuthError
from sluice.domain.events import Change, EventV1
from sluice.domain.inference import ChatDelta, ChatRequest, ChatResult, EmbeddingRequest, EmbeddingResult
from sluice.domain.jobs import AsyncJob, Claim, JobPointer
from sluice.domain.keys import ApiKey
from sluice.domain.ledger import Ask, Hold, Limits, Spent, Standing
from sluice.domain.redrive import DeadLetter
from sluice.domain.replay import ReplayClaim, StoredResponse
from sluice.domain.request_log import RequestLogEntry
from sluice.domain.resilience import Circuit, Health, TargetState
from sluice.domain.routing import RouteTable, Target
from sluice.domain.scoring import ScoreRequest, ScoreResult
from sluice.domain.usage import DayUsage, LogPartition, UsageChange
from sluice.domain.workflows import EngineStatus, Execution, StepRecord


class ModelProvider(Protocol):
    """A model provider. Every call raises only :class:`~sluice.domain.errors.ProviderError` and its kinds.

    Hardly any provider does everything: an adapter that inherits from this refuses what it does not define.
    """

    def chat(self, target: Target, request: ChatRequest, *, timeout_s: float) -> ChatResult:
        """Continue the conversation, within ``timeout_s`` seconds."""
        raise _not_offered(target)

    def stream(self, target: Target, request: ChatRequest, *, timeout_s: float) -> Generator[ChatDelta, None, None]:
        """Continue the conversation piece by piece, waiting ``timeout_s`` seconds at most for any of them.

        Who iterates keeps the deadline of the whole. Nothing is sent before the first piece is asked for. A stream
        that ends without a :class:`~sluice.domain.inference.StreamEnd` does not exist: it raises instead, before the
        first piece or after any. Closing the generator closes the connection.
        """
        raise _not_offered(target)

    def embed(self, target: Target, request: EmbeddingRequest, *, timeout_s: float) -> EmbeddingResult:
        """Embed every input, within ``timeout_s`` seconds."""
        raise _not_offered(target)

    def score(self, target: Target, request: ScoreRequest, *, timeout_s: float) -> ScoreResult:
        """Score every row, within ``timeout_s`` seconds for all of them."""
        raise _not_offered(target)


def _not_offered(target: Target) -> ProviderAuthError:
    return ProviderAuthError(
        f"The provider of '{target.name}' cannot do this: its route is wrong.",
        target=target.name,
        code="provider_operation_unsupported",
    )


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


class TargetStates(Protocol):
    """What all containers know together of the targets' health. Every change is one compare-and-swap."""

    def read(self, names: Sequence[str]) -> Mapping[str, TargetState]:
        """What is stored of these targets; one that nothing is stored of is left out. May be a moment old."""
        ...

    def swap_circuit(self, name: str, circuit: Circuit, *, version: str | None) -> tuple[bool, TargetState]:
        """Store ``circuit`` if what is stored is still ``version`` (``None``: nothing).

        Whether it was, and what is stored now; of the state only the circuit and its version are meant.
        """
        ...

    def swap_health(self, name: str, health: Health, *, version: str | None) -> tuple[bool, TargetState]:
        """As :meth:`swap_circuit`, for the health."""
        ...


class Ledger(Protocol):
    """What keys may use and have used. Every admission is one atomic write, however many callers race."""

    def reserve(self, key_id: str, limits: Limits, ask: Ask, *, until: float) -> Hold:
        """Hold the most that a request can come to, until it is settled or ``until`` (epoch seconds) has passed.

        :raises LimitError: it does not fit, not even with its least output; everything is as it was.
        """
        ...

    def extend(self, hold: Hold, limits: Limits, cost_micro_usd: Decimal) -> Hold:
        """Hold this much money more, for another call that the same request needs.

        :raises BudgetExceededError: it does not fit; ``hold`` is as it was.
        """
        ...

    def settle(self, hold: Hold, spent: Spent) -> None:
        """Replace the hold by what was really used. To be called once, after the request log has the entry."""
        ...

    def standing(self, key_id: str, limits: Limits) -> Standing:
        """How the key stands now; what expired holds left behind is settled first."""
        ...


class AnswerStore(Protocol):
    """Answers to be given again, by key and fingerprint. What has expired is not there."""

    def get(self, key_id: str, fingerprint: str, *, now: float) -> CachedAnswer | None:
        """The answer, or ``None``."""
        ...

    def put(self, key_id: str, fingerprint: str, answer: CachedAnswer) -> None:
        """Store the answer, replacing one that is there."""
        ...


class ReplayStore(Protocol):
    """Responses to requests that carried an Idempotency-Key, by API key and the hash of that key."""

    def begin(self, claim: ReplayClaim, *, now: float) -> StoredResponse | None:
        """Claim the key for this request; or the response it got before.

        :raises RequestInFlightError: another request has claimed it and is still within its time.
        :raises IdempotencyMismatchError: it belongs to a request with another fingerprint.
        """
        ...

    def complete(self, claim: ReplayClaim, response: StoredResponse) -> None:
        """Keep the response for whoever repeats the request. Changes nothing if the claim has been lost."""
        ...

    def release(self, claim: ReplayClaim) -> None:
        """Give the claim back: the request may be made again. Changes nothing if the claim has been lost."""
        ...


class KeyStore(Protocol):
    """Where API keys live, by hash. Changes carry an :class:`~sluice.domain.audit.AdminAction`, stored with them."""

    def get(self, key_hash: str) -> ApiKey | None:
        """The key with this hash, or ``None``."""
        ...

    def by_id(self, key_id: str) -> tuple[ApiKey, ...]:
        """Every secret of the key with this id, the newest first; none when there is no such key."""
        ...

    def page(self, *, limit: int, after: str | None) -> tuple[tuple[ApiKey, ...], str | None]:
        """Keys in order of their ids, each once (its newest secret); and the ``after`` of the next page, if any."""
        ...

    def create(self, key: ApiKey, action: AdminAction) -> None:
        """Store a new key."""
        ...

    def replace(self, keys: Sequence[ApiKey], action: AdminAction, *, added: ApiKey | None = None) -> None:
        """Store what has become of every secret of a key (and one more, ``added``) in one transaction.

        :raises NotFoundError: one of them is not there any more.
        :raises StateConflictError: one of them has been changed: its ``version`` is not below the new one.
        """
        ...


class AuditLog(Protocol):
    """Where is kept what administrators did, besides the changes that carry their own record."""

    def record(self, action: AdminAction) -> None:
        """Keep a record of the action."""
        ...


class DeadLetters(Protocol):
    """A queue's messages that nobody could work off, and the way back for them."""

    def now_ms(self) -> int:
        """The time by the queue's own clock, in milliseconds since 1970; never before this call."""
        ...

    def receive(self) -> Sequence[DeadLetter]:
        """A few of them, hidden from others for a while; none when there are no more."""
        ...

    def move(self, letter: DeadLetter) -> None:
        """Put a received one back into its queue. One that is interrupted may be there twice, but is never lost."""
        ...

    def release(self, letter: DeadLetter) -> None:
        """Leave a received one where it is, for anybody to see."""
        ...


class UsageStore(Protocol):
    """What was used, added up from the request log a moment after it was written, every entry exactly once."""

    def record(self, partition: LogPartition, changes: Sequence[UsageChange]) -> None:
        """Add what these changes of one partition (in their order) add, less those that were added before."""
        ...

    def of_key(self, key_id: str, days: Sequence[date]) -> list[DayUsage]:
        """What the key used on these days, by day; days without any use are left out."""
        ...

    def of_day(self, day: date) -> list[DayUsage]:
        """What every key used on this day, by key."""
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
