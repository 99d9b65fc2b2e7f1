from __future__ import annotations

import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from sluice.adapters import dynamodb_audit, dynamodb_batches, dynamodb_executions, dynamodb_jobs, dynamodb_request_log
from sluice.adapters.dynamodb import to_item, to_values
from sluice.adapters.dynamodb_stream import DynamoDBStream
from sluice.domain.audit import AdminAction, AdminVerb
from sluice.domain.batches import ENDED, Batch, BatchEndpoint, BatchError, BatchStatus
from sluice.domain.errors import StateError
from sluice.domain.events import EventV1
from sluice.domain.inference import Mode, Operation, Usage
from sluice.domain.jobs import AsyncJob, Failure, JobStatus
from sluice.domain.request_log import Outcome, RequestLogEntry
from sluice.domain.workflows import Execution, ExecutionStatus
from sluice.services.publish_events import PublishEvents
from sluice.testing.events import FakeBus

ROOT = Path(__file__).resolve().parents[4]
SCHEMA = json.loads((ROOT / "docs" / "events" / "v1.schema.json").read_text())
GUIDE = (ROOT / "docs" / "events.md").read_text()
NOW = 1_795_219_200
WHY = Failure(code="provider_timeout", message="It took too long.", type="server_error", step=1)
USAGE = Usage(input_tokens=42, output_tokens=9)

ENTRY = RequestLogEntry(
    request_id="5b1f7a52-0c5e-4a38-9d0a-6f6f3c1f2a11",
    key_id="key_0f1e2d3c4b5a69780f1e2d3c4b5a6978",
    mode=Mode.SYNC,
    operation=Operation.CHAT,
    model="auto",
    outcome=Outcome.COMPLETED,
    http_status=200,
    started_at=NOW,
    latency_ms=412,
    target="bedrock/extractive-v1",
    usage=USAGE,
    cost_micro_usd=Decimal("21.75"),
    attempts=1,
    # The id of an event follows from where its entry is.
    unit="5b1f7a52-0c5e-4a38-9d0a-6f6f3c1f2a11",
)
JOB = AsyncJob(
    id="async_" + "0" * 32,
    key_id="key_0f1e2d3c4b5a69780f1e2d3c4b5a6978",
    endpoint="/v1/chat/completions",
    model="auto",
    status=JobStatus.FAILED,
    created_at=NOW,
    updated_at=NOW + 3,
    expires_at=NOW + 86_400,
    request_key="key",
    completed_at=NOW + 3,
    error=msgspec.structs.replace(WHY, step=None),
)
EXECUTION = Execution(
    id="exec_" + "0" * 32,
    key_id="key_0f1e2d3c4b5a69780f1e2d3c4b5a6978",
    workflow="chain",
    status=ExecutionStatus.FAILED,
    step_count=2,
    created_at=NOW,
    expires_at=NOW + 86_400,
    input_key="key",
    completed_at=NOW + 5,
    usage=USAGE,
    error=WHY,
)

BATCH = Batch(
    id="batch_" + "0" * 32,
    key_id="key_0f1e2d3c4b5a69780f1e2d3c4b5a6978",
    endpoint=BatchEndpoint.EMBEDDINGS,
    input_file_id="file_" + "0" * 32,
    input_key="key",
    completion_window="24h",
    status=BatchStatus.COMPLETED,
    created_at=NOW,
    updated_at=NOW + 90,
    expires_at=NOW + 86_400,
    forget_at=NOW + 864_000,
    model="embed-static",
    chunks=2,
    lines=10,
    completed=7,
    failed=3,
    usage=USAGE,
    cost_micro_usd=Decimal("1.5"),
    completed_at=NOW + 90,
)
ACTION = AdminAction(
    id="act_" + "0" * 32,
    verb=AdminVerb.KEY_UPDATED,
    actor="arn:aws:sts::000000000000:assumed-role/operators/ada",
    subject="key_0f1e2d3c4b5a69780f1e2d3c4b5a6978",
    at=NOW + 0.25,
    request_id="5b1f7a52-0c5e-4a38-9d0a-6f6f3c1f2a11",
    changes={"rpm": "120", "monthly_budget_micro_usd": "none"},
)


