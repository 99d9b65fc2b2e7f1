"""Latencies counted by the millisecond.

Locust rounds what it reports: to 10 ms from 100 ms on, to 100 ms from a second on (`locust.stats`). Limits are judged
here, where a millisecond stays a millisecond.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator

__all__ = ["Histogram"]


class Histogram:
    """How many latencies fell into each millisecond.

    A millisecond is named by its upper end, so that no figure flatters: 1.2 ms counts as 2. Memory grows with the
    number of different milliseconds, never with the number of latencies.
    """

    def __init__(self, counts: Iterable[Iterable[int]] = ()) -> None:
        self._counts: Counter[int] = Counter()
        for milliseconds, count in counts:
            self._counts[milliseconds] += count

    def record(self, seconds: float) -> None:
        """Count one latency. One below zero (clocks differ) counts as none at all."""
        # To the nanosecond first: 0.005 s is 5 ms, not 5.000000000000001.
        self._counts[max(0, math.ceil(round(seconds * 1e3, 6)))] += 1

    def add(self, other: Histogram) -> None:
        """Count everything that `other` has counted as well."""
        self._counts.update(other._counts)

    def __len__(self) -> int:
        return self._counts.total()

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Milliseconds and how many, the shortest first."""
        return iter(sorted(self._counts.items()))

    def percentile(self, percent: float) -> int | None:
        """The shortest time in milliseconds that `percent` of the latencies do not exceed (nearest rank).

        None when nothing was counted.
        """
        if not self._counts:
            return None
        rank = max(1, math.ceil(round(len(self) * percent / 100, 6)))
        seen = 0
        for milliseconds, count in self:
            seen += count
            if seen >= rank:
                return milliseconds
        raise AssertionError("a rank lies within the count")

    @property
    def longest(self) -> int | None:
        """The longest latency in milliseconds, None when nothing was counted."""
        return max(self._counts, default=None)
