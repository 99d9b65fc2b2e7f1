"""Accept a request now, to be answered later."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from sluice.domain.errors import ConfigurationError, StateConflictError, StateError
from sluice.domain.ids import new_id
from sluice.domain.inference import Caller
from sluice.domain.jobs import JOB_PREFIX, AsyncJob, Failure, JobPointer, JobStatus
from sluice.domain.ports import Endpoints, JobStore, ObjectStore, RouteSource, WorkQueue
from sluice.telemetry import logs

SECONDS_PER_DAY = 86_400
_log = logs.get_logger()


@dataclass(frozen=True)
class SubmitJob:
    """Stores the request, then the job, then sends the pointer: what is in the queue can always be worked on.

    A submit that is cut off between two of them leaves something nobody was told about, which expires by itself.
    ``result_ttl_days`` is how long job and result are kept.
    """

    endpoints: Endpoints
    routes: RouteSource
    objects: ObjectStore
    jobs: JobStore
    queue: WorkQueue[JobPointer]
    result_ttl_days: int
    clock: Callable[[], float] = time.time

    def submit(
        self,
        endpoint: str,
        body: bytes,
        caller: Caller,
        *,
        callback_url: str | None = None,
        result_ttl_s: int | None = None,
    ) -> AsyncJob:
        """The accepted job, once its message is in the queue.

        ``body`` is what the sync route ``endpoint`` would have been sent. ``result_ttl_s`` is how long the answer is
        kept once it is there, if that is to be less than what ``result_ttl_days`` leaves of it.

        :raises NotFoundError, PermissionDeniedError, InvalidRequestError: the route would refuse it.
        :raises StateError: it could not be stored or sent; nothing of it will run.
        """
        task = self.endpoints.parse(endpoint, body)
        self.routes.load().resolve(task.model, task.operation, caller.allowed_models)
        new = self._new_job(endpoint, task.model, caller)
        job = msgspec.structs.replace(new, callback_url=callback_url, result_ttl_s=result_ttl_s)
        self.objects.put(job.request_key, body)
        self.jobs.create(job)
        try:
            self.queue.send(JobPointer(id=job.id))
        except (StateError, ConfigurationError) as exc:
            self._give_up(job, exc)
        return job

    def _new_job(self, endpoint: str, model: str, caller: Caller) -> AsyncJob:
        now = int(self.clock())
        job_id = new_id(JOB_PREFIX)
        return AsyncJob(
            id=job_id,
            key_id=caller.key_id,
            endpoint=endpoint,
            model=model,
            status=JobStatus.QUEUED,
            created_at=now,
            updated_at=now,
            expires_at=now + self.result_ttl_days * SECONDS_PER_DAY,
            request_key=f"{JOB_PREFIX}/{caller.key_id}/{job_id}/request.json",
            allowed_models=caller.allowed_models,
        )

    def _give_up(self, job: AsyncJob, error: StateError | ConfigurationError) -> None:
        """Mark the job as failed and raise ``error``, unless a worker has the message after all."""
        try:
            self.jobs.settle(job.failed(Failure.of(error), now=int(self.clock()), permanent=False))
        except StateConflictError:
            _log.warning("async.sent_after_all", job_id=job.id)
            return
        except (StateError, ConfigurationError) as exc:
            _log.error("async.not_marked_failed", job_id=job.id, **logs.describe(exc))
        raise error
