"""What became of asynchronous requests, and that one is not wanted any more."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from sluice.domain.errors import ConflictError, NotFoundError, StateConflictError, StateError
from sluice.domain.ids import is_id
from sluice.domain.inference import Caller
from sluice.domain.jobs import JOB_PREFIX, AsyncJob, JobStatus, JobView
from sluice.domain.ports import JobStore, ObjectStore

_decoder = msgspec.json.Decoder(msgspec.Raw)


@dataclass(frozen=True)
class ReadJob:
    """Reads a caller's own jobs: one of them with its answer, or a page of them without; and cancels one."""

    jobs: JobStore
    objects: ObjectStore
    clock: Callable[[], float] = time.time

    def read(self, job_id: str, caller: Caller) -> JobView:
        """The caller's own job. :raises NotFoundError: unknown, expired or another key's; the three look the same."""
        job = self._as_it_is(self._find(job_id, caller), caller)
        return msgspec.structs.replace(_view(job), answer=self._answer(job))

    def page(self, caller: Caller, *, limit: int, after: str | None) -> tuple[tuple[JobView, ...], bool]:
        """The caller's jobs, newest first, without answers; those behind the job ``after``; whether there are more.

        A job that was accepted within the last second or so may be missing.

        :raises NotFoundError: the caller has no job ``after``.
        """
        if after is not None:
            self._find(after, caller)
        jobs, has_more = self.jobs.page(caller.key_id, limit=limit, after=after, now=int(self.clock()))
        return tuple(_view(self._as_it_is(job, caller)) for job in jobs), has_more

    def cancel(self, job_id: str, caller: Caller) -> JobView:
        """End the caller's own job: it is not begun any more, and what a worker is doing is not stored.

        What a model was asked by then is billed. Once cancelled it stays so, however often it is asked for.

        :raises NotFoundError: unknown, expired or another key's; the three look the same.
        :raises ConflictError: it has completed or failed before.
        """
        found = self._as_it_is(self._find(job_id, caller), caller)
        job = self.jobs.cancel(found.id, now=int(self.clock()))
        if job.status is not JobStatus.CANCELLED:
            raise ConflictError(f"The request has {job.status.value} already.", code="already_ended", param="id")
        return _view(job)

    def _find(self, job_id: str, caller: Caller) -> AsyncJob:
        job = self.jobs.get(job_id) if is_id(JOB_PREFIX, job_id) else None
        # DynamoDB deletes expired items when it gets round to it, which can take days.
        if job is None or job.key_id != caller.key_id or job.forgotten_at <= self.clock():
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

    def _answer(self, job: AsyncJob) -> bytes | None:
        if job.status is not JobStatus.COMPLETED or job.response_key is None:
            return None
        try:
            return bytes(_decoder.decode(self.objects.get(job.response_key)))
        except (NotFoundError, msgspec.DecodeError) as exc:
            raise StateError("The stored answer cannot be read.", code="answer_unreadable") from exc


def _view(job: AsyncJob) -> JobView:
    # A job that waits for its next attempt keeps the error of the last one.
    return JobView(job=job, status=job.status, error=job.error if job.status is JobStatus.FAILED else None)
