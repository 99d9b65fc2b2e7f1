"""What is written to the table is announced on the bus: the stream's own records, through the real bus."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from sluice.adapters.dynamodb_audit import DynamoDBAudit
from sluice.adapters.dynamodb_batches import DynamoDBBatches
from sluice.adapters.dynamodb_executions import DynamoDBExecutions
from sluice.adapters.dynamodb_jobs import DynamoDBJobs
from sluice.adapters.dynamodb_keys import DynamoDBKeys
from sluice.adapters.dynamodb_request_log import DynamoDBRequestLog
from sluice.adapters.dynamodb_stream import DynamoDBStream
from sluice.adapters.eventbridge import EventBridge
from sluice.domain.audit import Administrator, AdminVerb
from sluice.domain.batches import Batch, BatchEndpoint, BatchError, BatchStatus, Chunk
from sluice.domain.events import EventCounts, EventError, EventV1
from sluice.domain.ids import new_id
from sluice.domain.inference import Mode, Operation, Usage
from sluice.domain.jobs import AsyncJob, Failure, JobAnswer, JobStatus
from sluice.domain.keys import KeySettings, hash_secret
from sluice.domain.ledger import Limits
from sluice.domain.ports import EventBus
from sluice.domain.request_log import Outcome, RequestLogEntry
from sluice.domain.workflows import Execution, ExecutionStatus, StepRecord, StepStatus
from sluice.services.manage_keys import ManageKeys
from sluice.services.publish_events import PublishEvents, event_of
from sluice.testing.events import FakeBus
from tests.contract.state.conftest import Aws

NOW = 1_700_000_000
WHY = Failure(code="provider_timeout", message="It took too long.", type="server_error", step=1)
USAGE = Usage(input_tokens=7, output_tokens=3)


# ---- the bus ----


@dataclass
class Both:
    """A bus and its subscriber."""

    bus: EventBus
    received: Callable[[], list[dict[str, Any]]]


@pytest.fixture(params=["fake", "real"])
def both(request: pytest.FixtureRequest) -> Both:
    if request.param == "fake":
        fake = FakeBus()
        return Both(fake, lambda: [json.loads(json.dumps(_plain(event))) for event in fake.events])
    aws: Aws = request.getfixturevalue("aws")
    name, queue = aws.bus()
    sqs = aws.client("sqs")

    def received() -> list[dict[str, Any]]:
        seen: list[dict[str, Any]] = []
        while messages := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=1).get(
            "Messages"
        ):
            seen += [json.loads(message["Body"])["detail"] for message in messages]
        return seen

    return Both(EventBridge(aws.client("events"), name), received)


def _plain(event: EventV1) -> object:
    return msgspec.to_builtins(event)


def event(number: int, *, message: str = "") -> EventV1:
    return EventV1(
        schema_version="1.0",
        id=f"evt_{number}",
        type="sluice.inference.completed",
        time="2026-01-01T00:00:00.000Z",
        environment="test",
        key_id="key_1",
        mode=Mode.SYNC,
        resource_id=f"request-{number}",
        status="completed",
        model=message or None,
    )


@pytest.mark.parametrize("count", [0, 1, 10, 11, 25])
def test_every_event_is_delivered_once(both: Both, count: int) -> None:
    assert list(both.bus.publish([event(number) for number in range(count)])) == []
    assert sorted(detail["id"] for detail in both.received()) == sorted(f"evt_{number}" for number in range(count))


def test_large_events_are_sent_in_calls_that_are_not_too_large(both: Both) -> None:
    assert list(both.bus.publish([event(number, message="x" * 100_000) for number in range(5)])) == []
    assert len(both.received()) == 5


# ---- the stream ----


class Stream:
    """Reads the table's stream the way Lambda hands it over."""

    def __init__(self, aws: Aws) -> None:
        self.table, self._arn = aws.table()
        self._streams = aws.client("dynamodbstreams")

    def records(self) -> list[dict[str, Any]]:
        """Every record so far."""
        shards = self._streams.describe_stream(StreamArn=self._arn)["StreamDescription"]["Shards"]
        found: list[dict[str, Any]] = []
        for shard in shards:
            iterator = self._streams.get_shard_iterator(
                StreamArn=self._arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
            )["ShardIterator"]
            found += self._streams.get_records(ShardIterator=iterator)["Records"]
        for record in found:
            at = record["dynamodb"]["ApproximateCreationDateTime"]
            record["dynamodb"]["ApproximateCreationDateTime"] = at.timestamp()
        return found

    def events(self) -> list[EventV1]:
        """What these records announce."""
        bus = FakeBus()
        assert PublishEvents(reader=DynamoDBStream(), bus=bus, environment="test").publish(self.records()) == []
        return bus.events


