"""Work on asynchronous requests: every delivery of every message ends in the right state, however often it comes.

A job that its key's limits have no room for now is not attempted: its message is replaced by one that comes later, and
so on for as long as it takes. One that no waiting helps has failed for good. What is cancelled while a worker has it is
worked on to its end, as its model has been asked, but nothing of it is stored except what it cost.
"""

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from sluice.domain.deadline import Deadline
from sluice.domain.deliveries import Delivery, Unreadable
from sluice.domain.errors import (
    ConfigurationError,
    InvalidRequestError,
    LeasedError,
    LimitError,
    NotFoundError,
    ProviderAuthError,
    SluiceError,
    StateConflictError,
    StateError,
)
from sluice.domain.inference import Mode
from sluice.domain.jobs import SERVER_ERROR, AsyncJob, ClaimOutcome, Failure, JobAnswer, JobPointer, JobStatus
from sluice.domain.patience import passes, wait_s
from sluice.domain.ports import Endpoints, JobStore, ObjectStore
from sluice.domain.tasks import Task, TaskAnswer
from sluice.services.consume import Consumer, Done, Later, Outcome
from sluice.services.key_holders import KeyHolders
from sluice.telemetry import logs

# A batch spends its time waiting for model providers, so its records wait side by side.
CONCURRENT_RECORDS: Final = 10
# The lease outlives the function: Lambda kills it at its timeout, a little after our deadline.
LEASE_MARGIN_S: Final = 15
# An answer is read through a function, whose own answers have 6 MB at most, with every quotation mark in them escaped.
MOST_ANSWER_BYTES: Final = 4_500_000
_TOO_LARGE: Final = Failure(
    code="answer_too_large",
    message=f"The answer has more than {MOST_ANSWER_BYTES} bytes, which cannot be fetched. Ask for less at once, or"
    " put the request into a batch.",
    type=SERVER_ERROR,
)


