"""What a job store does, in memory and in DynamoDB."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from sluice.adapters.dynamodb_jobs import DynamoDBJobs
from sluice.domain.errors import NotFoundError, StateConflictError
from sluice.domain.ids import new_id
from sluice.domain.inference import Usage
from sluice.domain.jobs import AsyncJob, ClaimOutcome, Failure, JobAnswer, JobStatus
from sluice.domain.ports import JobStore
from sluice.testing.jobs import FakeJobs
from tests.contract.state.conftest import Aws

NOW = 1_700_000_000
LEASE = NOW + 75
WHY = Failure(code="provider_timeout", message="It took too long.", type="server_error")
ANSWER = JobAnswer(usage=Usage(input_tokens=7, output_tokens=3), cost_micro_usd=Decimal("1.2345678901234567"))


@pytest.fixture(scope="module")
def real(aws: Aws) -> JobStore:
    return DynamoDBJobs(aws.table()[0])


@pytest.fixture(params=["fake", "real"])
def jobs(request: pytest.FixtureRequest) -> JobStore:
    store: JobStore = FakeJobs() if request.param == "fake" else request.getfixturevalue("real")
    return store


def new_job(jobs: JobStore) -> AsyncJob:
    job_id = new_id("async")
    job = AsyncJob(
        id=job_id,
        key_id="key_1",
        endpoint="/v1/chat/completions",
        model="auto",
        status=JobStatus.QUEUED,
        created_at=NOW,
        updated_at=NOW,
        expires_at=NOW + 86_400,
        request_key=f"async/key_1/{job_id}/request.json",
        allowed_models=("auto", "fast"),
    )
    jobs.create(job)
    return job


def claimed(jobs: JobStore, job: AsyncJob, *, now: int = NOW, final: bool = False) -> AsyncJob:
    claim = jobs.claim(job.id, now=now, lease_until=now + 75, final_attempt=final)
    assert claim.outcome is ClaimOutcome.CLAIMED
    return claim.job


def test_a_created_job_is_read_as_it_was(jobs: JobStore) -> None:
    job = new_job(jobs)
    assert jobs.get(job.id) == job


def test_an_unknown_job_is_none(jobs: JobStore) -> None:
    assert jobs.get(new_id("async")) is None


def test_an_id_is_taken_once(jobs: JobStore) -> None:
    job = new_job(jobs)
    with pytest.raises(StateConflictError):
        jobs.create(job)


def test_a_claim_takes_the_job(jobs: JobStore) -> None:
    job = new_job(jobs)
    taken = claimed(jobs, job, final=True)
    assert taken == msgspec.structs.replace(
        job, status=JobStatus.IN_PROGRESS, attempts=1, lease_until=LEASE, final_attempt=True
    )
    assert jobs.get(job.id) == taken


def test_an_unknown_job_cannot_be_claimed(jobs: JobStore) -> None:
    with pytest.raises(NotFoundError):
        jobs.claim(new_id("async"), now=NOW, lease_until=LEASE, final_attempt=False)


def test_a_live_lease_keeps_others_out_until_it_ends(jobs: JobStore) -> None:
    job = new_job(jobs)
    first = claimed(jobs, job)
    claim = jobs.claim(job.id, now=LEASE - 1, lease_until=LEASE + 75, final_attempt=False)
    assert (claim.outcome, claim.job) == (ClaimOutcome.LEASED, first)
    assert claimed(jobs, job, now=LEASE).attempts == 2


def test_a_completed_job_is_settled(jobs: JobStore) -> None:
    job = new_job(jobs)
    done = claimed(jobs, job).completed(ANSWER, now=NOW + 5)
    jobs.settle(done)
    assert jobs.get(job.id) == done
    assert done.response_key == f"async/key_1/{job.id}/attempt-1/response.json"
    claim = jobs.claim(job.id, now=NOW + 9_999, lease_until=NOW + 10_000, final_attempt=False)
    assert (claim.outcome, claim.job) == (ClaimOutcome.SETTLED, done)


def test_a_released_job_waits_with_its_reason(jobs: JobStore) -> None:
    job = new_job(jobs)
    waiting = claimed(jobs, job).released(WHY, now=NOW + 5)
    jobs.settle(waiting)
    assert jobs.get(job.id) == waiting
    assert (waiting.status, waiting.error, waiting.lease_until) == (JobStatus.QUEUED, WHY, None)
    again = claimed(jobs, job, now=NOW + 6)
    jobs.settle(again.completed(ANSWER, now=NOW + 7))
    done = jobs.get(job.id)
    assert done is not None
    assert (done.attempts, done.error) == (2, None)


def test_a_failed_job_can_be_claimed_again(jobs: JobStore) -> None:
    job = new_job(jobs)
    jobs.settle(claimed(jobs, job).failed(WHY, now=NOW + 5, permanent=False))
    again = claimed(jobs, job, now=NOW + 6)
    assert (again.attempts, again.completed_at) == (2, None)


def test_a_job_that_failed_by_its_own_fault_cannot(jobs: JobStore) -> None:
    job = new_job(jobs)
    failed = claimed(jobs, job).failed(WHY, now=NOW + 5, permanent=True)
    jobs.settle(failed)
    claim = jobs.claim(job.id, now=NOW + 9_999, lease_until=NOW + 10_000, final_attempt=False)
    assert (claim.outcome, claim.job) == (ClaimOutcome.SETTLED, failed)


def test_a_job_that_was_never_claimed_can_fail(jobs: JobStore) -> None:
    failed = new_job(jobs).failed(WHY, now=NOW + 5, permanent=False)
    jobs.settle(failed)
    assert jobs.get(failed.id) == failed


def test_an_attempt_that_was_overtaken_stores_nothing(jobs: JobStore) -> None:
    job = new_job(jobs)
    slow = claimed(jobs, job)
    fast = claimed(jobs, job, now=LEASE)
    for late in (
        slow.completed(ANSWER, now=LEASE + 1),
        slow.released(WHY, now=LEASE + 1),
        slow.failed(WHY, now=LEASE + 1, permanent=True),
    ):
        with pytest.raises(StateConflictError):
            jobs.settle(late)
    assert jobs.get(job.id) == fast


def test_the_same_outcome_twice_changes_nothing(jobs: JobStore) -> None:
    job = new_job(jobs)
    done = claimed(jobs, job).completed(ANSWER, now=NOW + 5)
    jobs.settle(done)
    jobs.settle(done)
    assert jobs.get(job.id) == done


def test_an_attempt_has_one_outcome(jobs: JobStore) -> None:
    job = new_job(jobs)
    taken = claimed(jobs, job)
    done = taken.completed(ANSWER, now=NOW + 5)
    jobs.settle(done)
    with pytest.raises(StateConflictError):
        jobs.settle(taken.failed(WHY, now=NOW + 6, permanent=False))
    assert jobs.get(job.id) == done


def test_a_job_that_is_gone_cannot_be_settled(jobs: JobStore) -> None:
    job = claimed(jobs, new_job(jobs))
    with pytest.raises(StateConflictError):
        jobs.settle(msgspec.structs.replace(job, id=new_id("async")).completed(ANSWER, now=NOW))


def test_a_whole_cost_is_a_cost_too(jobs: JobStore) -> None:
    job = new_job(jobs)
    answer = msgspec.structs.replace(ANSWER, cost_micro_usd=Decimal(4))
    jobs.settle(claimed(jobs, job).completed(answer, now=NOW + 5))
    done = jobs.get(job.id)
    assert done is not None
    assert done.cost_micro_usd == Decimal(4)
    assert isinstance(done.cost_micro_usd, Decimal)
