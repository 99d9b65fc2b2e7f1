"""Accept a request now, to be answered later."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from sluice.domain.errors import ConfigurationError, StateConflictError, StateError
from sluice.domain.ids import new_id
from sluice.domain.inference import Caller, ChatRequest, Operation
from sluice.domain.jobs import JOB_PREFIX, AsyncJob, Failure, JobPointer, JobStatus
from sluice.domain.ports import JobQueue, JobStore, ObjectStore, RouteSource
from sluice.telemetry import logs

SECONDS_PER_DAY = 86_400
_log = logs.get_logger()


@dataclass(frozen=True)
class SubmitJob:
    """Stores the request, then the job, then sends the pointer: what is in the queue can always be worked on.

    A submit that is cut off between two of them leaves something nobody was told about, which expires by itself.
    ``result_ttl_days`` is how long job and result are kept.
    """

    routes: RouteSource
    objects: ObjectStore
    jobs: JobStore
    queue: JobQueue
    result_ttl_days: int
    clock: Callable[[], float] = time.time

    def submit(self, request: ChatRequest, caller: Caller, *, endpoint: str) -> AsyncJob:
        """The accepted job, once its message is in the queue.

        :raises NotFoundError, PermissionDeniedError, InvalidRequestError: the model cannot be used.
        :raises StateError: it could not be stored or sent; nothing of it will run.
        """
        self.routes.load().resolve(request.model, Operation.CHAT, caller.allowed_models)
        job = self._new_job(request, caller, endpoint)
        self.objects.put(job.request_key, msgspec.json.encode(request))
        self.jobs.create(job)
        try:
            self.queue.send(JobPointer(id=job.id))
        except (StateError, ConfigurationError) as exc:
            self._give_up(job, exc)
        return job

    def _new_job(self, request: ChatRequest, caller: Caller, endpoint: str) -> AsyncJob:
        now = int(self.clock())
        job_id = new_id(JOB_PREFIX)
        return AsyncJob(
            id=job_id,
            key_id=caller.key_id,
            endpoint=endpoint,
            model=request.model,
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
