"""Which line of a chunk is run next.

Lines wait in lanes, one for each model they ask for. A lane whose model asks for patience is closed for a while, and
the others go on. How many lines of a lane are under way follows what its model takes: a throttle halves the number, and
as many answers as it allows raise it by one.
"""

import heapq
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from sluice.domain.tasks import Task

# Time spent on waiting is billed like any other: what has to wait for longer comes back with another delivery.
MOST_IDLE_S: Final = 15.0


class LineName(msgspec.Struct, frozen=True, kw_only=True):
    """Which line: its ``place`` among the chunk's requests (from 0), its ``number`` in the file (from 1)."""

    place: int
    number: int
    custom_id: str


class Line(LineName, frozen=True, kw_only=True):
    """A line that is to be run."""

    task: Task


class Unit(msgspec.Struct, kw_only=True):
    """Lines that are run by one call; mostly there is one. ``tries`` counts the failures that were their own."""

    lines: tuple[Line, ...]
    tries: int = 0

    @property
    def model(self) -> str:
        """The model they ask for, all the same one."""
        return self.lines[0].task.model


class _Lane:
    """The units of one model. Times are those of the queue's clock."""

    def __init__(self, most: int) -> None:
        self.ready: deque[Unit] = deque()
        self.later: list[tuple[float, int, Unit]] = []
        self.closed_until = 0.0
        self.most = most
        self.allowed = most
        self.under_way = 0
        self.answered = 0

    def next(self, now: float) -> Unit | None:
        if now < self.closed_until or self.under_way >= self.allowed:
            return None
        while self.later and self.later[0][0] <= now:
            self.ready.append(heapq.heappop(self.later)[2])
        return self.ready.popleft() if self.ready else None

    def left(self) -> list[Unit]:
        """Everything that waits here."""
        return [*self.ready, *(unit for _, _, unit in self.later)]

    def opens_at(self) -> float | None:
        """When there will be something, as far as it is known; ``None``: nothing waits here."""
        if self.ready:
            return self.closed_until
        return max(self.closed_until, self.later[0][0]) if self.later else None


class LineQueue:
    """The units of a chunk that are left to run. Safe to use from several threads.

    ``most`` is how many of one model may be under way at once. No unit is given out after ``start_by`` (of ``clock``).
    """

    def __init__(
        self,
        units: Sequence[Unit],
        *,
        most: Callable[[Unit], int],
        start_by: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._start_by = start_by
        self._changed = threading.Condition()
        self._order = itertools.count()
        self._lanes: dict[str, _Lane] = {}
        self._stopped = False
        for unit in units:
            self._lanes.setdefault(unit.model, _Lane(most(unit))).ready.append(unit)

    def take(self) -> Unit | None:
        """The next unit, waited for if need be; ``None`` when no more is to be had. Give it back in one of three ways.

        These are :meth:`done`, :meth:`put_back` and :meth:`drop`.
        """
        with self._changed:
            while not self._stopped:
                now = self._clock()
                if now >= self._start_by:
                    return None
                for lane in self._lanes.values():
                    unit = lane.next(now)
                    if unit is not None:
                        lane.under_way += 1
                        return unit
                wait_s = self._wait_s(now)
                if wait_s is None:
                    return None
                self._changed.wait(wait_s)
            return None

    def done(self, unit: Unit, *, answered: bool) -> None:
        """The unit has its results. ``answered``: by its model, which may take more at once then."""
        with self._changed:
            lane = self._back(unit)
            if answered:
                lane.answered += 1
                if lane.answered >= lane.allowed:
                    lane.allowed, lane.answered = min(lane.allowed + 1, lane.most), 0

    def put_back(self, unit: Unit, *, after_s: float = 0.0) -> None:
        """The unit is to be run again, after so many seconds."""
        with self._changed:
            lane = self._back(unit)
            heapq.heappush(lane.later, (self._clock() + after_s, next(self._order), unit))

    def replace(self, unit: Unit, units: Sequence[Unit]) -> None:
        """Run these instead of ``unit``."""
        with self._changed:
            self._back(unit).ready.extendleft(reversed(units))

    def drop(self, unit: Unit) -> None:
        """The unit is not to be run any more by this queue, and has no results."""
        with self._changed:
            self._back(unit)

    def close(self, model: str, *, for_s: float) -> None:
        """Run nothing of ``model`` for so many seconds, and less of it at once after that."""
        with self._changed:
            lane, until = self._lanes[model], self._clock() + for_s
            if self._clock() >= lane.closed_until:
                lane.allowed, lane.answered = max(1, lane.allowed // 2), 0
            lane.closed_until = max(lane.closed_until, until)

    def stop(self) -> None:
        """Give out nothing more; what is under way ends as it does."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    @property
    def width(self) -> int:
        """How many units can be under way at once."""
        with self._changed:
            return sum(min(lane.most, len(lane.left())) for lane in self._lanes.values())

    @property
    def late(self) -> bool:
        """Whether the time to begin anything is over."""
        return self._clock() >= self._start_by

    def tried(self) -> bool:
        """Whether something is left that has failed by itself, and could be run again."""
        with self._changed:
            left = (unit for lane in self._lanes.values() for unit in lane.left())
            return any(unit.tries for unit in left)

    def wait_s(self) -> float | None:
        """Seconds until something of what is left may be run, 0 when that is now; ``None`` when nothing is left."""
        with self._changed:
            times = [at for lane in self._lanes.values() if (at := lane.opens_at()) is not None]
            return max(0.0, min(times) - self._clock()) if times else None

    def _wait_s(self, now: float) -> float | None:
        """How long to wait for something to do; ``None``: nothing will come any more, or not soon."""
        lanes = self._lanes.values()
        # What is at its limit, or may yet be put back, is told by a notification.
        times = [at for lane in lanes if lane.under_way < lane.allowed and (at := lane.opens_at()) is not None]
        soonest = min([*times, self._start_by])
        idle = not any(lane.under_way for lane in lanes)
        if idle and (not times or soonest >= self._start_by or soonest - now > MOST_IDLE_S):
            return None
        return max(0.0, soonest - now)

    def _back(self, unit: Unit) -> _Lane:
        lane = self._lanes[unit.model]
        lane.under_way -= 1
        self._changed.notify_all()
        return lane
