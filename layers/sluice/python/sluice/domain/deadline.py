"""Deadlines flow down: whoever starts work says when it must be over, and everything below gets what is left."""

import time
from collections.abc import Callable

Clock = Callable[[], float]
"""A monotonic clock in seconds; tests pass their own."""


class Deadline:
    """A moment after which nobody waits for the answer any more."""

    __slots__ = ("_at", "_clock")

    def __init__(self, at: float, clock: Clock = time.monotonic) -> None:
        self._at = at
        self._clock = clock

    @classmethod
    def after(cls, seconds: float, clock: Clock = time.monotonic) -> "Deadline":
        """The moment ``seconds`` from now."""
        return cls(clock() + seconds, clock)

    def remaining_s(self) -> float:
        """Seconds left, never below zero."""
        return max(0.0, self._at - self._clock())

    def within(self, seconds: float) -> float:
        """``seconds``, or what is left when that is less."""
        return min(seconds, self.remaining_s())

    @property
    def expired(self) -> bool:
        """Whether nothing is left."""
        return self.remaining_s() <= 0.0
