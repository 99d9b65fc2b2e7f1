from __future__ import annotations

import json

import msgspec
import pytest

from sluice.domain.errors import (
    ConfigurationError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    StateConflictError,
    StateError,
)
from sluice.domain.jobs import JobStatus
from tests.unit.sluice.services.durable import BODY, CALLER, NOW, Batch

ENDPOINT = "/v1/chat/completions"


def test_an_accepted_request_is_stored_recorded_and_queued() -> None:
    batch = Batch()
    body = json.dumps(BODY, indent=1).encode()
    job = batch.submit.submit(ENDPOINT, body, CALLER)
    assert batch.objects.bodies[job.request_key] == body
    assert batch.jobs.items[job.id] == job
    assert (job.status, job.created_at, job.expires_at) == (JobStatus.QUEUED, NOW, NOW + 30 * 86_400)
    pointer = {"id": job.id, "version": 1, "receives": 0, "waits": 0}
    assert msgspec.json.decode(batch.queue.bodies[0]) == pointer


def test_the_prompt_is_nowhere_but_in_the_object() -> None:
    batch = Batch()
    job = batch.submit.submit(ENDPOINT, json.dumps(BODY).encode(), CALLER)
    assert b"secret" not in msgspec.json.encode(job) + b"".join(batch.queue.bodies)
    assert "secret" not in job.request_key


@pytest.mark.parametrize(
    ("model", "allowed", "error"),
    [
        ("nope", None, NotFoundError),
        ("bedrock/embedder", None, InvalidRequestError),
        ("auto", ("other",), PermissionDeniedError),
    ],
)
def test_a_model_that_cannot_be_used_is_refused_before_anything_is_stored(
    model: str, allowed: tuple[str, ...] | None, error: type[Exception]
) -> None:
    batch = Batch()
    caller = msgspec.structs.replace(CALLER, allowed_models=allowed)
    with pytest.raises(error):
        batch.submit.submit(ENDPOINT, json.dumps({**BODY, "model": model}).encode(), caller)
    assert not batch.objects.bodies
    assert not batch.jobs.items
    assert not batch.queue.bodies


def test_what_cannot_be_stored_is_not_recorded() -> None:
    batch = Batch()
    batch.objects.failing = StateError("down")
    with pytest.raises(StateError):
        batch.submitted()
    assert not batch.jobs.items


def test_what_cannot_be_recorded_is_not_queued() -> None:
    batch = Batch()
    batch.jobs.failing["create"] = StateError("down")
    with pytest.raises(StateError):
        batch.submitted()
    assert not batch.queue.bodies


@pytest.mark.parametrize("error", [StateError("down"), ConfigurationError("no permission to send to queue 'x'")])
def test_what_cannot_be_queued_is_marked_as_failed(error: StateError | ConfigurationError) -> None:
    batch = Batch()
    batch.queue.failing = error
    with pytest.raises(type(error)):
        batch.submitted()
    [job] = batch.jobs.items.values()
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert job.error.code == error.code
    assert "queue 'x'" not in job.error.message


def test_a_send_that_failed_only_for_the_sender_is_an_accepted_request() -> None:
    batch = Batch()
    batch.queue.failing = StateError("the answer was lost")
    batch.jobs.failing["settle"] = StateConflictError("a worker has it")
    assert batch.submitted().startswith("async_")


def test_a_failure_to_mark_the_job_does_not_hide_why_it_failed() -> None:
    batch = Batch()
    batch.queue.failing = StateError("no queue")
    batch.jobs.failing["settle"] = StateError("no table either")
    with pytest.raises(StateError, match="no queue"):
        batch.submitted()


@pytest.mark.parametrize(
    ("endpoint", "body", "model"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}]}, "auto"),
        ("/v1/completions", {"prompt": "x"}, "auto"),
        ("/v1/chat", {"prompt": "x"}, "auto"),
        ("/v1/summarize", {"input": "x"}, "auto"),
        ("/v1/embeddings", {"input": ["x", "y"]}, "bedrock/embedder"),
        ("/v1/classify", {"input": "x", "labels": ["a", "b"]}, "bedrock/embedder"),
    ],
)
def test_any_sync_route_can_be_asked_for(endpoint: str, body: dict[str, object], model: str) -> None:
    batch = Batch()
    job = batch.submit.submit(endpoint, json.dumps({**body, "model": model}).encode(), CALLER)
    assert (job.endpoint, job.model) == (endpoint, model)


@pytest.mark.parametrize(
    ("endpoint", "body", "param"),
    [
        ("/v1/nothing", b"{}", "endpoint"),
        ("/v1/embeddings", b'{"model": "auto"}', "input"),
        ("/v1/chat/completions", b"not json", None),
        (ENDPOINT, json.dumps({**BODY, "stream": True}).encode(), "stream"),
    ],
)
def test_what_the_route_would_refuse_is_refused_before_anything_is_stored(
    endpoint: str, body: bytes, param: str | None
) -> None:
    batch = Batch()
    with pytest.raises(InvalidRequestError) as refused:
        batch.submit.submit(endpoint, body, CALLER)
    assert refused.value.param == param
    assert not batch.objects.bodies
    assert not batch.jobs.items


def test_who_is_called_back_and_how_long_the_answer_is_kept_is_part_of_the_job() -> None:
    batch = Batch()
    url = "https://example.com/hook"
    job = batch.submit.submit(ENDPOINT, json.dumps(BODY).encode(), CALLER, callback_url=url, result_ttl_s=600)
    assert (job.callback_url, job.result_ttl_s) == (url, 600)
    assert batch.jobs.items[job.id] == job
    assert url.encode() not in b"".join(batch.queue.bodies)