@pytest.fixture
def stream(aws: Aws) -> Stream:
    return Stream(aws)


def entry(outcome: Outcome = Outcome.COMPLETED, **fields: Any) -> RequestLogEntry:
    shape: dict[str, Any] = {
        "request_id": "request-1",
        "key_id": "key_1",
        "mode": Mode.SYNC,
        "operation": Operation.CHAT,
        "model": "auto",
        "outcome": outcome,
        "http_status": 200,
        "started_at": NOW + 0.25,
        "latency_ms": 321,
        "target": "bedrock/small",
        "unit": "unit-1",
    }
    return RequestLogEntry(**(shape | fields))


def job() -> AsyncJob:
    job_id = new_id("async")
    return AsyncJob(
        id=job_id,
        key_id="key_1",
        endpoint="/v1/chat/completions",
        model="auto",
        status=JobStatus.QUEUED,
        created_at=NOW,
        updated_at=NOW,
        expires_at=NOW + 86_400,
        request_key="key",
    )


def test_a_log_entry_is_read_back_as_it_was_written(stream: Stream) -> None:
    usage = Usage(input_tokens=7, output_tokens=3, cache_read_tokens=2)
    written = entry(usage=usage, cost_micro_usd=Decimal("1.25"), price_version="v1", attempts=1)
    DynamoDBRequestLog(stream.table, ttl_days=1).append(written)
    [change] = [DynamoDBStream().read(record) for record in stream.records()]
    assert change is not None
    assert (change.subject, change.before) == (written, None)
    assert abs(change.at - time.time()) < 60


def test_a_log_entry_is_announced_once_for_each_outcome(stream: Stream) -> None:
    log = DynamoDBRequestLog(stream.table, ttl_days=1)
    log.append(entry(Outcome.THROTTLED, error_code="provider_throttled"))
    log.append(entry(Outcome.THROTTLED, error_code="provider_throttled", latency_ms=999))
    log.append(entry(Outcome.COMPLETED, usage=USAGE, cost_micro_usd=Decimal(4)))
    throttled, completed = stream.events()
    assert throttled.type == "sluice.inference.throttled"
    assert throttled.error is not None
    assert throttled.error.code == "provider_throttled"
    assert throttled.cost_micro_usd is None
    assert (completed.type, completed.cost_micro_usd, completed.latency_ms) == ("sluice.inference.completed", "4", 321)
    assert throttled.id != completed.id


def test_a_job_is_announced_when_it_ends_and_again_after_a_redrive(stream: Stream) -> None:
    jobs, new = DynamoDBJobs(stream.table), job()
    jobs.create(new)
    for attempt in range(2):
        claim = jobs.claim(new.id, now=NOW + attempt, lease_until=NOW + attempt, final_attempt=False)
        jobs.settle(claim.job.released(WHY, now=NOW + 1))
    claim = jobs.claim(new.id, now=NOW + 2, lease_until=NOW + 2, final_attempt=True)
    jobs.settle(claim.job.failed(WHY, now=NOW + 3, permanent=False))
    claim = jobs.claim(new.id, now=NOW + 4, lease_until=NOW + 9, final_attempt=False)
    jobs.settle(claim.job.completed(JobAnswer(usage=USAGE, cost_micro_usd=Decimal("0.5")), now=NOW + 5))
    failed, completed = stream.events()
    assert (failed.type, failed.resource_id, failed.latency_ms) == ("sluice.async.failed", new.id, 3000)
    assert failed.error is not None
    assert failed.error.message == "It took too long."
    assert (completed.type, completed.error, completed.cost_micro_usd) == ("sluice.async.completed", None, "0.5")
    assert failed.id != completed.id


