from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from sluice.domain.errors import InvalidRequestError
from sluice.domain.inference import Usage
from sluice.domain.jobs import WORKER_LOST, AsyncJob, JobStatus, JobView
from sluice.wire.async_requests import AsyncRequest, AsyncRequestList, endpoint_of, location, result_ttl_s
from sluice.wire.money import usd

USAGE = Usage(input_tokens=8, output_tokens=2)
JOB = AsyncJob(
    id="async_" + "a" * 32,
    key_id="key_1",
    endpoint="/v1/chat/completions",
    model="auto",
    status=JobStatus.QUEUED,
    created_at=100,
    updated_at=100,
    expires_at=200,
    request_key="async/key_1/x/request.json",
)


def plain(request: AsyncRequest) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(msgspec.json.encode(request))
    return body


def test_an_accepted_request_says_what_and_where() -> None:
    assert plain(AsyncRequest.accepted(JOB)) == {
        "id": JOB.id,
        "object": "async.request",
        "status": "queued",
        "endpoint": "/v1/chat/completions",
        "model": "auto",
        "created_at": 100,
        "expires_at": 200,
    }
    assert location(JOB) == f"/v1/async/{JOB.id}"


def test_a_completed_request_holds_what_the_sync_route_would_have_answered() -> None:
    job = msgspec.structs.replace(
        JOB,
        status=JobStatus.COMPLETED,
        completed_at=107,
        attempts=1,
        usage=USAGE,
        cost_micro_usd=Decimal("4.50"),
        response_key="key",
    )
    answer = b'{"object": "chat.completion",  "anything": [1.50]}'
    view = JobView(job=job, status=job.status, answer=answer)
    body = plain(AsyncRequest.of(view))
    assert (body["status"], body["completed_at"], body["attempts"]) == ("completed", 107, 1)
    assert (body["usage"]["total_tokens"], body["cost_usd"]) == (10, "0.0000045")
    assert "error" not in body
    assert answer in msgspec.json.encode(AsyncRequest.of(view))  # byte by byte
    assert plain(AsyncRequest.of(view)) == body  # the same however often one asks


def test_a_failed_request_says_why() -> None:
    view = JobView(job=JOB, status=JobStatus.FAILED, error=WORKER_LOST)
    body = plain(AsyncRequest.of(view))
    assert body["status"] == "failed"
    assert body["error"] == {"message": WORKER_LOST.message, "type": "server_error", "code": "worker_lost"}
    assert "response" not in body


def test_a_cancelled_request_says_when_and_what_it_cost() -> None:
    job = msgspec.structs.replace(JOB.cancelled(now=150), usage=USAGE, cost_micro_usd=Decimal(4))
    body = plain(AsyncRequest.of(JobView(job=job, status=job.status)))
    assert (body["status"], body["cancelled_at"], body["cost_usd"]) == ("cancelled", 150, "0.000004")
    assert not {"response", "error", "completed_at"} & body.keys()


def test_who_is_called_back_is_told() -> None:
    job = msgspec.structs.replace(JOB, callback_url="https://example.com/hook")
    assert plain(AsyncRequest.accepted(job))["callback_url"] == "https://example.com/hook"
    assert plain(AsyncRequest.of(JobView(job=job, status=job.status)))["callback_url"] == "https://example.com/hook"


def test_a_page_is_one_of_openais() -> None:
    views = [
        JobView(job=msgspec.structs.replace(JOB, id=name), status=JobStatus.QUEUED) for name in ("async_b", "async_a")
    ]
    page = json.loads(msgspec.json.encode(AsyncRequestList.of(views, has_more=True)))
    assert (page["object"], page["first_id"], page["last_id"], page["has_more"]) == ("list", "async_b", "async_a", True)
    assert [each["id"] for each in page["data"]] == ["async_b", "async_a"]
    empty = json.loads(msgspec.json.encode(AsyncRequestList.of([], has_more=False)))
    assert empty == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}


@pytest.mark.parametrize(
    ("resource", "endpoint"),
    [
        ("/v1/async/chat/completions", "/v1/chat/completions"),
        ("/v1/async/chat", "/v1/chat"),
        ("/v1/async/summarize", "/v1/summarize"),
    ],
)
def test_a_route_stands_for_the_sync_route_of_its_name(resource: str, endpoint: str) -> None:
    assert endpoint_of(resource) == endpoint


@pytest.mark.parametrize(("text", "seconds"), [(None, None), ("", None), ("60", 60), ("3600", 3600), ("86400", 86400)])
def test_an_answer_is_kept_as_long_as_the_header_says(text: str | None, seconds: int | None) -> None:
    assert result_ttl_s(text, most=86_400) == seconds


@pytest.mark.parametrize("text", ["59", "86401", "-60", "1h", "60.0", " 60", "٦٠", "9" * 5000])
def test_any_other_time_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        result_ttl_s(text, most=86_400)
    assert refused.value.param == "x-sluice-result-ttl"
    assert "60 to 86400" in refused.value.message


def test_nothing_of_the_store_shows() -> None:
    assert "key_1" not in json.dumps(plain(AsyncRequest.of(JobView(job=JOB, status=JOB.status))))


@pytest.mark.parametrize(
    ("micro", "dollars"),
    [
        ("0", "0"),
        ("4.00", "0.000004"),
        ("1", "0.000001"),
        ("1234567", "1.234567"),
        ("1000000000", "1000"),
        ("0.1234567890123456", "0.0000001234567890123456"),
    ],
)
def test_dollars_are_exact_and_plain(micro: str, dollars: str) -> None:
    assert usd(Decimal(micro)) == dollars


def test_an_unknown_cost_stays_unknown() -> None:
    assert usd(None) is None