class Stream:
    """Makes records as Lambda hands them over."""

    def __init__(self) -> None:
        self._sequence = 0

    def record(self, name: str, new: dict[str, Any] | None, old: dict[str, Any] | None = None) -> dict[str, Any]:
        self._sequence += 1
        item = new or old or {}
        body: dict[str, Any] = {
            "ApproximateCreationDateTime": float(NOW),
            "Keys": to_item({"pk": item.get("pk"), "sk": item.get("sk")}),
            "SequenceNumber": f"{self._sequence:021d}",
        }
        body |= {"NewImage": to_item(new)} if new else {}
        body |= {"OldImage": to_item(old)} if old else {}
        return {"eventName": name, "dynamodb": body}


def logged(entry: RequestLogEntry) -> dict[str, Any]:
    return dict(dynamodb_request_log.to_item(entry, expires_at=NOW))


def recorded(action: AdminAction) -> dict[str, Any]:
    return dict(dynamodb_audit.to_item(action))


def job_item(job: AsyncJob) -> dict[str, Any]:
    return {"pk": f"{dynamodb_jobs.PREFIX}{job.id}", "sk": "META", **to_values(job)}


def execution_item(execution: Execution, sk: str = "META") -> dict[str, Any]:
    return {"pk": f"{dynamodb_executions.PREFIX}{execution.id}", "sk": sk, **to_values(execution)}


class Publisher:
    """The service with a bus in memory and no pauses."""

    def __init__(self) -> None:
        self.bus = FakeBus()
        self.pauses: list[float] = []
        self._service = PublishEvents(
            reader=DynamoDBStream(), bus=self.bus, environment="prod", sleep=self.pauses.append
        )

    def publish(self, *records: dict[str, Any]) -> list[str]:
        return self._service.publish(records)

    def one(self, record: dict[str, Any]) -> EventV1:
        assert self.publish(record) == []
        [event] = self.bus.events
        return event


def detail(event: EventV1) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(msgspec.json.encode(event))
    jsonschema.validate(plain, SCHEMA)
    return plain


def test_a_finished_request_is_announced_as_the_guide_shows() -> None:
    event = Publisher().one(Stream().record("INSERT", logged(ENTRY)))
    [example] = re.findall(r"```json\n(\{.*?\n\})\n```", GUIDE, re.DOTALL)[:1]
    shown = json.loads(example)
    assert shown["detail"] == detail(event)
    assert (shown["source"], shown["detail-type"]) == ("sluice", event.type)


@pytest.mark.parametrize(
    ("outcome", "type_"),
    [
        (Outcome.COMPLETED, "sluice.inference.completed"),
        (Outcome.FAILED, "sluice.inference.failed"),
        (Outcome.THROTTLED, "sluice.inference.throttled"),
    ],
)
def test_every_outcome_of_a_request_has_its_type(outcome: Outcome, type_: str) -> None:
    entry = msgspec.structs.replace(ENTRY, outcome=outcome, error_code="provider_x", usage=None, cost_micro_usd=None)
    plain = detail(Publisher().one(Stream().record("INSERT", logged(entry))))
    assert (plain["type"], plain["status"]) == (type_, outcome.value)
    assert plain["error"] == {"code": "provider_x"}
    assert "cost_micro_usd" not in plain
    assert "usage" not in plain


def test_what_an_administrator_did_to_a_key_is_announced() -> None:
    plain = detail(Publisher().one(Stream().record("INSERT", recorded(ACTION))))
    assert re.fullmatch(r"evt_[0-9a-f]{32}", plain.pop("id"))
    assert plain == {
        "schema_version": "1.0",
        "type": "sluice.key.updated",
        "time": "2026-11-21T00:00:00.250Z",
        "environment": "prod",
        "key_id": ACTION.subject,
        "mode": "admin",
        "resource_id": ACTION.subject,
        "status": "updated",
        "actor": ACTION.actor,
        "changes": {"rpm": "120", "monthly_budget_micro_usd": "none"},
    }


