"""What became of an asynchronous request."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from sluice.domain.errors import NotFoundError, StateConflictError, StateError
from sluice.domain.ids import is_id
from sluice.domain.inference import Caller
from sluice.domain.jobs import JOB_PREFIX, AsyncJob, JobStatus, JobView, StoredAnswer
from sluice.domain.ports import JobStore, ObjectStore

_decoder = msgspec.json.Decoder(StoredAnswer)


@dataclass(frozen=True)
class ReadJob:
    """Reads one job and, when it is completed, its answer."""

    jobs: JobStore
    objects: ObjectStore
    clock: Callable[[], float] = time.time

    def read(self, job_id: str, caller: Caller) -> JobView:
        """The caller's own job. :raises NotFoundError: unknown, expired or another key's; the three look the same."""
        job = self._as_it_is(self._find(job_id, caller), caller)
        # A job that waits for its next attempt keeps the error of the last one.
        error = job.error if job.status is JobStatus.FAILED else None
        return JobView(job=job, status=job.status, answer=self._answer(job), error=error)

    def _find(self, job_id: str, caller: Caller) -> AsyncJob:
        job = self.jobs.get(job_id) if is_id(JOB_PREFIX, job_id) else None
        # DynamoDB deletes expired items when it gets round to it, which can take days.
        if job is None or job.key_id != caller.key_id or job.expires_at <= self.clock():
            raise NotFoundError("There is no such asynchronous request.", param="id")
        return job

    def _as_it_is(self, job: AsyncJob, caller: Caller) -> AsyncJob:
        """What is recorded. That a job was lost is recorded first, so that it is announced as well as told."""
        now = self.clock()
        if not job.lost_at(now):
            return job
        lost = job.given_up(now=int(now))
        try:
            self.jobs.settle(lost)
        except StateConflictError:
            # A redrive took it, or the worker was only slow.
            return self._find(job.id, caller)
        return lost

    def _answer(self, job: AsyncJob) -> StoredAnswer | None:
        if job.status is not JobStatus.COMPLETED or job.response_key is None:
            return None
        try:
            return _decoder.decode(self.objects.get(job.response_key))
        except (NotFoundError, msgspec.DecodeError) as exc:
            raise StateError("The stored answer cannot be read.", code="answer_unreadable") from exc
