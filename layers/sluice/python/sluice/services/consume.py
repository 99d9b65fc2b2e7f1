"""Work off a queue's messages: every one ends acknowledged, or in the dead-letter queue with the reason why.

The queue counts how often it hands a message out. So many of those receives are attempts; it allows one more before it
moves the message to its dead-letter queue, and that one is for what a worker that died on the last attempt could not
do: give up what the message points to, and say why.
"""

import math
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Generic

from sluice.domain.deadline import Deadline
from sluice.domain.deliveries import Delivery, P, Unreadable
from sluice.domain.errors import CallerError, LeasedError, SluiceError
from sluice.domain.ports import DeadLetterReasons, WorkQueue
from sluice.domain.redrive import DeadLetterReason
from sluice.telemetry import logs, tracing

PUT_OFF_S: Final = 5
MAX_DELAY_S: Final = 900
INTERNAL_ERROR: Final = "internal_error"
UNREADABLE: Final = "unreadable_message"
WORKER_LOST: Final = "worker_lost"
_log = logs.get_logger()


@dataclass(frozen=True)
class Done:
    """The message has done its duty."""


@dataclass(frozen=True)
class Later(Generic[P]):
    """Nothing was tried: the message is to come again in ``seconds`` (at most 900), and this was not its last attempt.

    It is kept, until its receives run out, and replaced by a new one then. With ``instead`` it is replaced at once, by
    a message with this pointer (see :meth:`~sluice.domain.deliveries.Delivery.waited`): for what may take many waits,
    which would leave few receives for attempts.
    """

    seconds: int
    instead: P | None = None


Outcome = Done | Later[P]
Work = Callable[[Delivery[P], bool], Outcome[P]]
"""Does what a delivery points to; the second argument says whether this is the last attempt.

What it raises makes the receive an attempt that failed: the message comes again after a while. ``LeasedError`` does
not: the message comes again when the lease is over.
"""
GiveUp = Callable[[Delivery[P]], Outcome[P] | None]
"""Records, after the last attempt, that nobody will go on. ``None``: the dead-letter queue shall have the message."""


