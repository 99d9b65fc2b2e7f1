"""Asynchronous jobs in memory."""

import threading
from decimal import Decimal

import msgspec

from sluice.domain.errors import NotFoundError, SluiceError, StateConflictError
from sluice.domain.jobs import AsyncJob, Claim, ClaimOutcome, JobStatus

_UNSETTLED = frozenset({JobStatus.QUEUED, JobStatus.IN_PROGRESS})


class FakeJobs:
    """Implements :class:`~sluice.domain.ports.JobStore`. ``failing`` maps a method's name to what it raises."""

    def __init__(self) -> None:
        self.items: dict[str, AsyncJob] = {}
        self.failing: dict[str, SluiceError] = {}
        self._lock = threading.Lock()

    def create(self, job: AsyncJob) -> None:
        self._fail("create")
        with self._lock:
            if self.items.setdefault(job.id, job) != job:
                raise StateConflictError("The job exists already.")

    def get(self, job_id: str) -> AsyncJob | None:
        self._fail("get")
        return self.items.get(job_id)

    def claim(self, job_id: str, *, now: int, lease_until: int, final_attempt: bool) -> Claim:
        self._fail("claim")
        with self._lock:
            job = self.items.get(job_id)
            if job is None:
                raise NotFoundError("There is no such job.")
            if not job.claimable_at(now):
                leased = job.status is JobStatus.IN_PROGRESS
                return Claim(outcome=ClaimOutcome.LEASED if leased else ClaimOutcome.SETTLED, job=job)
            claimed = msgspec.structs.replace(
                job,
                status=JobStatus.IN_PROGRESS,
                updated_at=now,
                attempts=job.attempts + 1,
                lease_until=lease_until,
                final_attempt=final_attempt,
                completed_at=None,
            )
            self.items[job_id] = claimed
        return Claim(outcome=ClaimOutcome.CLAIMED, job=claimed)

    def settle(self, job: AsyncJob) -> None:
        self._fail("settle")
        with self._lock:
            stored = self.items.get(job.id)
            if stored is None or stored.attempts != job.attempts:
                raise StateConflictError("A later attempt has the job.")
            if stored.status not in _UNSETTLED and stored.status is not job.status:
                raise StateConflictError("The attempt has another outcome already.")
            if stored.status in _UNSETTLED:
                self.items[job.id] = job

    def cancel(self, job_id: str, *, now: int) -> AsyncJob:
        self._fail("cancel")
        with self._lock:
            job = self.items.get(job_id)
            if job is None:
                raise NotFoundError("There is no such job.")
            if job.status in _UNSETTLED:
                job = self.items[job_id] = job.cancelled(now=now)
            return job

    def note_cost(self, job: AsyncJob) -> None:
        self._fail("note_cost")
        with self._lock:
            stored = self.items.get(job.id)
            if stored is None or (stored.status, stored.attempts) != (JobStatus.CANCELLED, job.attempts):
                return
            self.items[job.id] = msgspec.structs.replace(
                stored, usage=job.usage or stored.usage, cost_micro_usd=_first(job.cost_micro_usd, stored)
            )

    def page(self, key_id: str, *, limit: int, after: str | None, now: int) -> tuple[tuple[AsyncJob, ...], bool]:
        self._fail("page")
        with self._lock:
            own = [job for job in self.items.values() if job.key_id == key_id]
        own.sort(key=_place, reverse=True)
        if after is not None:
            last = next((job for job in own if job.id == after), None)
            if last is None:
                raise NotFoundError("There is no such job.")
            own = [job for job in own if _place(job) < _place(last)]
        own = [job for job in own if job.forgotten_at > now]
        return tuple(own[:limit]), len(own) > limit

    def _fail(self, method: str) -> None:
        if error := self.failing.get(method):
            raise error


def _place(job: AsyncJob) -> tuple[int, str]:
    return job.created_at, job.id


def _first(cost_micro_usd: Decimal | None, stored: AsyncJob) -> Decimal | None:
    return stored.cost_micro_usd if cost_micro_usd is None else cost_micro_usd
