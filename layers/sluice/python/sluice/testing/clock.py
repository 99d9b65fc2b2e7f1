"""A clock that only moves when told to."""


class FakeClock:
    """Both a clock (call it) and a ``sleep`` that takes no time. Starts at 1,000 seconds."""

    def __init__(self, start: float = 1_000.0) -> None:
        self.time = start
        self.slept: list[float] = []

    def __call__(self) -> float:
        """The time in seconds."""
        return self.time

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.time += seconds

    def sleep(self, seconds: float) -> None:
        """Let time pass, and remember by how much."""
        self.slept.append(seconds)
        self.advance(seconds)
