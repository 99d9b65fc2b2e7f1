"""What became of an asynchronous request."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from sluice.domain.errors import NotFoundError, StateError
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
        now = self.clock()
        job = self.jobs.get(job_id) if is_id(JOB_PREFIX, job_id) else None
        # DynamoDB deletes expired items when it gets round to it, which can take days.
        if job is None or job.key_id != caller.key_id or job.expires_at <= now:
            raise NotFoundError("There is no such asynchronous request.", param="id")
        return JobView(job=job, status=job.status_at(now), answer=self._answer(job), error=job.error_at(now))

    def _answer(self, job: AsyncJob) -> StoredAnswer | None:
        if job.status is not JobStatus.COMPLETED or job.response_key is None:
            return None
        try:
            return _decoder.decode(self.objects.get(job.response_key))
        except (NotFoundError, msgspec.DecodeError) as exc:
            raise StateError("The stored answer cannot be read.", code="answer_unreadable") from exc