def test_a_batch_is_announced_when_it_ends_and_its_chunks_are_not(stream: Stream) -> None:
    store = DynamoDBBatches(stream.table)
    batch = Batch(
        id=new_id("batch"),
        key_id="key_1",
        endpoint=BatchEndpoint.EMBEDDINGS,
        input_file_id=new_id("file"),
        input_key="files/key_1/file",
        completion_window="24h",
        status=BatchStatus.VALIDATING,
        created_at=NOW,
        updated_at=NOW,
        expires_at=NOW + 9,
        forget_at=NOW + 99,
        callback_url="https://example.com/hook",
    )
    store.create(batch)
    claimed = store.claim(batch.id, [BatchStatus.VALIDATING], now=NOW, lease_until=NOW + 5)
    assert claimed is not None
    store.put_chunks(claimed, [Chunk(batch_id=batch.id, number=0, start=0, end=1, first_line=1, lines=1)])
    store.note(claimed, {"checkpoint": "x"}, now=NOW + 1, lease_until=NOW + 6)
    why = BatchError(code="empty_file", message="There is nothing in it.")
    store.finish(claimed, BatchStatus.FAILED, files=(), errors=[why], now=NOW + 2)
    [event] = stream.events()
    assert (event.type, event.mode, event.resource_id) == ("sluice.batch.failed", Mode.BATCH, batch.id)
    assert (event.latency_ms, event.callback, event.counts) == (2000, True, EventCounts(total=0, completed=0, failed=0))
    assert event.error == EventError(code="empty_file", message="There is nothing in it.")


def test_an_execution_is_announced_when_it_ends_and_its_steps_are_not(stream: Stream) -> None:
    executions = DynamoDBExecutions(stream.table)
    execution = Execution(
        id=new_id("exec"),
        key_id="key_1",
        workflow="chain",
        status=ExecutionStatus.RUNNING,
        step_count=1,
        created_at=NOW,
        expires_at=NOW + 9,
        input_key="key",
    )
    step = StepRecord(index=0, model="auto", status=StepStatus.PENDING)
    executions.create(execution, [step])
    executions.record_step(execution, step)
    executions.finish(execution.ended(ExecutionStatus.FAILED, now=NOW + 2, steps=[], error=WHY))
    [event] = stream.events()
    assert (event.type, event.status, event.mode) == ("sluice.workflow.failed", "failed", Mode.WORKFLOW)
    assert event.error is not None
    assert event.error.step == 1


def test_every_change_of_a_key_is_announced_with_who_made_it_and_without_a_secret(stream: Stream) -> None:
    administrator = Administrator(actor="arn:aws:iam::000000000000:user/ada", request_id="request-1")
    manage = ManageKeys(DynamoDBKeys(stream.table))
    key, first = manage.create(KeySettings(name="app", limits=Limits(rpm=5)), administrator)
    manage.update(key.id, lambda old: msgspec.structs.replace(old, limits=Limits(rpm=6)), administrator)
    _, second = manage.rotate(key.id, administrator, overlap_s=60)
    manage.revoke(key.id, administrator)
    manage.revoke(key.id, administrator)
    events = stream.events()
    assert [event.type for event in events] == [
        "sluice.key.created",
        "sluice.key.updated",
        "sluice.key.rotated",
        "sluice.key.revoked",
    ]
    assert {(event.key_id, event.resource_id, event.mode, event.actor) for event in events} == {
        (key.id, key.id, Mode.ADMIN, administrator.actor)
    }
    assert events[1].changes == {"rpm": "6"}
    assert len({event.id for event in events}) == 4
    told = repr(events)
    assert not any(part in told for secret in (first, second) for part in (secret, hash_secret(secret)))


def test_a_redrive_is_announced(stream: Stream) -> None:
    administrator = Administrator(actor="arn:aws:iam::000000000000:user/ada", request_id="request-1")
    action = administrator.did(AdminVerb.QUEUE_REDRIVEN, "async", at=NOW + 0.5, changes={"moved": "3"})
    DynamoDBAudit(stream.table).record(action)
    [event] = stream.events()
    assert (event.type, event.resource_id, event.key_id) == ("sluice.queue.redriven", "async", "-")
    assert (event.changes, event.time) == ({"moved": "3"}, "2023-11-14T22:13:20.500Z")


def test_the_same_records_read_again_give_the_same_ids(stream: Stream) -> None:
    DynamoDBRequestLog(stream.table, ttl_days=1).append(entry())
    reader = DynamoDBStream()
    ids = set()
    for record in stream.records() * 2:
        change = reader.read(record)
        assert change is not None
        event = event_of(change, environment="test")
        assert event is not None
        ids.add(event.id)
    assert len(ids) == 1