@dataclass(frozen=True)
class Consumer(Generic[P]):
    """Works off the messages of the queue that operators know as ``queue_name``.

    ``max_receive_count`` is how many receives of a message are attempts: one less than the queue allows.
    ``retry_base_s`` is the first step of the exponential backoff, ``start_needs_s`` the time an attempt should have.
    """

    queue: WorkQueue[P]
    reasons: DeadLetterReasons
    queue_name: str
    max_receive_count: int
    retry_base_s: float
    start_needs_s: float = 0
    clock: Callable[[], float] = time.time
    jitter: Callable[[float, float], float] = random.uniform

    def run(
        self,
        deliveries: Sequence[Delivery[P] | Unreadable],
        work: Work[P],
        deadline: Deadline,
        *,
        give_up: GiveUp[P] | None = None,
        concurrency: int = 1,
    ) -> list[str]:
        """The ids of the messages that the queue must keep: to deliver them again, or to move them to its DLQ.

        So many messages are worked on side by side as ``concurrency`` says. Each logs a canonical line of its own.
        """
        # What starts late still starts: half of what is left is better than never.
        start_by = min(self.start_needs_s, deadline.remaining_s() / 2)

        def handle(delivery: Delivery[P]) -> bool:
            if delivery.tries > self.max_receive_count:
                return self._give_up(delivery, give_up)
            if deadline.remaining_s() < start_by:
                return self._put_off(delivery, Later(PUT_OFF_S))
            return self._attempt(delivery, work)

        def one(received: Delivery[P] | Unreadable) -> bool:
            return self._run_one(received, handle)

        with ThreadPoolExecutor(max_workers=max(1, min(concurrency, len(deliveries)))) as pool:
            running = [pool.submit(tracing.carried(one), received) for received in deliveries]
        done = [future.result() for future in running]
        return [received.message_id for received, finished in zip(deliveries, done, strict=True) if not finished]

    def _run_one(self, received: Delivery[P] | Unreadable, handle: Callable[[Delivery[P]], bool]) -> bool:
        """Whether the message has done its duty. Raises nothing: one record must never decide about the others."""
        # Each record is a unit of work with a canonical line of its own.
        logs.begin_part(subject=_subject(received), receive_count=received.receive_count)
        try:
            finished = self._unreadable(received) if isinstance(received, Unreadable) else handle(received)
        except Exception as exc:  # noqa: BLE001  (a bug too must leave the other records alone)
            logs.canonical(**logs.describe(exc))
            self._delay(received, MAX_DELAY_S)
            finished = False
        _log.info(f"{self.queue_name}.record", acknowledged=finished, **logs.canonical_fields())
        return finished

    def _unreadable(self, received: Unreadable) -> bool:
        """No repeat can mend it: let its receives run out at once."""
        logs.canonical(unreadable=True, message_id=received.message_id)
        if received.tries > self.max_receive_count:
            self._record(received, UNREADABLE, "The message is not of the form that this queue is for.")
        self._delay(received, 0)
        return False

    def _attempt(self, delivery: Delivery[P], work: Work[P]) -> bool:
        try:
            outcome = work(delivery, self._is_last(delivery))
        except LeasedError as exc:
            logs.canonical(leased=True)
            outcome = Later(self._seconds_until(exc), instead=delivery.waited())
        except Exception as exc:  # noqa: BLE001  (whatever it was, the message must come again)
            self._failed(delivery, exc)
            return False
        return isinstance(outcome, Done) or self._put_off(delivery, outcome)

    def _failed(self, delivery: Delivery[P], error: Exception) -> None:
        """The queue counts the receives, so this too ends in the DLQ some time."""
        logs.canonical(**logs.describe(error))
        if self._is_last(delivery):
            self._record(delivery, *_told(error))
            self._delay(delivery, 0)  # the next receive is the one that moves it to the DLQ
            return
        ceiling = min(self.retry_base_s * 2 ** (delivery.tries - 1), MAX_DELAY_S)
        asked = getattr(error, "retry_after_s", None)
        # Full jitter, see https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
        wait = max(self.jitter(0, ceiling), min(asked or 0, MAX_DELAY_S))
        self._delay(delivery, math.ceil(wait))

    def _give_up(self, delivery: Delivery[P], give_up: GiveUp[P] | None) -> bool:
        """The receive after the last attempt: see that the end is recorded, and let the queue have the message."""
        code, message = (
            WORKER_LOST,
            "The worker was lost during the last attempt, or before it could say why it failed.",
        )
        outcome: Outcome[P] | None = None
        try:
            outcome = give_up(delivery) if give_up else None
        except LeasedError as exc:
            outcome = Later(self._seconds_until(exc))
        except Exception as exc:  # noqa: BLE001  (whatever it was, the message belongs to the operator now)
            logs.canonical(**logs.describe(exc))
            code, message = _told(exc)
        if outcome is not None:
            self._forget(delivery)
            return isinstance(outcome, Done) or self._put_off(delivery, outcome)
        logs.canonical(given_up=True)
        # Whoever failed in the last attempt knew better why.
        self._record(delivery, code, message, replace=False)
        self._delay(delivery, 0)
        return False

    def _put_off(self, delivery: Delivery[P], later: Later[P]) -> bool:
        """Nothing was tried, so this receive must not be the one that sends the message to the DLQ."""
        seconds = max(0, min(later.seconds, MAX_DELAY_S))
        logs.canonical(put_off_s=seconds)
        if later.instead is None and not self._is_last(delivery):
            self._delay(delivery, seconds)
            return False
        try:
            self.queue.send(later.instead or delivery.pointer, delay_s=seconds)
        except SluiceError as exc:
            # Then it costs a receive.
            logs.canonical(**logs.describe(exc))
            self._delay(delivery, seconds)
            return False
        return True

    def _seconds_until(self, error: LeasedError) -> int:
        return math.ceil(error.lease_until - self.clock()) + 1

    def _record(self, received: Delivery[P] | Unreadable, code: str, message: str, *, replace: bool = True) -> None:
        reason = DeadLetterReason(
            queue=self.queue_name,
            message_id=received.message_id,
            subject=_subject(received),
            code=code,
            message=message,
            at=int(self.clock()),
            receives=received.tries,
        )
        try:
            self.reasons.record(reason, replace=replace)
        except SluiceError as exc:
            # The message tells that there is something to look into, and the log tells what.
            _log.warning("consume.reason_not_recorded", **logs.describe(exc))

    def _forget(self, delivery: Delivery[P]) -> None:
        try:
            self.reasons.forget(self.queue_name, delivery.message_id)
        except SluiceError as exc:
            _log.warning("consume.reason_not_forgotten", **logs.describe(exc))

    def _delay(self, received: Delivery[P] | Unreadable, seconds: int) -> None:
        try:
            self.queue.delay(received.receipt_handle, seconds=seconds)
        except SluiceError as exc:
            # The queue's own visibility timeout applies then: later, but not lost.
            _log.warning("consume.not_delayed", **logs.describe(exc))

    def _is_last(self, delivery: Delivery[P]) -> bool:
        return delivery.tries >= self.max_receive_count


def _subject(received: Delivery[P] | Unreadable) -> str | None:
    return None if isinstance(received, Unreadable) else received.pointer.subject


def _told(error: Exception) -> tuple[str, str]:
    """A code, and words that quote nothing of a caller's: what a refusal says may, and an unforeseen error may too."""
    if not isinstance(error, SluiceError):
        return INTERNAL_ERROR, f"{type(error).__name__}: see the log."
    code = error.code or INTERNAL_ERROR
    return code, "The work was refused." if isinstance(error, CallerError) else error.message
