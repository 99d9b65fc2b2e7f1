"""What is made of the measurements: percentiles, the spread between rounds, and what must hold."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Cold", "Gate", "Memory", "Times", "Warm", "percentile", "ratio"]


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile: the smallest value that at least ``share`` (0 to 1) of ``values`` do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


@dataclass(frozen=True)
class Times:
    """One thing measured in several rounds: one value for each. Milliseconds."""

    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Of the rounds."""
        return statistics.median(self.rounds)

    @property
    def spread(self) -> float:
        """How far apart the rounds are: from lower quartile to upper, so that one bad moment is not all of it."""
        if len(self.rounds) < 2:
            return 0.0
        lower, _, upper = statistics.quantiles(self.rounds, n=4, method="inclusive")
        return upper - lower

    @property
    def spread_percent(self) -> float:
        """The spread as a share of the median."""
        return 100 * self.spread / self.median

    def summary(self) -> dict[str, Any]:
        """For the results file."""
        return {
            "median_ms": round(self.median, 3),
            "spread_ms": round(self.spread, 3),
            "spread_percent": round(self.spread_percent, 1),
            "rounds_ms": [round(value, 3) for value in self.rounds],
        }


@dataclass(frozen=True)
class Warm:
    """Warm requests: the latencies of each round in seconds, and the CPU seconds that each round took."""

    latencies_s: tuple[tuple[float, ...], ...]
    cpu_s: tuple[float, ...] = ()

    @property
    def medians(self) -> Times:
        """The median latency of each round."""
        return Times(tuple(statistics.median(one) * 1000 for one in self.latencies_s))

    @property
    def cpu(self) -> Times:
        """CPU time a request in each round."""
        pairs = zip(self.cpu_s, self.latencies_s, strict=True)
        return Times(tuple(1000 * cpu / len(one) for cpu, one in pairs))

    def percentile_ms(self, share: float) -> float:
        """Over the requests of all rounds."""
        return 1000 * percentile([value for one in self.latencies_s for value in one], share)

    def summary(self) -> dict[str, Any]:
        """For the results file."""
        found: dict[str, Any] = {
            "requests": sum(map(len, self.latencies_s)),
            "p50_ms": round(self.percentile_ms(0.5), 3),
            "p95_ms": round(self.percentile_ms(0.95), 3),
            "p99_ms": round(self.percentile_ms(0.99), 3),
            "medians": self.medians.summary(),
        }
        return found | ({"cpu": self.cpu.summary()} if self.cpu_s else {})


@dataclass(frozen=True)
class Cold:
    """Cold starts: process start to the first ``next``, and the first request after it, in seconds."""

    init_s: tuple[float, ...]
    first_s: tuple[float, ...]

    @property
    def init(self) -> Times:
        """Process start to the first ``next``."""
        return Times(tuple(value * 1000 for value in self.init_s))

    @property
    def first(self) -> Times:
        """The first request."""
        return Times(tuple(value * 1000 for value in self.first_s))

    @property
    def to_answer(self) -> Times:
        """Process start to the first answer: what a caller who meets a cold start waits for."""
        return Times(tuple((one + other) * 1000 for one, other in zip(self.init_s, self.first_s, strict=True)))

    def summary(self) -> dict[str, Any]:
        """For the results file."""
        return {
            "starts": len(self.init_s),
            "init": self.init.summary(),
            "first_request": self.first.summary(),
            "to_first_answer": self.to_answer.summary(),
        }


@dataclass(frozen=True)
class Memory:
    """Resident memory in bytes after so many requests."""

    after: tuple[tuple[int, int], ...]

    @property
    def last_mb(self) -> float:
        """After the last request."""
        return self.after[-1][1] / 2**20

    @property
    def growth_mb(self) -> float:
        """Over the second half of the requests: what is set up at first is no growth."""
        half = self.after[-1][0] / 2
        middle = next(size for requests, size in self.after if requests >= half)
        return (self.after[-1][1] - middle) / 2**20

    def summary(self) -> dict[str, Any]:
        """For the results file."""
        return {
            "rss_mb": round(self.last_mb, 1),
            "growth_mb": round(self.growth_mb, 2),
            "after": [{"requests": requests, "rss_mb": round(size / 2**20, 2)} for requests, size in self.after],
        }


def ratio(one: Times, other: Times) -> float:
    """``one`` as a multiple of ``other``, round by round, since what disturbs the machine disturbs both."""
    return statistics.median(a / b for a, b in zip(one.rounds, other.rounds, strict=True))


@dataclass(frozen=True)
class Gate:
    """Something that must hold: what was measured, and the most that it may be."""

    name: str
    measured: float
    limit: float
    unit: str = ""

    @property
    def holds(self) -> bool:
        """Whether it does."""
        return self.measured <= self.limit

    def summary(self) -> dict[str, Any]:
        """For the results file."""
        return {
            "name": self.name,
            "measured": round(self.measured, 3),
            "limit": round(self.limit, 3),
            "holds": self.holds,
        }
