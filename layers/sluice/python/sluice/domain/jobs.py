"""Asynchronous requests: a sync request that is answered later, durably."""

from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Final, Literal, Self

import msgspec

from sluice.domain.errors import CallerError, ConfigurationError, ProviderRejectedError, SluiceError
from sluice.domain.ids import id_pattern
from sluice.domain.inference import Usage

JOB_PREFIX: Final = "async"
INTERNAL_ERROR: Final = "internal_error"
UNEXPECTED: Final = "Something went wrong inside Sluice. Its operator can find out what by the id."
MISCONFIGURED: Final = "Sluice is misconfigured and cannot do this. Its operator can find out why by the id."
INVALID_REQUEST: Final = "invalid_request_error"
SERVER_ERROR: Final = "server_error"


class JobStatus(StrEnum):
    """queued → in_progress → completed | failed | cancelled.

    A retry goes back to queued, a redrive from failed to in_progress. What is cancelled stays so, whatever its worker,
    if it has one, comes to.
    """

    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Failure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why something failed, in words a caller may read. ``step`` is the index of a workflow's step."""

    code: str
    message: str
    type: str
    step: int | None = None

    @classmethod
    def of(cls, error: Exception, *, step: int | None = None) -> Self:
        """What to tell the caller about ``error``; nothing of an error that Sluice did not raise itself."""
        if not isinstance(error, SluiceError):
            return cls(code=INTERNAL_ERROR, message=UNEXPECTED, type=SERVER_ERROR, step=step)
        callers_fault = isinstance(error, CallerError | ProviderRejectedError)
        kind = INVALID_REQUEST if callers_fault else SERVER_ERROR
        # A configuration error names variables, items and permissions: for the log, not for callers.
        message = MISCONFIGURED if isinstance(error, ConfigurationError) else error.message
        return cls(code=error.code or kind, message=message, type=kind, step=step)


class JobAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer cost. ``cost_micro_usd`` of ``None`` means unknown."""

    usage: Usage
    cost_micro_usd: Decimal | None


WORKER_LOST: Final = Failure(
    code="worker_lost",
    message="The worker was lost during the last attempt. Submit the request again.",
    type=SERVER_ERROR,
)
NOT_ATTEMPTED: Final = Failure(
    code="not_attempted", message="The request could not be worked on. Submit it again.", type=SERVER_ERROR
)


class AsyncJob(msgspec.Struct, frozen=True, kw_only=True):
    """One asynchronous request. Times are epoch seconds.

    ``lease_until`` is set while a worker has it: until then no other worker takes it, after that it counts as lost.
    ``final_attempt`` is set with the last receive the queue allows: a lease lost then means the job failed.
    ``permanent`` is set when it failed by its own fault: running it again is useless, so no delivery does.
    ``attempts`` counts the claims and fences them: only the newest may store an outcome. Every attempt has a
    ``response_key`` of its own, so that a slow worker that was given up cannot overwrite what a later one stored.
    ``expires_at`` is when nothing of it is kept any more. With ``result_ttl_s`` callers see it for so long after it was
    completed, at most; it is kept all the same, for messages that come late.
    ``callback_url`` is where its end is told.
    """

    id: str
    key_id: str
    endpoint: str
    model: str
    status: JobStatus
    created_at: int
    updated_at: int
    expires_at: int
    request_key: str
    response_key: str | None = None
    attempts: int = 0
    lease_until: int | None = None
    final_attempt: bool = False
    permanent: bool = False
    completed_at: int | None = None
    cancelled_at: int | None = None
    allowed_models: tuple[str, ...] | None = None
    result_ttl_s: int | None = None
    callback_url: str | None = None
    error: Failure | None = None
    usage: Usage | None = None
    cost_micro_usd: Decimal | None = None

    @property
    def forgotten_at(self) -> int:
        """When callers see nothing of it any more."""
        if self.status is not JobStatus.COMPLETED or self.result_ttl_s is None or self.completed_at is None:
            return self.expires_at
        return min(self.expires_at, self.completed_at + self.result_ttl_s)

    def lost_at(self, now: float) -> bool:
        """Whether it has failed unrecorded: a worker that dies on the last attempt cannot say so itself."""
        lapsed = self.lease_until is not None and self.lease_until <= now
        return self.status is JobStatus.IN_PROGRESS and self.final_attempt and lapsed

    def claimable_at(self, now: float) -> bool:
        """Whether a worker may take it: not while another has it, not once there is nothing left to do."""
        if self.status is JobStatus.IN_PROGRESS:
            return self.lease_until is None or self.lease_until <= now
        return self.status is JobStatus.QUEUED or (self.status is JobStatus.FAILED and not self.permanent)

    def completed(self, answer: JobAnswer, *, now: int) -> Self:
        """This job, answered by the attempt it was claimed for."""
        return msgspec.structs.replace(
            self._settled(JobStatus.COMPLETED, now),
            completed_at=now,
            response_key=self.attempt_response_key,
            usage=answer.usage,
            cost_micro_usd=answer.cost_micro_usd,
            error=None,
        )

    def released(self, error: Failure, *, now: int) -> Self:
        """This job, waiting for its next attempt; ``error`` is why the last one failed."""
        return msgspec.structs.replace(self._settled(JobStatus.QUEUED, now), error=error)

    def failed(self, error: Failure, *, now: int, permanent: bool) -> Self:
        """This job, given up. Not ``permanent``: a redrive may run it again."""
        job = self._settled(JobStatus.FAILED, now)
        return msgspec.structs.replace(job, completed_at=now, error=error, permanent=permanent)

    def cancelled(self, *, now: int) -> Self:
        """This job, not wanted any more."""
        return msgspec.structs.replace(self._settled(JobStatus.CANCELLED, now), cancelled_at=now, error=None)

    def given_up(self, *, now: int) -> Self:
        """This job, failed because nobody is left to work on it; a redrive may run it again.

        A lost worker's job ended with its lease, whenever that is noticed.
        """
        if self.status is JobStatus.IN_PROGRESS:
            return self.failed(WORKER_LOST, now=self.lease_until or now, permanent=False)
        return self.failed(self.error or NOT_ATTEMPTED, now=now, permanent=False)

    @property
    def attempt_response_key(self) -> str:
        """Where the attempt that the job was claimed for stores its answer."""
        return f"{JOB_PREFIX}/{self.key_id}/{self.id}/attempt-{self.attempts}/response.json"

    def _settled(self, status: JobStatus, now: int) -> Self:
        return msgspec.structs.replace(self, status=status, updated_at=now, lease_until=None, final_attempt=False)


class JobView(msgspec.Struct, frozen=True, kw_only=True):
    """A job as its caller sees it now. ``answer`` is set exactly when it is completed, ``error`` when it failed.

    ``answer`` is JSON: the document that the sync route would have answered.
    """

    job: AsyncJob
    status: JobStatus
    answer: bytes | None = None
    error: Failure | None = None


class ClaimOutcome(StrEnum):
    """What came of trying to take a job."""

    CLAIMED = "claimed"
    LEASED = "leased"
    SETTLED = "settled"


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """``claimed``: the job is this worker's. ``leased``: another has it. ``settled``: there is nothing left to do.

    ``job`` is as stored after the attempt to claim it.
    """

    outcome: ClaimOutcome
    job: AsyncJob


class JobPointer(msgspec.Struct, frozen=True, kw_only=True):
    """What travels through the queue: never the request itself.

    A message whose work has to wait for its key's limits is replaced by a new one, of which the queue counts the
    receives from the start. ``receives`` is how many there were before that were attempts, ``waits`` how many that were
    not.
    """

    id: Annotated[str, msgspec.Meta(pattern=id_pattern(JOB_PREFIX))]
    version: Literal[1] = 1
    receives: Annotated[int, msgspec.Meta(ge=0)] = 0
    waits: Annotated[int, msgspec.Meta(ge=0)] = 0

    @property
    def subject(self) -> str:
        """The job's id."""
        return self.id
