"""Tell the bus what happened, from the table's own stream: what is stored is announced, and nothing else is.

That is the end of every unit of work, and every change that an administrator made.
"""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from sluice.domain.audit import AdminAction
from sluice.domain.batches import ENDED, Batch, BatchError, BatchStatus
from sluice.domain.events import NO_KEY, SCHEMA_VERSION, Change, EventCounts, EventError, EventUsage, EventV1
from sluice.domain.inference import Mode, Usage
from sluice.domain.jobs import AsyncJob, Failure, JobStatus
from sluice.domain.ports import ChangeReader, EventBus
from sluice.domain.request_log import RequestLogEntry
from sluice.domain.workflows import Execution, ExecutionStatus
from sluice.telemetry import logs, metrics

MAX_ROUNDS: Final = 3
PAUSE_S: Final = 0.2
_log = logs.get_logger()


@dataclass(frozen=True)
class PublishEvents:
    """Publishes one event for each change of a batch that ends a unit of work, or tells what an administrator did."""

    reader: ChangeReader
    bus: EventBus
    environment: str
    sleep: Callable[[float], None] = time.sleep

    def publish(self, records: Sequence[Mapping[str, Any]]) -> list[str]:
        """The sequence numbers of the records whose events the bus would not take, in the order of the stream.

        :raises StateError: the bus cannot be reached; the whole batch has to come again.
        """
        pending = [found for record in records if (found := self._event(record)) is not None]
        for attempt in range(MAX_ROUNDS):
            if not pending:
                break
            if attempt:
                self.sleep(PAUSE_S * 2**attempt)
            refused = self.bus.publish([event for _, event in pending])
            pending = [pending[index] for index in refused]
        logs.canonical(records=len(records), refused=len(pending))
        return [change.sequence for change, _ in pending]

    def _event(self, record: Mapping[str, Any]) -> tuple[Change, EventV1] | None:
        try:
            change = self.reader.read(record)
            event = None if change is None else event_of(change, environment=self.environment)
        except ValueError as exc:
            # No repeat can mend it, and it must not hold up every later event of its shard.
            _log.error("events.unreadable_record", sequence=_sequence(record), **logs.describe(exc))
            metrics.emit(UnreadableRecords=1)
            return None
        return None if change is None or event is None else (change, event)


def event_of(change: Change, *, environment: str) -> EventV1 | None:
    """The event that announces a change, or ``None`` when it ends nothing."""
    subject = change.subject
    status = subject.outcome if isinstance(subject, RequestLogEntry) else subject.status
    if status == change.before or status in _UNFINISHED:
        return None
    event_id = "evt_" + hashlib.sha256(f"{change.key}|{status}|{change.sequence}".encode()).hexdigest()[:32]
    if isinstance(subject, RequestLogEntry):
        return _of_request(subject, change.at, event_id, environment)
    if isinstance(subject, AsyncJob):
        return _of_job(subject, event_id, environment)
    if isinstance(subject, Batch):
        return _of_batch(subject, event_id, environment)
    if isinstance(subject, AdminAction):
        return _of_action(subject, event_id, environment)
    return _of_execution(subject, event_id, environment)


_UNFINISHED: Final = frozenset(
    {JobStatus.QUEUED, JobStatus.IN_PROGRESS, ExecutionStatus.RUNNING} | (frozenset(BatchStatus) - ENDED)
)


def _of_request(entry: RequestLogEntry, at: float, event_id: str, environment: str) -> EventV1:
    return EventV1(
        schema_version=SCHEMA_VERSION,
        id=event_id,
        type=f"sluice.inference.{entry.outcome.value}",
        time=_rfc3339(at),
        environment=environment,
        key_id=entry.key_id,
        mode=entry.mode,
        resource_id=entry.request_id,
        status=entry.outcome.value,
        model=entry.model,
        target=entry.target,
        usage=_usage(entry.usage),
        cost_micro_usd=_decimal(entry.cost_micro_usd),
        latency_ms=entry.latency_ms,
        error=None if entry.error_code is None else EventError(code=entry.error_code),
        requests=entry.requests,
    )


