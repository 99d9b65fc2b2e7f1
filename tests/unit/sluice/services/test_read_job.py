"""A caller's own jobs, one by one and in pages; and cancelling them."""

from __future__ import annotations

import msgspec
import pytest

from sluice.domain.errors import ConflictError, NotFoundError
from sluice.domain.ids import new_id
from sluice.domain.jobs import JobStatus
from tests.unit.sluice.services.durable import CALLER, NOW, Batch

OTHER = msgspec.structs.replace(CALLER, key_id="key_2")


def submitted(batch: Batch, count: int) -> list[str]:
    """Some jobs, the newest first."""
    made = []
    for _ in range(count):
        batch.clock.advance(1)
        made.append(batch.submitted())
    return made[::-1]


def test_jobs_are_listed_newest_first_page_by_page_without_their_answers() -> None:
    batch = Batch()
    made = submitted(batch, 3)
    batch.deliver()
    first, more = batch.reader.page(CALLER, limit=2, after=None)
    assert ([view.job.id for view in first], more) == (made[:2], True)
    assert {view.status for view in first} == {JobStatus.COMPLETED}
    assert {view.answer for view in first} == {None}
    second, more = batch.reader.page(CALLER, limit=2, after=first[-1].job.id)
    assert ([view.job.id for view in second], more) == (made[2:], False)


def test_a_caller_lists_no_jobs_but_its_own() -> None:
    batch = Batch()
    [job_id] = submitted(batch, 1)
    assert batch.reader.page(OTHER, limit=2, after=None) == ((), False)
    for after in (job_id, new_id("async"), "nonsense"):
        with pytest.raises(NotFoundError):
            batch.reader.page(OTHER, limit=2, after=after)


def test_what_has_expired_is_neither_listed_nor_cancelled() -> None:
    batch = Batch()
    [job_id] = submitted(batch, 1)
    batch.clock.advance(30 * 86_400)
    assert batch.reader.page(CALLER, limit=2, after=None) == ((), False)
    with pytest.raises(NotFoundError):
        batch.reader.cancel(job_id, CALLER)


def test_a_page_tells_of_a_worker_that_was_lost_and_records_it() -> None:
    batch = Batch()
    [job_id] = submitted(batch, 1)
    now = int(batch.clock())
    batch.jobs.claim(job_id, now=now, lease_until=now + 40, final_attempt=True)
    batch.clock.advance(41)
    [view], _ = batch.reader.page(CALLER, limit=2, after=None)
    assert view.error is not None
    assert (view.status, view.error.code) == (JobStatus.FAILED, "worker_lost")
    assert batch.jobs.items[job_id].status is JobStatus.FAILED


def test_cancelling_is_told_at_once_and_again() -> None:
    batch = Batch()
    job_id = batch.submitted()
    first = batch.reader.cancel(job_id, CALLER)
    assert (first.status, first.job.cancelled_at) == (JobStatus.CANCELLED, int(NOW))
    batch.clock.advance(60)
    assert batch.reader.cancel(job_id, CALLER) == first
    assert batch.reader.read(job_id, CALLER) == first


def test_what_is_over_is_not_cancelled() -> None:
    batch = Batch()
    job_id = batch.submitted()
    batch.deliver()
    before = batch.reader.read(job_id, CALLER)
    with pytest.raises(ConflictError, match="completed already"):
        batch.reader.cancel(job_id, CALLER)
    assert batch.reader.read(job_id, CALLER) == before


def test_nobody_cancels_anothers_job() -> None:
    batch = Batch()
    job_id = batch.submitted()
    for wrong in (job_id, new_id("async"), "nonsense"):
        with pytest.raises(NotFoundError):
            batch.reader.cancel(wrong, OTHER)
    assert batch.jobs.items[job_id].status is JobStatus.QUEUED
