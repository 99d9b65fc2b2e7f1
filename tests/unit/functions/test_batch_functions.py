"""The batch mode's three functions, from event to answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from functions.async_status import handler as status_module
from functions.async_submit import handler as submit_module
from functions.async_worker import handler as worker_module
from sluice.domain.errors import ConfigurationError, ProviderUnavailableError, StateError
from sluice.testing.invocations import CALLER, FakeLambdaContext, api_event
from tests.unit.sluice.services.durable import Batch

CANARY = "canary-that-must-not-be-logged"
BODY = {"model": "auto", "messages": [{"role": "user", "content": CANARY}]}


@pytest.fixture
def batch(monkeypatch: pytest.MonkeyPatch) -> Batch:
    made = Batch()
    monkeypatch.setattr(submit_module, "service", lambda: made.submit)
    monkeypatch.setattr(worker_module, "service", lambda: made.worker)
    monkeypatch.setattr(status_module, "service", lambda: made.reader)
    return made


def submit(body: object = BODY) -> tuple[int, Any, dict[str, str]]:
    event = api_event("POST", "/v1/async/chat/completions", body=body, authorizer=CALLER)
    response = submit_module.handler(event, FakeLambdaContext())
    return response["statusCode"], json.loads(response["body"]), response["headers"]


def status(job_id: str, *, key_id: str = "key_1") -> tuple[int, Any]:
    event = api_event("GET", "/v1/async/{id}", path_parameters={"id": job_id}, authorizer={**CALLER, "key_id": key_id})
    response = status_module.handler(event, FakeLambdaContext())
    return response["statusCode"], json.loads(response["body"])


def work(batch: Batch) -> dict[str, Any]:
    """One invocation of the worker with everything visible, as the event source mapping would make it."""
    batch_of = batch.queue.receive()
    bodies = {message.message_id: message.body.decode() for message in batch.queue._messages}
    records = [
        {
            "messageId": delivery.message_id,
            "receiptHandle": delivery.receipt_handle,
            "body": bodies[delivery.message_id],
            "attributes": {"ApproximateReceiveCount": str(delivery.receive_count)},
        }
        for delivery in batch_of
    ]
    answer: dict[str, Any] = worker_module.handler({"Records": records}, FakeLambdaContext(seconds=60))
    batch.queue.acknowledge(batch_of, except_for=[each["itemIdentifier"] for each in answer["batchItemFailures"]])
    return answer


def test_a_request_is_accepted_worked_on_and_answered(batch: Batch) -> None:
    code, accepted, headers = submit()
    assert (code, accepted["status"], accepted["object"]) == (202, "queued", "async.request")
    assert headers["location"] == f"/v1/async/{accepted['id']}"
    assert headers["x-request-id"]
    assert status(accepted["id"])[1]["status"] == "queued"
    assert work(batch) == {"batchItemFailures": []}
    code, done = status(accepted["id"])
    assert (code, done["status"], done["attempts"]) == (200, "completed", 1)
    assert done["response"]["choices"][0]["message"]["content"] == "an answer"
    assert done["cost_usd"] == "0.000004"


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ("not json", 400, None),
        ({"model": "auto", "messages": CANARY}, 400, "messages"),
        ({**BODY, "stream": True}, 400, "stream"),
        ({**BODY, "model": "nope"}, 404, "model"),
    ],
)
def test_a_mistake_is_refused_as_the_sync_route_would(batch: Batch, body: object, code: int, param: str | None) -> None:
    answered, error, _ = submit(body)
    assert (answered, error["error"]["param"]) == (code, param)
    assert not batch.queue.bodies
    assert not batch.objects.bodies


def test_a_queue_that_is_away_is_a_503_and_nothing_stays_queued(batch: Batch) -> None:
    batch.queue.failing = StateError("The queue is not available at the moment. Try again.")
    code, error, _ = submit()
    assert (code, error["error"]["code"]) == (503, "state_unavailable")
    assert [job.status.value for job in batch.jobs.items.values()] == ["failed"]


def test_a_permission_that_is_missing_is_a_500_without_details(batch: Batch) -> None:
    batch.queue.failing = ConfigurationError("The queue refused a call of Sluice's own: AccessDenied.")
    code, error, _ = submit()
    assert code == 500
    assert "AccessDenied" not in json.dumps(error)


def test_what_could_not_be_finished_is_reported_by_message(batch: Batch) -> None:
    submit()
    batch.queue.put(b"nonsense")
    batch.model.error = ProviderUnavailableError("Down.", target="bedrock/small")
    reported = work(batch)["batchItemFailures"]
    assert [sorted(each) for each in reported] == [["itemIdentifier"], ["itemIdentifier"]]


def test_another_keys_request_is_not_found(batch: Batch) -> None:
    _, accepted, _ = submit()
    code, error = status(accepted["id"], key_id="key_2")
    assert (code, error["error"]["code"]) == (404, "not_found")
    assert status("nonsense") == (404, error)


@pytest.mark.parametrize(
    "error", [None, ProviderUnavailableError("Down.", target="bedrock/small"), RuntimeError(CANARY), ValueError(CANARY)]
)
def test_no_path_through_the_code_logs_a_prompt(
    batch: Batch, capsys: pytest.CaptureFixture[str], error: Exception | None
) -> None:
    _, accepted, _ = submit()
    batch.model.error = error
    for _ in range(batch.queue.max_receive_count):
        work(batch)
        batch.clock.advance(batch.queue.visibility_s)
    code, told = status(accepted["id"])
    assert code == 200
    output = capsys.readouterr()
    assert CANARY not in output.out + output.err + json.dumps(told)


def test_each_record_has_a_canonical_line_of_its_own(batch: Batch, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(3):
        submit()
    capsys.readouterr()
    work(batch)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    records = [line for line in lines if line.get("event") == "async.record"]
    assert len({line["job_id"] for line in records}) == 3
    for line in records:
        assert (line["acknowledged"], line["claim"], line["outcome"]) == (True, "claimed", "completed")
        assert (line["request_id"], line["function"]) == ("lambda-request-1", "function-under-test")
    [canonical] = [line for line in lines if line.get("event") == "request"]
    assert (canonical["records"], canonical["kept"]) == (3, 0)
    assert "job_id" not in canonical
