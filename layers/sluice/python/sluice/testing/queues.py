"""A queue in memory, which counts receives and has a dead-letter queue."""

import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Generic

import msgspec

from sluice.domain.deliveries import Delivery, P, Unreadable
from sluice.domain.errors import SluiceError


@dataclass
class _Message:
    message_id: str
    body: bytes
    visible_at: float
    receives: int = 0
    receipt: str = ""


@dataclass
class FakeQueue(Generic[P]):
    """Implements :class:`~sluice.domain.ports.WorkQueue`, and SQS's side of it for tests.

    ``kind`` is the type of its pointers. ``visibility_s`` and ``max_receive_count`` are the queue's own; ``failing`` is
    raised by every call while it is set.
    """

    kind: type[P]
    clock: Callable[[], float] = time.time
    visibility_s: int = 1800
    max_receive_count: int = 5
    failing: SluiceError | None = None
    delays: list[int] = field(default_factory=list)
    dead_letters: list[bytes] = field(default_factory=list)
    _messages: list[_Message] = field(default_factory=list)
    _count: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def send(self, pointer: P, *, delay_s: int = 0) -> None:
        self._fail()
        self.put(msgspec.json.encode(pointer), delay_s=delay_s)

    def send_many(self, pointers: Sequence[P], *, delay_s: int = 0) -> None:
        for pointer in pointers:
            self.send(pointer, delay_s=delay_s)

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

    def receive(self) -> list[Delivery[P] | Unreadable]:
        """Every visible message, which is then invisible for a while; those received too often are moved instead."""
        now = self.clock()
        with self._lock:
            visible = [message for message in self._messages if message.visible_at <= now]
            dead = [message for message in visible if message.receives >= self.max_receive_count]
            self._messages = [message for message in self._messages if message not in dead]
            self.dead_letters += [message.body for message in dead]
            return [self._hand_out(message, now) for message in visible if message not in dead]

    def acknowledge(self, deliveries: Collection[Delivery[P] | Unreadable], *, except_for: Collection[str]) -> None:
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

    @property
    def pointers(self) -> list[P]:
        """The pointers in the queue, visible or not."""
        return [msgspec.json.decode(body, type=self.kind) for body in self.bodies]

    def due(self, pointer: P) -> float:
        """When the first message with this pointer is visible, by the queue's clock. :raises StopIteration: none is."""
        body = msgspec.json.encode(pointer)
        return next(message.visible_at for message in self._messages if message.body == body)

    def _hand_out(self, message: _Message, now: float) -> Delivery[P] | Unreadable:
        message.receives += 1
        message.receipt = f"{message.message_id}/{message.receives}"
        message.visible_at = now + self.visibility_s
        try:
            pointer = msgspec.json.decode(message.body, type=self.kind)
        except msgspec.DecodeError:
            return Unreadable(
                message_id=message.message_id, receipt_handle=message.receipt, receive_count=message.receives
            )
        return Delivery(
            message_id=message.message_id,
            receipt_handle=message.receipt,
            receive_count=message.receives,
            pointer=pointer,
        )

    def _fail(self) -> None:
        if self.failing is not None:
            raise self.failing
