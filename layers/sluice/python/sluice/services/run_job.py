"""Work on asynchronous requests: every delivery of every message ends in the right state, however often it comes.

A job that its key's limits have no room for now is not attempted: its message is replaced by one that comes later, and
so on for as long as it takes. One that no waiting helps has failed for good.
"""

import math
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import msgspec

from sluice.domain.deadline import Deadline
from sluice.domain.errors import (
    ConfigurationError,
    LimitError,
    NotFoundError,
    ProviderAuthError,
    ProviderError,
    SluiceError,
    StateConflictError,
    StateError,
)
from sluice.domain.inference import ChatRequest, Mode
from sluice.domain.jobs import (
    AsyncJob,
    ClaimOutcome,
    Delivery,
    Failure,
    JobAnswer,
    JobPointer,
    JobStatus,
    StoredAnswer,
)
from sluice.domain.patience import passes, wait_s
from sluice.domain.ports import JobQueue, JobStore, ObjectStore
from sluice.services.infer import Inference
from sluice.services.key_holders import KeyHolders
from sluice.telemetry import logs, tracing

# A batch spends its time waiting for model providers, so its records wait side by side.
CONCURRENT_RECORDS: Final = 10
# The lease outlives the function: Lambda kills it at its timeout, a little after our deadline.
LEASE_MARGIN_S: Final = 15
PUT_OFF_S: Final = 5
MAX_BACKOFF_S: Final = 900
_log = logs.get_logger()
_request_decoder = msgspec.json.Decoder(ChatRequest)


