"""How fast batches go at each target, in memory."""

import threading
from collections.abc import Mapping, Sequence

from sluice.domain.errors import SluiceError
from sluice.domain.pace import Pace, PaceState


class FakePace:
    """Implements :class:`~sluice.domain.ports.PaceStore`. ``failing`` is raised by every call while it is set.

    ``writes`` counts the swaps, those that were lost included; ``most_at_work`` is the most slots that a target had.
    """

    def __init__(self) -> None:
        self.stored: dict[str, PaceState] = {}
        self.failing: SluiceError | None = None
        self.writes = 0
        self.most_at_work = 0
        self._lock = threading.Lock()

    def read(self, names: Sequence[str]) -> Mapping[str, PaceState]:
        self._fail()
        with self._lock:
            return {name: self.stored[name] for name in names if name in self.stored}

    def swap(self, name: str, pace: Pace, *, version: str | None) -> tuple[bool, PaceState]:
        self._fail()
        with self._lock:
            self.writes += 1
            stored = self.stored.get(name, PaceState())
            if stored.version != version:
                return False, stored
            self.stored[name] = PaceState(pace=pace, version=f"version-{self.writes}")
            self.most_at_work = max(self.most_at_work, len(pace.slots))
            return True, self.stored[name]

    def _fail(self) -> None:
        if self.failing is not None:
            raise self.failing