@pytest.mark.parametrize("verb", AdminVerb)
def test_every_admin_action_has_its_type(verb: AdminVerb) -> None:
    action = msgspec.structs.replace(ACTION, verb=verb)
    plain = detail(Publisher().one(Stream().record("INSERT", recorded(action))))
    assert (plain["type"], plain["status"]) == (f"sluice.{verb.value}", verb.value.split(".")[1])


def test_a_redrive_is_about_no_key() -> None:
    action = msgspec.structs.replace(ACTION, verb=AdminVerb.QUEUE_REDRIVEN, subject="async", changes={"moved": "3"})
    plain = detail(Publisher().one(Stream().record("INSERT", recorded(action))))
    assert (plain["key_id"], plain["resource_id"], plain["changes"]) == ("-", "async", {"moved": "3"})


def test_a_record_of_an_action_is_announced_once() -> None:
    publisher, item = Publisher(), recorded(ACTION)
    publisher.publish(
        Stream().record("MODIFY", item, item), Stream().record("REMOVE", None, item), Stream().record("INSERT", item)
    )
    assert len(publisher.bus.events) == 1


def test_every_type_is_in_the_guide() -> None:
    for verb in AdminVerb:
        assert f"`sluice.{verb.value}`" in GUIDE
    for type_ in ("inference.completed", "inference.failed", "inference.throttled"):
        assert f"`sluice.{type_}`" in GUIDE
    for status in (*ENDED, "cancelled"):
        assert f"`sluice.batch.{status}`" in GUIDE
    assert "`sluice.async.cancelled`" in GUIDE
    for mode in ("async", "workflow"):
        for status in ("completed", "failed"):
            assert f"`sluice.{mode}.{status}`" in GUIDE


def test_a_rewritten_entry_is_announced_only_with_another_outcome() -> None:
    failed = msgspec.structs.replace(ENTRY, outcome=Outcome.FAILED, error_code="x")
    stream, publisher = Stream(), Publisher()
    publisher.publish(
        stream.record("INSERT", logged(failed)),
        stream.record("MODIFY", logged(failed), logged(failed)),
        stream.record("MODIFY", logged(ENTRY), logged(failed)),
    )
    assert [event.status for event in publisher.bus.events] == ["failed", "completed"]


def test_a_failed_job_is_announced_with_its_reason() -> None:
    running = msgspec.structs.replace(JOB, status=JobStatus.IN_PROGRESS, error=None)
    plain = detail(Publisher().one(Stream().record("MODIFY", job_item(JOB), job_item(running))))
    assert (plain["type"], plain["mode"], plain["resource_id"]) == ("sluice.async.failed", "async", JOB.id)
    assert plain["error"] == {"code": "provider_timeout", "message": "It took too long."}
    assert plain["time"] == "2026-11-21T00:00:03.000Z"
    assert plain["latency_ms"] == 3000


def batch_item(batch: Batch) -> dict[str, Any]:
    return dict(dynamodb_batches.to_item(batch))


def test_a_batch_is_announced_with_its_counts() -> None:
    before = msgspec.structs.replace(BATCH, status=BatchStatus.FINALIZING)
    plain = detail(Publisher().one(Stream().record("MODIFY", batch_item(BATCH), batch_item(before))))
    del plain["id"]
    assert plain == {
        "schema_version": "1.0",
        "type": "sluice.batch.completed",
        "time": "2026-11-21T00:01:30.000Z",
        "environment": "prod",
        "key_id": BATCH.key_id,
        "mode": "batch",
        "resource_id": BATCH.id,
        "status": "completed",
        "model": "embed-static",
        "usage": {"input_tokens": 42, "output_tokens": 9},
        "cost_micro_usd": "1.5",
        "latency_ms": 90_000,
        "counts": {"total": 10, "completed": 7, "failed": 3},
    }


