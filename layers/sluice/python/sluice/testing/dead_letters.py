"""A queue and its dead letters, in memory."""

from collections.abc import Callable, Sequence

from sluice.domain.errors import SluiceError
from sluice.domain.redrive import DeadLetter

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
