from __future__ import annotations

import msgspec
import pytest

from sluice.domain import errors
from sluice.domain.ids import is_id, new_id
from sluice.domain.jobs import NOT_ATTEMPTED, WORKER_LOST, AsyncJob, Failure, JobPointer, JobStatus

JOB = AsyncJob(
    id="async_" + "0" * 32,
    key_id="key_1",
    endpoint="/v1/chat/completions",
    model="auto",
    status=JobStatus.IN_PROGRESS,
    created_at=0,
    updated_at=0,
    expires_at=1000,
    request_key="key",
    attempts=2,
    lease_until=100,
    final_attempt=True,
)


@pytest.mark.parametrize(
    ("now", "fields", "lost"),
    [
        (99.9, {}, False),
        (100, {}, True),
        # Before the last attempt a lost lease only means that the next worker takes over.
        (100, {"final_attempt": False}, False),
        (100, {"status": JobStatus.FAILED}, False),
        (100, {"status": JobStatus.CANCELLED}, False),
    ],
)
def test_only_the_last_worker_that_is_lost_means_failed(now: float, fields: dict[str, object], lost: bool) -> None:
    assert msgspec.structs.replace(JOB, **fields).lost_at(now) is lost


def test_a_lost_workers_job_ended_with_its_lease_whenever_that_is_noticed() -> None:
    given_up = JOB.given_up(now=500)
    assert (given_up.status, given_up.error, given_up.permanent) == (JobStatus.FAILED, WORKER_LOST, False)
    assert (given_up.completed_at, given_up.lease_until, given_up.final_attempt) == (100, None, False)


@pytest.mark.parametrize("error", [None, Failure(code="x", message="y", type="z")])
def test_a_job_nobody_works_on_any_more_is_given_up_with_the_reason_it_has(error: Failure | None) -> None:
    queued = msgspec.structs.replace(JOB, status=JobStatus.QUEUED, lease_until=None, error=error)
    given_up = queued.given_up(now=500)
    assert (given_up.status, given_up.error) == (JobStatus.FAILED, error or NOT_ATTEMPTED)
    assert (given_up.completed_at, given_up.claimable_at(500)) == (500, True)


@pytest.mark.parametrize(
    ("fields", "claimable"),
    [
        ({"status": JobStatus.QUEUED}, True),
        ({"status": JobStatus.IN_PROGRESS, "lease_until": 51}, False),
        ({"status": JobStatus.IN_PROGRESS, "lease_until": 50}, True),
        ({"status": JobStatus.FAILED}, True),
        ({"status": JobStatus.FAILED, "permanent": True}, False),
        ({"status": JobStatus.COMPLETED}, False),
        ({"status": JobStatus.CANCELLED}, False),
    ],
)
def test_a_job_is_claimed_while_there_is_something_to_do(fields: dict[str, object], claimable: bool) -> None:
    job: AsyncJob = msgspec.convert(msgspec.to_builtins(JOB) | fields, AsyncJob)
    assert job.claimable_at(50) is claimable


def test_every_attempt_has_a_place_of_its_own_for_its_answer() -> None:
    later = msgspec.structs.replace(JOB, attempts=3)
    assert JOB.attempt_response_key != later.attempt_response_key
    assert JOB.attempt_response_key == f"async/key_1/{JOB.id}/attempt-2/response.json"


@pytest.mark.parametrize(
    ("error", "code", "type_"),
    [
        (errors.NotFoundError("m", code="model_not_found"), "model_not_found", "invalid_request_error"),
        (errors.InvalidRequestError("m"), "invalid_request_error", "invalid_request_error"),
        (errors.ContextTooLongError("m", target="t"), "context_length_exceeded", "invalid_request_error"),
        (errors.ProviderTimeoutError("m", target="t"), "provider_timeout", "server_error"),
        (errors.StateError("m"), "state_unavailable", "server_error"),
    ],
)
def test_a_failure_tells_what_sluice_itself_says(error: errors.SluiceError, code: str, type_: str) -> None:
    assert Failure.of(error, step=4) == Failure(code=code, message="m", type=type_, step=4)


@pytest.mark.parametrize("error", [RuntimeError("a secret"), errors.ConfigurationError("table a secret is missing")])
def test_a_failure_tells_nothing_of_what_is_for_operators(error: Exception) -> None:
    assert "secret" not in Failure.of(error).message


def test_an_id_is_known_by_its_prefix_and_digits() -> None:
    assert is_id("async", new_id("async"))
    for wrong in (
        "",
        "async_",
        "async_" + "0" * 31,
        "exec_" + "0" * 32,
        "async_" + "G" * 32,
        "async_" + "0" * 32 + "\n",
    ):
        assert not is_id("async", wrong)


@pytest.mark.parametrize("body", [b'{"id":"async_1"}', b'{"id":null}', b"{}", b"[]", b"x"])
def test_a_pointer_holds_an_id_and_nothing_else(body: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(body, type=JobPointer)