@dataclass(frozen=True)
class RunJob:
    """Runs the jobs that a batch of messages points to."""

    endpoints: Endpoints
    holders: KeyHolders
    objects: ObjectStore
    jobs: JobStore
    consumer: Consumer[JobPointer]
    clock: Callable[[], float] = time.time
    jitter: Callable[[float, float], float] = random.uniform

    def run(self, deliveries: Sequence[Delivery[JobPointer] | Unreadable], deadline: Deadline) -> list[str]:
        """The ids of the messages that the queue must keep: to deliver them again, or to move them to its DLQ."""

        def work(delivery: Delivery[JobPointer], last: bool) -> Outcome[JobPointer]:  # noqa: FBT001 - as Work has it
            return self._deliver(delivery, last=last, deadline=deadline)

        return self.consumer.run(deliveries, work, deadline, give_up=self._give_up, concurrency=CONCURRENT_RECORDS)

    def _deliver(self, delivery: Delivery[JobPointer], *, last: bool, deadline: Deadline) -> Outcome[JobPointer]:
        logs.bind(job_id=delivery.pointer.id)
        now = self.clock()
        claim = self.jobs.claim(
            delivery.pointer.id,
            now=int(now),
            lease_until=math.ceil(now + deadline.remaining_s()) + LEASE_MARGIN_S,
            final_attempt=last,
        )
        logs.canonical(claim=claim.outcome.value)
        if claim.outcome is ClaimOutcome.SETTLED:
            return Done()
        if claim.outcome is ClaimOutcome.LEASED:
            raise _leased(claim.job, now)
        return self._attempt(claim.job, delivery, last=last, deadline=deadline)

    def _give_up(self, delivery: Delivery[JobPointer]) -> Outcome[JobPointer] | None:
        """The receive after the last attempt: see that the end is recorded."""
        logs.bind(job_id=delivery.pointer.id)
        job = self.jobs.get(delivery.pointer.id)
        if job is None:
            raise NotFoundError("There is no such job.")
        now = self.clock()
        if not job.claimable_at(now):
            if job.status is JobStatus.IN_PROGRESS:
                raise _leased(job, now)
            return Done()
        if job.status is not JobStatus.FAILED:
            self.jobs.settle(job.given_up(now=int(now)))
            logs.canonical(attempt=job.attempts)
        return None

    def _attempt(
        self, job: AsyncJob, delivery: Delivery[JobPointer], *, last: bool, deadline: Deadline
    ) -> Outcome[JobPointer]:
        try:
            return self._tried(job, delivery, last=last, deadline=deadline)
        except StateConflictError:
            now = self.jobs.get(job.id)
            if now is not None and now.status is JobStatus.CANCELLED:
                logs.canonical(cancelled=True, attempt=job.attempts)
                return Done()
            # Another worker took over because this one's lease ran out. It will be found settled, or leased.
            logs.canonical(taken_over=True, attempt=job.attempts)
            raise

    def _tried(
        self, job: AsyncJob, delivery: Delivery[JobPointer], *, last: bool, deadline: Deadline
    ) -> Outcome[JobPointer]:
        """:raises StateConflictError: the job is not this worker's any more."""
        try:
            self._answer(job, deadline)
        except StateConflictError:
            raise
        except LimitError as exc:
            return self._wait_for_room(job, delivery, exc, last=last)
        except Exception as exc:  # noqa: BLE001  (whatever it was, the job must not stay in progress)
            return self._attempt_failed(job, exc, last=last)
        return Done()

    def _answer(self, job: AsyncJob, deadline: Deadline) -> None:
        caller = self.holders.caller(job.key_id, job.id)
        task = self._stored_task(job)
        ended = self._kept(job, self.endpoints.answer(task, caller, mode=Mode.ASYNC, deadline=deadline))
        try:
            self.jobs.settle(ended)
        except StateConflictError:
            self.jobs.note_cost(ended)
            raise

    def _kept(self, job: AsyncJob, answer: TaskAnswer) -> AsyncJob:
        """The job with its answer, which is stored as it is to be told."""
        now = int(self.clock())
        if len(answer.body) > MOST_ANSWER_BYTES:
            failed = job.failed(_TOO_LARGE, now=now, permanent=True)
            return msgspec.structs.replace(failed, usage=answer.usage, cost_micro_usd=answer.cost_micro_usd)
        self.objects.put(job.attempt_response_key, answer.body)
        return job.completed(JobAnswer(usage=answer.usage, cost_micro_usd=answer.cost_micro_usd), now=now)

    def _stored_task(self, job: AsyncJob) -> Task:
        try:
            return self.endpoints.parse(job.endpoint, self.objects.get(job.request_key))
        except (NotFoundError, InvalidRequestError) as exc:
            # It could be read when it came, so this is ours to mend, not the caller's: the message waits in the DLQ.
            raise StateError("The stored request cannot be read.", code="request_unreadable") from exc

    def _attempt_failed(self, job: AsyncJob, error: Exception, *, last: bool) -> Outcome[JobPointer]:
        failure = Failure.of(error)
        permanent = not _worth_repeating(error)
        now = int(self.clock())
        logs.canonical(attempt=job.attempts, permanent=permanent, last=last, **logs.describe(error))
        if permanent or last:
            self.jobs.settle(job.failed(failure, now=now, permanent=permanent))
        else:
            self.jobs.settle(job.released(failure, now=now))
        if not permanent:
            raise error
        return Done()

    def _wait_for_room(
        self, job: AsyncJob, delivery: Delivery[JobPointer], error: LimitError, *, last: bool
    ) -> Outcome[JobPointer]:
        """Nothing was asked of anybody: the job goes back as it came, under a message that counts no receive more.

        A message kept would use up its receives by waiting, and a failure later on would be the last one too early.
        """
        seconds = wait_s(error, waits=delivery.pointer.waits, jitter=self.jitter)
        if seconds is None:
            return self._attempt_failed(job, error, last=last)
        logs.canonical(waits=delivery.pointer.waits + 1, wait_s=seconds)
        self.jobs.settle(job.released(Failure.of(error), now=int(self.clock())))
        return Later(seconds, instead=delivery.waited())


def _leased(job: AsyncJob, now: float) -> LeasedError:
    return LeasedError(lease_until=job.lease_until or int(now))


def _worth_repeating(error: Exception) -> bool:
    """Whether a later attempt can succeed: by itself, or once an operator has mended the deployment."""
    if isinstance(error, ConfigurationError | ProviderAuthError) or not isinstance(error, SluiceError):
        return True
    return passes(error) if isinstance(error, LimitError) else error.retryable