def _of_job(job: AsyncJob, event_id: str, environment: str) -> EventV1:
    ended = job.completed_at or job.cancelled_at or job.updated_at
    return EventV1(
        schema_version=SCHEMA_VERSION,
        id=event_id,
        type=f"sluice.async.{job.status.value}",
        time=_rfc3339(ended),
        environment=environment,
        key_id=job.key_id,
        mode=Mode.ASYNC,
        resource_id=job.id,
        status=job.status.value,
        model=job.model,
        usage=_usage(job.usage),
        cost_micro_usd=_decimal(job.cost_micro_usd),
        latency_ms=(ended - job.created_at) * 1000,
        error=_error(job.error),
        callback=job.callback_url is not None,
    )


def _of_batch(batch: Batch, event_id: str, environment: str) -> EventV1:
    return EventV1(
        schema_version=SCHEMA_VERSION,
        id=event_id,
        type=f"sluice.batch.{batch.status.value}",
        # Nothing is written to a batch that has ended.
        time=_rfc3339(batch.updated_at),
        environment=environment,
        key_id=batch.key_id,
        mode=Mode.BATCH,
        resource_id=batch.id,
        status=batch.status.value,
        model=batch.model,
        usage=_usage(batch.usage),
        cost_micro_usd=_decimal(batch.cost_micro_usd),
        latency_ms=(batch.updated_at - batch.created_at) * 1000,
        error=_first(batch.errors),
        counts=EventCounts(total=batch.lines, completed=batch.completed, failed=batch.failed),
        callback=batch.callback_url is not None,
    )


def _first(errors: Sequence[BatchError]) -> EventError | None:
    """What is wrong with a batch. Words about a single line may quote it, so they are left to its owner."""
    if not errors:
        return None
    first = errors[0]
    return EventError(code=first.code, message=first.message[:1000] if first.line is None else None)


def _of_execution(execution: Execution, event_id: str, environment: str) -> EventV1:
    ended = execution.completed_at or execution.created_at
    status = "completed" if execution.status is ExecutionStatus.SUCCEEDED else "failed"
    return EventV1(
        schema_version=SCHEMA_VERSION,
        id=event_id,
        type=f"sluice.workflow.{status}",
        time=_rfc3339(ended),
        environment=environment,
        key_id=execution.key_id,
        mode=Mode.WORKFLOW,
        resource_id=execution.id,
        status=status,
        usage=_usage(execution.usage),
        cost_micro_usd=_decimal(execution.cost_micro_usd),
        latency_ms=(ended - execution.created_at) * 1000,
        error=_error(execution.error),
    )


def _of_action(action: AdminAction, event_id: str, environment: str) -> EventV1:
    is_about_key = action.verb.value.startswith("key.")
    return EventV1(
        schema_version=SCHEMA_VERSION,
        id=event_id,
        type=f"sluice.{action.verb.value}",
        time=_rfc3339(action.at),
        environment=environment,
        key_id=action.subject if is_about_key else NO_KEY,
        mode=Mode.ADMIN,
        resource_id=action.subject,
        status=action.status,
        actor=action.actor,
        changes=action.changes,
    )


def _usage(usage: Usage | None) -> EventUsage | None:
    return None if usage is None else EventUsage(input_tokens=usage.input_tokens, output_tokens=usage.output_tokens)


def _error(failure: Failure | None) -> EventError | None:
    if failure is None:
        return None
    return EventError(code=failure.code, message=failure.message[:1000], step=failure.step)


def _decimal(value: Decimal | None) -> str | None:
    return None if value is None else f"{value:f}"


def _rfc3339(epoch_s: float) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _sequence(record: Mapping[str, Any]) -> object:
    body = record.get("dynamodb")
    return body.get("SequenceNumber") if isinstance(body, Mapping) else None
