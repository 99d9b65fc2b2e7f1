"""The batch mode's three functions, from event to answer."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from functions.async_status import handler as status_module
from functions.async_submit import handler as submit_module
from functions.async_worker import handler as worker_module
from sluice.domain.errors import ConfigurationError, ProviderUnavailableError, StateError
from sluice.domain.inference import Caller, Operation
from sluice.runtime import bootstrap
from sluice.services.idempotency import Idempotency
from sluice.services.webhook_secrets import CallbackUrls, ManageWebhookSecrets
from sluice.testing.invocations import CALLER, FakeLambdaContext, api_event
from sluice.testing.replays import FakeReplays
from sluice.testing.routes import FakeRoutes, target
from sluice.testing.webhooks import FakeWebhookSecrets
from tests.unit.sluice.services.durable import Batch

CANARY = "canary-that-must-not-be-logged"
HOOK = "https://example.com/hook"
BODY = {"model": "auto", "messages": [{"role": "user", "content": CANARY}]}
NONSENSE = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense"}}}


@pytest.fixture
def batch(monkeypatch: pytest.MonkeyPatch) -> Batch:
    made = Batch()
    monkeypatch.setattr(submit_module, "service", lambda: made.submit)
    monkeypatch.setattr(worker_module, "service", lambda: made.worker)
    monkeypatch.setattr(status_module, "service", lambda: made.reader)
    replays = Idempotency(FakeReplays(), ttl_s=60)
    monkeypatch.setattr(bootstrap, "idempotency", lambda _: replays)
    monkeypatch.setenv("TABLE_NAME", "sluice-test")
    monkeypatch.setenv("BUCKET_NAME", "sluice-test")
    status_module.replays.cache_clear()  # type: ignore[attr-defined]
    secrets = FakeWebhookSecrets()
    ManageWebhookSecrets(secrets).rotate(Caller(key_id="key_1", request_id="request-1"))
    monkeypatch.setattr(submit_module, "callbacks", lambda: CallbackUrls(secrets, allow_private=False))
    return made


def submit(
    body: object = BODY,
    *,
    route: str = "chat/completions",
    headers: dict[str, str] | None = None,
    key_id: str = "key_1",
) -> tuple[int, Any, dict[str, str]]:
    authorizer = {**CALLER, "key_id": key_id}
    event = api_event("POST", f"/v1/async/{route}", body=body, authorizer=authorizer, headers=headers)
    response = submit_module.handler(event, FakeLambdaContext())
    return response["statusCode"], json.loads(response["body"]), response["headers"]


def status(job_id: str, *, key_id: str = "key_1") -> tuple[int, Any]:
    event = api_event("GET", "/v1/async/{id}", path_parameters={"id": job_id}, authorizer={**CALLER, "key_id": key_id})
    response = status_module.handler(event, FakeLambdaContext())
    return response["statusCode"], json.loads(response["body"])


def listed(**query: str) -> tuple[int, Any]:
    event = api_event("GET", "/v1/async", query=query, authorizer=CALLER)
    response = status_module.handler(event, FakeLambdaContext())
    return response["statusCode"], json.loads(response["body"])


def cancel(job_id: str, *, key_id: str = "key_1", once: str | None = None) -> tuple[int, Any]:
    event = api_event(
        "POST",
        "/v1/async/{id}/cancel",
        path_parameters={"id": job_id},
        authorizer={**CALLER, "key_id": key_id},
        headers={"idempotency-key": once} if once else None,
    )
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


def test_rows_are_counted_and_other_bodies_measured(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    """What /v1/score takes, /v1/async/score takes too."""
    monkeypatch.setenv("MAX_INPUT_BYTES", "1048576")
    routes = FakeRoutes(target("a/scores", operations=(Operation.SCORE,)))
    monkeypatch.setattr(submit_module, "service", lambda: dataclasses.replace(batch.submit, routes=routes))
    rows = [[index + 0.123456789 for index in range(50)]] * 6_600
    code, job, _ = submit({"model": "a/scores", "rows": rows}, route="score")
    assert code == 202
    [stored] = [body for key, body in batch.objects.bodies.items() if job["id"] in key]
    assert len(stored) > 4_500_000
    code, answer, _ = submit({**BODY, "user": "x" * 1_048_576})
    assert (code, answer["error"]["code"]) == (413, "request_too_large")


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
        ({**BODY, "response_format": NONSENSE}, 400, "response_format"),
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


# ---- any route, called back, for as long as is asked ----


@pytest.mark.parametrize(
    ("route", "body", "answered"),
    [
        ("chat", {"model": "auto", "prompt": CANARY}, "response"),
        ("completions", {"model": "auto", "prompt": CANARY}, "choices"),
        ("summarize", {"model": "auto", "input": CANARY}, "summary"),
    ],
)
def test_any_route_can_be_asked_for_and_answers_as_itself(
    batch: Batch, route: str, body: dict[str, str], answered: str
) -> None:
    code, accepted, _ = submit(body, route=route)
    assert (code, accepted["endpoint"]) == (202, f"/v1/{route}")
    work(batch)
    _, done = status(accepted["id"])
    assert answered in done["response"]


def test_a_route_that_is_none_is_refused(batch: Batch) -> None:
    code, error, _ = submit(route="files")
    assert (code, error["error"]["code"]) == (400, "unknown_endpoint")


def test_who_is_to_be_called_back_is_kept_and_told(batch: Batch) -> None:
    url = "https://example.com/hook"
    code, accepted, _ = submit(headers={"X-Sluice-Callback-Url": url, "X-Sluice-Result-Ttl": "600"})
    assert (code, accepted["callback_url"]) == (202, url)
    job = batch.jobs.items[accepted["id"]]
    assert (job.callback_url, job.result_ttl_s) == (url, 600)
    assert status(accepted["id"])[1]["callback_url"] == url


@pytest.mark.parametrize(
    ("headers", "key_id", "code", "param"),
    [
        ({"x-sluice-callback-url": "http://example.com/"}, "key_1", "invalid_callback_url", "x-sluice-callback-url"),
        ({"x-sluice-callback-url": "https://127.0.0.1/"}, "key_1", "invalid_callback_url", "x-sluice-callback-url"),
        ({"x-sluice-callback-url": "https://example.com"}, "key_2", "webhook_secret_missing", "x-sluice-callback-url"),
        ({"x-sluice-result-ttl": "soon"}, "key_1", "invalid_value", "x-sluice-result-ttl"),
        ({"x-sluice-result-ttl": str(30 * 86_400 + 1)}, "key_1", "invalid_value", "x-sluice-result-ttl"),
    ],
)
def test_headers_that_cannot_be_followed_are_refused_and_nothing_is_stored(
    batch: Batch, headers: dict[str, str], key_id: str, code: str, param: str
) -> None:
    status_code, error, _ = submit(headers=headers, key_id=key_id)
    assert (status_code, error["error"]["code"], error["error"]["param"]) == (400, code, param)
    assert not batch.objects.bodies
    assert not batch.jobs.items


@pytest.mark.parametrize("headers", [None, {"x-sluice-callback-url": ""}, {"x-sluice-callback-url": HOOK}])
def test_who_is_to_be_called_back_can_be_said_in_the_body(batch: Batch, headers: dict[str, str] | None) -> None:
    code, accepted, _ = submit({**BODY, "callback_url": HOOK}, headers=headers)
    assert (code, accepted["callback_url"]) == (202, HOOK)
    assert batch.jobs.items[accepted["id"]].callback_url == HOOK
    work(batch)
    assert status(accepted["id"])[1]["status"] == "completed"


def test_a_body_that_names_nobody_leaves_it_to_the_header(batch: Batch) -> None:
    _, accepted, _ = submit({**BODY, "callback_url": None}, headers={"x-sluice-callback-url": HOOK})
    assert accepted["callback_url"] == HOOK
    assert "callback_url" not in submit({**BODY, "callback_url": None})[1]


@pytest.mark.parametrize(
    ("url", "headers", "key_id", "code"),
    [
        ("http://example.com/", None, "key_1", "invalid_callback_url"),
        ("https://127.0.0.1/", None, "key_1", "invalid_callback_url"),
        ("", None, "key_1", "invalid_callback_url"),
        (HOOK, None, "key_2", "webhook_secret_missing"),
        (7, None, "key_1", "invalid_value"),
        (HOOK, {"x-sluice-callback-url": f"{HOOK}/other"}, "key_1", "invalid_value"),
    ],
)
def test_a_callback_in_the_body_that_cannot_be_is_refused_and_nothing_is_stored(
    batch: Batch, url: object, headers: dict[str, str] | None, key_id: str, code: str
) -> None:
    answered, error, _ = submit({**BODY, "callback_url": url}, headers=headers, key_id=key_id)
    assert (answered, error["error"]["code"], error["error"]["param"]) == (400, code, "callback_url")
    assert not batch.objects.bodies
    assert not batch.jobs.items


def test_an_empty_header_asks_for_nothing(batch: Batch) -> None:
    code, accepted, _ = submit(headers={"x-sluice-callback-url": "", "x-sluice-result-ttl": ""})
    assert (code, "callback_url" in accepted) == (202, False)


# ---- listed and cancelled ----


def test_requests_are_listed_page_by_page(batch: Batch) -> None:
    made = []
    for _ in range(3):
        batch.clock.advance(1)
        made.append(submit()[1]["id"])
    work(batch)
    code, page = listed(limit="2")
    assert (code, page["object"], page["has_more"]) == (200, "list", True)
    assert [each["id"] for each in page["data"]] == made[:0:-1]
    assert all(each["status"] == "completed" and "response" not in each for each in page["data"])
    code, rest = listed(limit="2", after=page["last_id"])
    assert ([each["id"] for each in rest["data"]], rest["has_more"]) == (made[:1], False)


@pytest.mark.parametrize(
    ("query", "code", "param"),
    [({"limit": "0"}, 400, "limit"), ({"limit": "101"}, 400, "limit"), ({"after": "async_x"}, 404, "id")],
)
def test_a_page_that_cannot_be_is_refused(batch: Batch, query: dict[str, str], code: int, param: str) -> None:
    answered, error = listed(**query)
    assert (answered, error["error"]["param"]) == (code, param)


def test_a_request_that_waits_is_cancelled_at_once(batch: Batch) -> None:
    job_id = submit()[1]["id"]
    code, cancelled = cancel(job_id)
    assert (code, cancelled["status"]) == (200, "cancelled")
    assert cancelled["cancelled_at"] == int(batch.clock())
    assert work(batch) == {"batchItemFailures": []}
    assert not batch.model.requests
    assert status(job_id) == (200, cancelled)


def test_what_is_over_is_not_cancelled_and_no_client_asks_again(batch: Batch) -> None:
    job_id = submit()[1]["id"]
    work(batch)
    code, error = cancel(job_id)
    assert (code, error["error"]["code"]) == (409, "already_ended")
    assert cancel(job_id, key_id="key_2")[0] == 404


def test_a_cancellation_that_is_sent_twice_under_one_key_is_answered_twice(batch: Batch) -> None:
    job_id = submit()[1]["id"]
    first = cancel(job_id, once="cancel-1")
    batch.clock.advance(60)
    assert cancel(job_id, once="cancel-1") == first
    other = submit()[1]["id"]
    assert cancel(other, once="cancel-1")[0] == 422
    assert status(other)[1]["status"] == "queued"
