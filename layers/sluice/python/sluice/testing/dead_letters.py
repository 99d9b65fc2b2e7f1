"""Queues, their dead letters and the reasons for them, in memory."""

import threading
from collections.abc import Callable, Sequence

from sluice.domain.errors import NotFoundError, SluiceError
from sluice.domain.redrive import DeadLetter, DeadLetterReason, QueueDepth

BATCH = 10


class FakeDeadLetters:
    """Implements :class:`~sluice.domain.ports.DeadLetters`. ``dead`` are the letters, ``sent`` what went back.

    ``on_move`` is called before each move; ``failing`` is raised by moves while it is set.
    """

    def __init__(self, *letters: DeadLetter, now: Callable[[], float]) -> None:
        self.dead = list(letters)
        self.sent: list[DeadLetter] = []
        self.hidden: set[str] = set()
        self.failing: SluiceError | None = None
        self.on_move: Callable[[], None] = lambda: None
        self._now = now

    def now_ms(self) -> int:
        return int(self._now() * 1000) + 1

    def receive(self) -> Sequence[DeadLetter]:
        batch = [letter for letter in self.dead if letter.handle not in self.hidden][:BATCH]
        self.hidden |= {letter.handle for letter in batch}
        return batch

    def move(self, letter: DeadLetter) -> None:
        self.on_move()
        if self.failing is not None:
            raise self.failing
        self.sent.append(letter)
        self.dead.remove(letter)

    def release(self, letter: DeadLetter) -> None:
        self.hidden.discard(letter.handle)


class FakeDeadLetterReasons:
    """Implements :class:`~sluice.domain.ports.DeadLetterReasons`. ``failing`` is raised while it is set."""

    def __init__(self, *reasons: DeadLetterReason) -> None:
        self.reasons = {(reason.queue, reason.message_id): reason for reason in reasons}
        self.failing: SluiceError | None = None
        self._lock = threading.Lock()

    def record(self, reason: DeadLetterReason, *, replace: bool = True) -> None:
        with self._lock:
            self._fail()
            if replace or (reason.queue, reason.message_id) not in self.reasons:
                self.reasons[reason.queue, reason.message_id] = reason

    def of_queue(self, queue: str, *, limit: int) -> Sequence[DeadLetterReason]:
        with self._lock:
            self._fail()
            found = [reason for reason in self.reasons.values() if reason.queue == queue]
        found.sort(key=lambda reason: (reason.at, reason.message_id), reverse=True)
        return found[:limit]

    def forget(self, queue: str, message_id: str) -> None:
        with self._lock:
            self._fail()
            self.reasons.pop((queue, message_id), None)

    def _fail(self) -> None:
        if self.failing is not None:
            raise self.failing


class FakeQueueDepths:
    """Implements :class:`~sluice.domain.ports.QueueDepths`."""

    def __init__(self, *depths: QueueDepth) -> None:
        self.depths = {depth.queue: depth for depth in depths}

    def names(self) -> Sequence[str]:
        return list(self.depths)

    def of_queue(self, name: str) -> QueueDepth:
        if name not in self.depths:
            raise NotFoundError(f"There is no queue of this name; there is: {', '.join(self.depths)}.", param="name")
        return self.depths[name]