@dataclass(frozen=True)
class RunJob:
    """Runs the jobs that a batch of messages points to.

    ``max_receive_count`` is how many receives of a message are attempts. The queue allows one more before it moves the
    message to its dead-letter queue; that one records what a worker that died on the last attempt could not.
    ``retry_base_s`` is the first step of the exponential backoff; ``start_needs_s`` the time an attempt should have.
    """

    inference: Inference
    holders: KeyHolders
    objects: ObjectStore
    jobs: JobStore
    queue: JobQueue
    max_receive_count: int
    retry_base_s: float
    start_needs_s: float
    clock: Callable[[], float] = time.time
    jitter: Callable[[float, float], float] = random.uniform

    def run(self, deliveries: Sequence[Delivery], deadline: Deadline) -> list[str]:
        """The ids of the messages that the queue must keep: to deliver them again, or to move them to its DLQ."""
        # A batch that starts late still starts: half of what is left is better than never.
        start_by = min(self.start_needs_s, deadline.remaining_s() / 2)

        def work(delivery: Delivery) -> bool:
            return self._run_one(delivery, deadline, start_by)

        with ThreadPoolExecutor(max_workers=max(1, min(CONCURRENT_RECORDS, len(deliveries)))) as pool:
            running = [pool.submit(tracing.carried(work), delivery) for delivery in deliveries]
        done = [future.result() for future in running]
        return [delivery.message_id for delivery, finished in zip(deliveries, done, strict=True) if not finished]

    def _run_one(self, delivery: Delivery, deadline: Deadline, start_by: float) -> bool:
        """Whether the message has done its duty. Raises nothing: one record must never decide about the others."""
        # Each record is a unit of work with a canonical line of its own.
        logs.begin_part(job_id=delivery.pointer and delivery.pointer.id, receive_count=delivery.receive_count)
        try:
            finished = self._deliver(delivery, deadline, start_by)
        except Exception as exc:  # noqa: BLE001  (a bug too must leave the other records alone)
            # The claim's own failure, or a bug. The queue counts the receives, so this too ends in the DLQ.
            logs.canonical(**logs.describe(exc))
            self._back_off(delivery, exc)
            finished = False
        _log.info("async.record", acknowledged=finished, **logs.canonical_fields())
        return finished

    def _deliver(self, delivery: Delivery, deadline: Deadline, start_by: float) -> bool:
        if delivery.pointer is None:
            logs.canonical(unreadable=True, message_id=delivery.message_id)
            self._delay(delivery, 0)
            return False
        if delivery.tries > self.max_receive_count:
            return self._give_up(delivery, delivery.pointer)
        if deadline.remaining_s() < start_by:
            return self._put_off(delivery, PUT_OFF_S)
        now = self.clock()
        claim = self.jobs.claim(
            delivery.pointer.id,
            now=int(now),
            lease_until=math.ceil(now + deadline.remaining_s()) + LEASE_MARGIN_S,
            final_attempt=self._is_last(delivery),
        )
        logs.canonical(claim=claim.outcome.value)
        if claim.outcome is ClaimOutcome.SETTLED:
            return True
        if claim.outcome is ClaimOutcome.LEASED:
            return self._wait_for_lease(claim.job, delivery, now)
        return self._attempt(claim.job, delivery, deadline)

    def _give_up(self, delivery: Delivery, pointer: JobPointer) -> bool:
        """The receive after the last attempt: see that the end is recorded, and let the queue have the message."""
        job = self.jobs.get(pointer.id)
        if job is None:
            raise NotFoundError("There is no such job.")
        now = self.clock()
        if not job.claimable_at(now):
            leased = job.status is JobStatus.IN_PROGRESS
            return self._wait_for_lease(job, delivery, now) if leased else True
        if job.status is not JobStatus.FAILED:
            self.jobs.settle(job.given_up(now=int(now)))
            logs.canonical(given_up=True, attempt=job.attempts)
        self._delay(delivery, 0)
        return False

    def _wait_for_lease(self, job: AsyncJob, delivery: Delivery, now: float) -> bool:
        return self._put_off(delivery, math.ceil((job.lease_until or now) - now) + 1)

    def _attempt(self, job: AsyncJob, delivery: Delivery, deadline: Deadline) -> bool:
        try:
            self._answer(job, deadline)
        except StateConflictError:
            # Another worker took over because this one's lease ran out. The message is that worker's to acknowledge.
            logs.canonical(taken_over=True, attempt=job.attempts)
            return False
        except LimitError as exc:
            return self._wait_for_room(job, delivery, exc)
        except Exception as exc:  # noqa: BLE001  (whatever it was, the job must not stay in progress)
            return self._attempt_failed(job, delivery, exc)
        return True

    def _answer(self, job: AsyncJob, deadline: Deadline) -> None:
        caller = self.holders.caller(job.key_id, job.id)
        outcome = self.inference.chat(self._stored_request(job), caller, mode=Mode.ASYNC, deadline=deadline)
        answer = StoredAnswer(result=outcome.result, target=outcome.target.name)
        self.objects.put(job.attempt_response_key, msgspec.json.encode(answer))
        cost = JobAnswer(usage=outcome.result.usage, cost_micro_usd=outcome.report.cost_micro_usd)
        self.jobs.settle(job.completed(cost, now=int(self.clock())))

    def _stored_request(self, job: AsyncJob) -> ChatRequest:
        try:
            return _request_decoder.decode(self.objects.get(job.request_key))
        except (NotFoundError, msgspec.DecodeError) as exc:
            # Ours to mend, not the caller's: the message waits in the DLQ until the object is back.
            raise StateError("The stored request cannot be read.", code="request_unreadable") from exc

    def _attempt_failed(self, job: AsyncJob, delivery: Delivery, error: Exception) -> bool:
        failure = Failure.of(error)
        permanent = not _worth_repeating(error)
        last = self._is_last(delivery)
        now = int(self.clock())
        logs.canonical(attempt=job.attempts, permanent=permanent, last=last, **logs.describe(error))
        if permanent or last:
            self.jobs.settle(job.failed(failure, now=now, permanent=permanent))
        else:
            self.jobs.settle(job.released(failure, now=now))
        if not permanent:
            self._back_off(delivery, error)
        return permanent

    def _wait_for_room(self, job: AsyncJob, delivery: Delivery, error: LimitError) -> bool:
        """Nothing was asked of anybody: the job goes back as it came, under a message that counts no receive more.

        A message kept would use up its receives by waiting, and a failure later on would be the last one too early.
        """
        pointer = delivery.pointer
        seconds = wait_s(error, waits=pointer.waits if pointer else 0, jitter=self.jitter)
        if seconds is None or pointer is None:
            return self._attempt_failed(job, delivery, error)
        logs.canonical(waits=pointer.waits + 1, wait_s=seconds)
        self.jobs.settle(job.released(Failure.of(error), now=int(self.clock())))
        later = msgspec.structs.replace(pointer, receives=delivery.tries - 1, waits=pointer.waits + 1)
        self.queue.send(later, delay_s=seconds)
        return True

    def _put_off(self, delivery: Delivery, seconds: int) -> bool:
        """Nothing was tried, so this receive must not be the one that sends the message to the DLQ."""
        seconds = min(seconds, MAX_BACKOFF_S)
        if not self._is_last(delivery) or delivery.pointer is None:
            self._delay(delivery, seconds)
            return False
        self.queue.send(delivery.pointer, delay_s=seconds)
        return True

    def _back_off(self, delivery: Delivery, error: Exception) -> None:
        if self._is_last(delivery):
            self._delay(delivery, 0)  # the next receive is the one that moves it to the DLQ
            return
        ceiling = min(self.retry_base_s * 2 ** (delivery.tries - 1), MAX_BACKOFF_S)
        asked = error.retry_after_s if isinstance(error, LimitError | ProviderError) else None
        # Full jitter, see https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
        wait = max(self.jitter(0, ceiling), min(asked or 0, MAX_BACKOFF_S))
        self._delay(delivery, math.ceil(wait))

    def _delay(self, delivery: Delivery, seconds: int) -> None:
        try:
            self.queue.delay(delivery.receipt_handle, seconds=seconds)
        except SluiceError as exc:
            # The queue's own visibility timeout applies then: later, but not lost.
            _log.warning("async.not_delayed", **logs.describe(exc))

    def _is_last(self, delivery: Delivery) -> bool:
        return delivery.tries >= self.max_receive_count


def _worth_repeating(error: Exception) -> bool:
    """Whether a later attempt can succeed: by itself, or once an operator has mended the deployment."""
    if isinstance(error, ConfigurationError | ProviderAuthError) or not isinstance(error, SluiceError):
        return True
    return passes(error) if isinstance(error, LimitError) else error.retryable
