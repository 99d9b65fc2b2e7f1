"""What a job store does, in memory and in DynamoDB."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from sluice.adapters.dynamodb import Table
from sluice.adapters.dynamodb_jobs import DynamoDBJobs
from sluice.domain.errors import NotFoundError, StateConflictError
from sluice.domain.ids import new_id
from sluice.domain.inference import Usage
from sluice.domain.jobs import AsyncJob, ClaimOutcome, Failure, JobAnswer, JobStatus
from sluice.domain.ports import JobStore
from sluice.testing.jobs import FakeJobs
from tests.contract.state.conftest import Aws, repeating

NOW = 1_700_000_000
LEASE = NOW + 75
WHY = Failure(code="provider_timeout", message="It took too long.", type="server_error")
ANSWER = JobAnswer(usage=Usage(input_tokens=7, output_tokens=3), cost_micro_usd=Decimal("1.2345678901234567"))


@pytest.fixture(scope="module")
def table(aws: Aws) -> Table:
    return aws.table()[0]


@pytest.fixture(scope="module")
def real(table: Table) -> JobStore:
    return DynamoDBJobs(table)


@pytest.fixture(params=["fake", "real"])
def jobs(request: pytest.FixtureRequest) -> JobStore:
    store: JobStore = FakeJobs() if request.param == "fake" else request.getfixturevalue("real")
    return store


def new_job(jobs: JobStore, *, key_id: str = "key_1", **fields: object) -> AsyncJob:
    job_id = new_id("async")
    job = AsyncJob(
        id=job_id,
        key_id=key_id,
        endpoint="/v1/chat/completions",
        model="auto",
        status=JobStatus.QUEUED,
        created_at=NOW,
        updated_at=NOW,
        expires_at=NOW + 86_400,
        request_key=f"async/key_1/{job_id}/request.json",
        allowed_models=("auto", "fast"),
        callback_url="https://example.com/hook",
    )
    job = msgspec.structs.replace(job, **fields)
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


def test_the_very_same_job_may_be_stored_again_and_no_other(jobs: JobStore) -> None:
    job = new_job(jobs)
    jobs.create(job)
    with pytest.raises(StateConflictError):
        jobs.create(msgspec.structs.replace(job, model="fast"))
    assert jobs.get(job.id) == job


def test_writes_whose_answers_are_lost_are_made_once(table: Table) -> None:
    jobs = DynamoDBJobs(repeating(table))
    job = new_job(jobs)
    for attempt in (1, 2):
        taken = claimed(jobs, job)
        assert taken.attempts == attempt
        assert jobs.get(job.id) == taken
        jobs.settle(taken.released(WHY, now=NOW))
    assert jobs.cancel(job.id, now=NOW) == jobs.get(job.id)


def test_a_job_that_is_cancelled_before_the_answer_to_its_claim_comes_is_not_claimed(table: Table) -> None:
    job = new_job(DynamoDBJobs(table))
    jobs = DynamoDBJobs(repeating(table, lambda: DynamoDBJobs(table).cancel(job.id, now=NOW)))
    claim = jobs.claim(job.id, now=NOW, lease_until=LEASE, final_attempt=False)
    assert (claim.outcome, claim.job.status) == (ClaimOutcome.SETTLED, JobStatus.CANCELLED)


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


# ---- cancelled ----


def test_a_queued_job_is_cancelled_and_never_claimed_again(jobs: JobStore) -> None:
    job = new_job(jobs)
    cancelled = jobs.cancel(job.id, now=NOW + 5)
    assert cancelled == job.cancelled(now=NOW + 5)
    assert (cancelled.status, cancelled.cancelled_at) == (JobStatus.CANCELLED, NOW + 5)
    assert jobs.get(job.id) == cancelled
    claim = jobs.claim(job.id, now=NOW + 9_999, lease_until=NOW + 10_000, final_attempt=False)
    assert (claim.outcome, claim.job) == (ClaimOutcome.SETTLED, cancelled)


def test_a_job_that_waits_for_its_next_attempt_is_cancelled_without_the_error_of_the_last(jobs: JobStore) -> None:
    job = new_job(jobs)
    jobs.settle(claimed(jobs, job).released(WHY, now=NOW + 5))
    cancelled = jobs.cancel(job.id, now=NOW + 6)
    assert (cancelled.status, cancelled.error, cancelled.attempts) == (JobStatus.CANCELLED, None, 1)


@pytest.mark.parametrize("final", [False, True])
def test_what_a_worker_does_with_a_cancelled_job_is_not_stored_but_what_it_cost(jobs: JobStore, final: bool) -> None:
    job = new_job(jobs)
    taken = claimed(jobs, job, final=final)
    cancelled = jobs.cancel(job.id, now=NOW + 5)
    assert cancelled == taken.cancelled(now=NOW + 5)
    assert (cancelled.lease_until, cancelled.final_attempt) == (None, False)
    done = taken.completed(ANSWER, now=NOW + 6)
    for late in (done, taken.released(WHY, now=NOW + 6), taken.failed(WHY, now=NOW + 6, permanent=True)):
        with pytest.raises(StateConflictError):
            jobs.settle(late)
    for _ in range(2):
        jobs.note_cost(done)
    assert jobs.get(job.id) == msgspec.structs.replace(
        cancelled, usage=ANSWER.usage, cost_micro_usd=ANSWER.cost_micro_usd
    )


def test_a_cost_that_is_not_known_is_not_noted(jobs: JobStore) -> None:
    taken = claimed(jobs, new_job(jobs))
    cancelled = jobs.cancel(taken.id, now=NOW + 5)
    jobs.note_cost(taken)
    assert jobs.get(taken.id) == cancelled


def test_the_cost_of_an_attempt_that_was_overtaken_is_not_noted(jobs: JobStore) -> None:
    job = new_job(jobs)
    slow = claimed(jobs, job)
    claimed(jobs, job, now=LEASE)
    cancelled = jobs.cancel(job.id, now=LEASE + 1)
    jobs.note_cost(slow.completed(ANSWER, now=LEASE + 2))
    assert jobs.get(job.id) == cancelled


def test_only_what_was_cancelled_has_its_cost_noted_apart(jobs: JobStore) -> None:
    taken = claimed(jobs, new_job(jobs))
    done = taken.completed(ANSWER, now=NOW + 1)
    jobs.note_cost(done)
    assert jobs.get(taken.id) == taken
    jobs.note_cost(msgspec.structs.replace(done, id=new_id("async")))


def test_cancelling_again_changes_nothing(jobs: JobStore) -> None:
    job = new_job(jobs)
    first = jobs.cancel(job.id, now=NOW + 5)
    assert jobs.cancel(job.id, now=NOW + 500) == first
    assert jobs.get(job.id) == first


def test_what_has_ended_is_not_cancelled(jobs: JobStore) -> None:
    completed = claimed(jobs, new_job(jobs)).completed(ANSWER, now=NOW + 5)
    failed = claimed(jobs, new_job(jobs)).failed(WHY, now=NOW + 5, permanent=False)
    for ended in (completed, failed):
        jobs.settle(ended)
        assert jobs.cancel(ended.id, now=NOW + 6) == ended
        assert jobs.get(ended.id) == ended


def test_an_unknown_job_cannot_be_cancelled(jobs: JobStore) -> None:
    with pytest.raises(NotFoundError):
        jobs.cancel(new_id("async"), now=NOW)


def test_a_failed_job_that_a_redrive_has_brought_back_can_be_cancelled(jobs: JobStore) -> None:
    job = new_job(jobs)
    jobs.settle(claimed(jobs, job).failed(WHY, now=NOW + 5, permanent=False))
    claimed(jobs, job, now=NOW + 6)
    assert jobs.cancel(job.id, now=NOW + 7).status is JobStatus.CANCELLED


# ---- kept for as long as was asked ----


def test_an_answer_is_forgotten_when_its_own_time_is_over_and_kept_for_late_messages(jobs: JobStore) -> None:
    key_id = new_id("key")
    job = new_job(jobs, key_id=key_id, result_ttl_s=600)
    assert job.forgotten_at == job.expires_at
    done = claimed(jobs, job).completed(ANSWER, now=NOW + 5)
    jobs.settle(done)
    assert (done.forgotten_at, done.expires_at) == (NOW + 605, job.expires_at)
    assert jobs.page(key_id, limit=2, after=None, now=NOW + 604) == ((done,), False)
    assert jobs.page(key_id, limit=2, after=None, now=NOW + 605) == ((), False)
    claim = jobs.claim(job.id, now=NOW + 9_999, lease_until=NOW + 10_000, final_attempt=False)
    assert claim.outcome is ClaimOutcome.SETTLED


def test_no_answer_is_kept_longer_than_its_request(jobs: JobStore) -> None:
    job = new_job(jobs, result_ttl_s=86_400)
    assert claimed(jobs, job).completed(ANSWER, now=NOW + 5).forgotten_at == job.expires_at


# ---- listed ----


def test_a_keys_jobs_are_listed_newest_first_page_by_page(jobs: JobStore) -> None:
    key_id = new_id("key")
    made = [new_job(jobs, key_id=key_id, created_at=NOW + second) for second in (0, 1, 1, 2, 10)]
    new_job(jobs)
    expected = sorted(made, key=lambda job: (job.created_at, job.id), reverse=True)
    found: list[AsyncJob] = []
    has_more = True
    while has_more:
        after = found[-1].id if found else None
        page, has_more = jobs.page(key_id, limit=2, after=after, now=NOW + 11)
        assert len(page) <= 2
        found += page
    assert found == expected
    assert jobs.page(key_id, limit=5, after=None, now=NOW + 11) == (tuple(expected), False)


def test_a_key_without_jobs_has_an_empty_page(jobs: JobStore) -> None:
    assert jobs.page(new_id("key"), limit=2, after=None, now=NOW) == ((), False)


def test_what_has_expired_is_not_listed(jobs: JobStore) -> None:
    key_id = new_id("key")
    kept = new_job(jobs, key_id=key_id, expires_at=NOW + 11)
    for second in range(3):
        new_job(jobs, key_id=key_id, created_at=NOW + second, expires_at=NOW + 10)
    assert jobs.page(key_id, limit=1, after=None, now=NOW + 10) == ((kept,), False)


def test_a_page_behind_somebody_elses_job_is_refused(jobs: JobStore) -> None:
    other = new_job(jobs)
    for after in (other.id, new_id("async")):
        with pytest.raises(NotFoundError):
            jobs.page(new_id("key"), limit=2, after=after, now=NOW)
