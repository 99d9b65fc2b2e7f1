"""Asynchronous jobs in memory: their store, and a queue that counts receives and has a dead-letter queue."""

import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import msgspec

from sluice.domain.errors import NotFoundError, SluiceError, StateConflictError
from sluice.domain.jobs import AsyncJob, Claim, ClaimOutcome, Delivery, JobPointer, JobStatus

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
            if job.id in self.items:
                raise StateConflictError("The job exists already.")
            self.items[job.id] = job

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

    def _fail(self, method: str) -> None:
        if error := self.failing.get(method):
            raise error


@dataclass
class _Message:
    message_id: str
    body: bytes
    visible_at: float
    receives: int = 0
    receipt: str = ""


@dataclass
class FakeQueue:
    """Implements :class:`~sluice.domain.ports.JobQueue`, and SQS's side of it for tests.

    ``visibility_s`` and ``max_receive_count`` are the queue's own; ``failing`` is raised by every call while it is set.
    """

    clock: Callable[[], float] = time.time
    visibility_s: int = 1800
    max_receive_count: int = 5
    failing: SluiceError | None = None
    delays: list[int] = field(default_factory=list)
    dead_letters: list[bytes] = field(default_factory=list)
    _messages: list[_Message] = field(default_factory=list)
    _count: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def send(self, pointer: JobPointer, *, delay_s: int = 0) -> None:
        self._fail()
        self.put(msgspec.json.encode(pointer), delay_s=delay_s)

    def delay(self, receipt_handle: str, *, seconds: int) -> None:
        self._fail()
        with self._lock:
            self.delays.append(seconds)
            for message in self._messages:
                if message.receipt == receipt_handle:
                    message.visible_at = self.clock() + seconds

    def put(self, body: bytes, *, delay_s: int = 0) -> None:
        """Enqueue any body."""
        with self._lock:
            self._count += 1
            self._messages.append(_Message(f"message-{self._count}", body, self.clock() + delay_s))

    def receive(self) -> list[Delivery]:
        """Every visible message, which is then invisible for a while; those received too often are moved instead."""
        now = self.clock()
        with self._lock:
            visible = [message for message in self._messages if message.visible_at <= now]
            dead = [message for message in visible if message.receives >= self.max_receive_count]
            self._messages = [message for message in self._messages if message not in dead]
            self.dead_letters += [message.body for message in dead]
            return [self._hand_out(message, now) for message in visible if message not in dead]

    def acknowledge(self, deliveries: Collection[Delivery], *, except_for: Collection[str]) -> None:
        """Delete what was delivered and not reported as failed."""
        done = {delivery.message_id for delivery in deliveries} - set(except_for)
        with self._lock:
            self._messages = [message for message in self._messages if message.message_id not in done]

    def redrive(self) -> None:
        """Bring every dead letter back, with its receives forgotten."""
        bodies, self.dead_letters = self.dead_letters, []
        for body in bodies:
            self.put(body)

    @property
    def bodies(self) -> list[bytes]:
        """What is in the queue, visible or not."""
        return [message.body for message in self._messages]

    def _hand_out(self, message: _Message, now: float) -> Delivery:
        message.receives += 1
        message.receipt = f"{message.message_id}/{message.receives}"
        message.visible_at = now + self.visibility_s
        try:
            pointer = msgspec.json.decode(message.body, type=JobPointer)
        except msgspec.DecodeError:
            pointer = None
        return Delivery(
            message_id=message.message_id,
            receipt_handle=message.receipt,
            receive_count=message.receives,
            pointer=pointer,
        )

    def _fail(self) -> None:
        if self.failing is not None:
            raise self.failing