@pytest.mark.parametrize("status", BatchStatus)
def test_a_batch_is_announced_when_it_has_ended_and_then_once(status: BatchStatus) -> None:
    batch = msgspec.structs.replace(BATCH, status=status)
    before = msgspec.structs.replace(BATCH, status=BatchStatus.VALIDATING)
    stream, publisher = Stream(), Publisher()
    publisher.publish(
        stream.record("INSERT", batch_item(before)),
        stream.record("MODIFY", batch_item(batch), batch_item(before)),
        stream.record("MODIFY", batch_item(batch), batch_item(batch)),
        stream.record("REMOVE", None, batch_item(batch)),
        stream.record("INSERT", {"pk": f"BATCH#{BATCH.id}", "sk": "CHUNK#00000000", "status": "ended"}),
    )
    announced = [f"sluice.batch.{status.value}"] if status in ENDED else []
    assert [event.type for event in publisher.bus.events] == announced


def test_words_about_a_single_line_are_for_its_owner_only() -> None:
    whole = BatchError(code="empty_file", message="The input file has no line.")
    line = BatchError(code="invalid_json", message="Line 3 is no JSON.", line=3)
    for error, told in (
        (whole, {"code": "empty_file", "message": "The input file has no line."}),
        (line, {"code": "invalid_json"}),
    ):
        failed = msgspec.structs.replace(BATCH, status=BatchStatus.FAILED, errors=(error, line))
        assert detail(Publisher().one(Stream().record("INSERT", batch_item(failed))))["error"] == told


@pytest.mark.parametrize("url", [None, "https://example.com/hook"])
def test_an_event_says_whether_somebody_wants_to_be_called_but_not_where(url: str | None) -> None:
    for item in (
        batch_item(msgspec.structs.replace(BATCH, callback_url=url)),
        job_item(msgspec.structs.replace(JOB, callback_url=url)),
    ):
        plain = detail(Publisher().one(Stream().record("INSERT", item)))
        assert plain.get("callback") == (None if url is None else True)
        assert "example.com" not in json.dumps(plain)


def test_a_cancelled_job_is_announced() -> None:
    running = msgspec.structs.replace(JOB, status=JobStatus.IN_PROGRESS, completed_at=None, error=None)
    cancelled = running.cancelled(now=NOW + 7)
    plain = detail(Publisher().one(Stream().record("MODIFY", job_item(cancelled), job_item(running))))
    assert (plain["type"], plain["time"]) == ("sluice.async.cancelled", "2026-11-21T00:00:07.000Z")


def test_an_event_for_many_requests_says_how_many() -> None:
    many = msgspec.structs.replace(ENTRY, mode=Mode.BATCH, requests=250)
    assert detail(Publisher().one(Stream().record("INSERT", logged(many))))["requests"] == 250


def test_a_failed_execution_is_announced_with_its_step() -> None:
    running = msgspec.structs.replace(EXECUTION, status=ExecutionStatus.RUNNING, error=None)
    plain = detail(Publisher().one(Stream().record("MODIFY", execution_item(EXECUTION), execution_item(running))))
    assert (plain["type"], plain["status"], plain["mode"]) == ("sluice.workflow.failed", "failed", "workflow")
    assert plain["error"]["step"] == 1


def test_a_finished_execution_is_called_completed() -> None:
    done = msgspec.structs.replace(EXECUTION, status=ExecutionStatus.SUCCEEDED, error=None)
    event = Publisher().one(Stream().record("MODIFY", execution_item(done), execution_item(EXECUTION)))
    assert (event.type, event.status) == ("sluice.workflow.completed", "completed")


def test_what_ends_nothing_is_not_announced() -> None:
    queued = msgspec.structs.replace(JOB, status=JobStatus.QUEUED)
    running = msgspec.structs.replace(JOB, status=JobStatus.IN_PROGRESS)
    stream, publisher = Stream(), Publisher()
    publisher.publish(
        stream.record("INSERT", job_item(queued)),
        stream.record("MODIFY", job_item(running), job_item(queued)),
        stream.record("MODIFY", job_item(queued), job_item(running)),
        stream.record("MODIFY", job_item(running), job_item(JOB)),
        stream.record("MODIFY", job_item(JOB), job_item(JOB)),
        stream.record("REMOVE", None, job_item(JOB)),
        stream.record("REMOVE", None, logged(ENTRY)),
        stream.record("INSERT", {"pk": f"EXEC#{EXECUTION.id}", "sk": "STEP#000", "status": "failed"}),
        stream.record("INSERT", {"pk": "KEY#abc", "sk": "META", "id": "key_1"}),
    )
    assert publisher.bus.events == []


