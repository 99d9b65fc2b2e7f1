"""What became of the arrivals, by stage and operation. Records of several processes add up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from load_tests.histogram import Histogram

__all__ = ["Outcome", "Record", "Tally"]


@dataclass(frozen=True)
class Outcome:
    """How one arrival ended. All times are in seconds.

    `latency` runs from the moment it was meant to start, `service` from the moment it was sent: under overload
    only the first tells what a caller feels. `overhead` is Sluice's own part, where the answer says it (sync routes).
    `achieved` is false for one that ended too late to keep up with the rate. `failure` is empty when all went well.
    """

    latency: float
    service: float
    overhead: float | None
    achieved: bool
    failure: str = ""


@dataclass
class Tally:
    """The arrivals of one operation in one stage. `failures` counts them by reason."""

    offered: int = 0
    achieved: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    latency: Histogram = field(default_factory=Histogram)
    service: Histogram = field(default_factory=Histogram)
    overhead: Histogram = field(default_factory=Histogram)

    def end(self, outcome: Outcome) -> None:
        """Count how an arrival ended."""
        self.achieved += outcome.achieved
        self.latency.record(outcome.latency)
        self.service.record(outcome.service)
        if outcome.overhead is not None:
            self.overhead.record(outcome.overhead)
        if outcome.failure:
            self.failures[outcome.failure] += 1

    def add(self, other: Tally) -> None:
        """Count everything that `other` has counted as well."""
        self.offered += other.offered
        self.achieved += other.achieved
        self.failures.update(other.failures)
        for mine, theirs in zip(self._histograms(), other._histograms(), strict=True):
            mine.add(theirs)

    @property
    def failed(self) -> int:
        """Arrivals that failed, for whatever reason."""
        return self.failures.total()

    @property
    def unfinished(self) -> int:
        """Arrivals of which nothing is known: the run was ended before they were."""
        return self.offered - len(self.latency)

    def _histograms(self) -> tuple[Histogram, Histogram, Histogram]:
        return self.latency, self.service, self.overhead

    def plain(self) -> dict[str, Any]:
        """As JSON has it; histograms are lists of milliseconds and count."""
        return {
            "offered": self.offered,
            "achieved": self.achieved,
            "failures": dict(self.failures),
            "latency_ms": list(map(list, self.latency)),
            "service_ms": list(map(list, self.service)),
            "overhead_ms": list(map(list, self.overhead)),
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Tally:
        """The inverse of `plain`."""
        return cls(
            plain["offered"],
            plain["achieved"],
            Counter(plain["failures"]),
            Histogram(plain["latency_ms"]),
            Histogram(plain["service_ms"]),
            Histogram(plain["overhead_ms"]),
        )


class Record:
    """A tally for each stage (by index) and operation (by name)."""

    def __init__(self) -> None:
        self._tallies: dict[tuple[int, str], Tally] = {}

    def tally(self, stage: int, operation: str) -> Tally:
        """The tally to count in."""
        return self._tallies.setdefault((stage, operation), Tally())

    def total(self, stages: Iterable[int], operations: Iterable[str]) -> Tally:
        """All arrivals of some operations in some stages, as one."""
        total, wanted, names = Tally(), set(stages), set(operations)
        for (stage, operation), tally in self._tallies.items():
            if stage in wanted and operation in names:
                total.add(tally)
        return total

    def add(self, other: Record) -> None:
        """Count everything that `other` has counted as well."""
        for key, tally in other._tallies.items():
            self.tally(*key).add(tally)

    def take(self) -> Record:
        """What was counted since the last time; counting starts again from zero."""
        taken = Record()
        taken._tallies, self._tallies = self._tallies, {}
        return taken

    def plain(self) -> list[dict[str, Any]]:
        """As JSON has it."""
        return [
            {"stage": stage, "operation": operation, **tally.plain()}
            for (stage, operation), tally in sorted(self._tallies.items())
        ]

    @classmethod
    def from_plain(cls, plain: Iterable[Mapping[str, Any]]) -> Record:
        """The inverse of `plain`."""
        record = cls()
        for each in plain:
            record.tally(each["stage"], each["operation"]).add(Tally.from_plain(each))
        return record
