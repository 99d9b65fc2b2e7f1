from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from sluice.domain.inference import ChatResult, FinishReason, Usage
from sluice.domain.jobs import WORKER_LOST, AsyncJob, JobStatus, JobView, StoredAnswer
from sluice.wire.async_requests import AsyncRequest, location
from sluice.wire.chat import ChatCompletionResponse
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
    result = ChatResult(text="an answer", finish_reason=FinishReason.LENGTH, usage=USAGE)
    view = JobView(job=job, status=job.status, answer=StoredAnswer(result=result, target="bedrock/small"))
    body = plain(AsyncRequest.of(view))
    assert (body["status"], body["completed_at"], body["attempts"]) == ("completed", 107, 1)
    assert (body["usage"]["total_tokens"], body["cost_usd"]) == (10, "0.0000045")
    assert "error" not in body
    completion = msgspec.convert(body["response"], ChatCompletionResponse)
    assert (completion.object, completion.model, completion.created) == ("chat.completion", "bedrock/small", 107)
    assert completion.choices[0].message.content == "an answer"
    assert plain(AsyncRequest.of(view)) == body  # the same however often one asks


def test_a_failed_request_says_why() -> None:
    view = JobView(job=JOB, status=JobStatus.FAILED, error=WORKER_LOST)
    body = plain(AsyncRequest.of(view))
    assert body["status"] == "failed"
    assert body["error"] == {"message": WORKER_LOST.message, "type": "server_error", "code": "worker_lost"}
    assert "response" not in body


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