def test_a_redriven_job_that_completes_is_announced_again_under_another_id() -> None:
    running = msgspec.structs.replace(JOB, status=JobStatus.IN_PROGRESS)
    done = msgspec.structs.replace(JOB, status=JobStatus.COMPLETED, error=None, usage=USAGE)
    stream, publisher = Stream(), Publisher()
    publisher.publish(
        stream.record("MODIFY", job_item(JOB), job_item(running)),
        stream.record("MODIFY", job_item(running), job_item(JOB)),
        stream.record("MODIFY", job_item(JOB), job_item(running)),
        stream.record("MODIFY", job_item(done), job_item(running)),
    )
    assert [event.status for event in publisher.bus.events] == ["failed", "failed", "completed"]
    assert len({event.id for event in publisher.bus.events}) == 3


def test_a_batch_delivered_again_has_the_same_ids() -> None:
    record, publisher = Stream().record("INSERT", logged(ENTRY)), Publisher()
    publisher.publish(record)
    publisher.publish(record)
    first, second = publisher.bus.events
    assert first == second
    assert re.fullmatch(r"evt_[0-9a-f]{32}", first.id)


def test_a_refused_event_is_sent_again_and_only_that_one() -> None:
    stream, publisher = Stream(), Publisher()
    other = msgspec.structs.replace(ENTRY, request_id="other")
    publisher.bus.refusals["other"] = 2
    assert publisher.publish(stream.record("INSERT", logged(ENTRY)), stream.record("INSERT", logged(other))) == []
    assert [event.resource_id for event in publisher.bus.events] == [ENTRY.request_id, "other"]
    assert publisher.pauses == sorted(publisher.pauses)
    assert len(publisher.pauses) == 2


def test_an_event_that_stays_refused_is_reported_by_its_sequence_number() -> None:
    stream, publisher = Stream(), Publisher()
    publisher.bus.refusals["other"] = 99
    other = stream.record("INSERT", logged(msgspec.structs.replace(ENTRY, request_id="other")))
    assert publisher.publish(other, stream.record("INSERT", logged(ENTRY))) == [other["dynamodb"]["SequenceNumber"]]
    assert len(publisher.bus.events) == 1
    assert publisher.bus.calls == 3


def test_a_bus_that_cannot_be_reached_brings_the_whole_batch_back() -> None:
    publisher = Publisher()
    publisher.bus.failing = StateError("down")
    with pytest.raises(StateError):
        publisher.publish(Stream().record("INSERT", logged(ENTRY)))


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"eventName": "INSERT", "dynamodb": {}},
        {"eventName": "INSERT", "dynamodb": None},
        Stream().record("INSERT", {"pk": "REQ#key_1#20260101#0", "sk": "a-secret", "status": "nonsense"}),
        Stream().record("MODIFY", {**job_item(JOB), "attempts": "many"}, job_item(JOB)),
        Stream().record("MODIFY", job_item(JOB), {"pk": "x", "sk": "y"}),
        Stream().record("INSERT", {"pk": "AUDIT#20260101", "sk": "a-secret", "verb": "nonsense"}),
    ],
)
def test_a_record_nobody_can_read_does_not_hold_up_the_others(
    broken: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    publisher = Publisher()
    assert publisher.publish(broken, Stream().record("INSERT", logged(ENTRY))) == []
    assert len(publisher.bus.events) == 1
    out = capsys.readouterr().out
    assert "events.unreadable_record" in out
    assert "UnreadableRecords" in out
    assert "nonsense" not in out


def test_a_long_reason_is_cut() -> None:
    failed = msgspec.structs.replace(JOB, error=msgspec.structs.replace(WHY, message="x" * 300_000))
    event = Publisher().one(Stream().record("INSERT", job_item(failed)))
    assert len(msgspec.json.encode(event)) < 2000
