"""When calls arrive: a Poisson process whose rate changes from stage to stage.

Callers of a public API do not know of each other, so neither do their calls: that is a Poisson process. Several
such processes side by side are one again, with the sum of their rates. So the load is shared between processes without
a word between them.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

__all__ = ["Arrival", "Stage", "arrivals"]


@dataclass(frozen=True)
class Stage:
    """A stretch of time with one rate: arrivals a second, for so many seconds.

    One that is not judged warms the platform up: its errors count, its latencies do not.
    """

    name: str
    rate: float
    seconds: float
    judged: bool = True

    def __post_init__(self) -> None:
        if self.rate <= 0 or self.seconds <= 0:
            raise ValueError(f"stage {self.name!r}: rate and seconds must be above 0")


@dataclass(frozen=True)
class Arrival:
    """The moment a call is meant to start, in seconds from the beginning, and the index of its stage."""

    at_s: float
    stage: int


def arrivals(stages: Sequence[Stage], *, share: float, chance: random.Random) -> Iterator[Arrival]:
    """The arrivals of one of several processes that together make the rates; `share` is its part, 1 for all of it."""
    begin = 0.0
    for index, stage in enumerate(stages):
        end = begin + stage.seconds
        # The process has no memory, so a new stage may simply start it anew.
        at = begin + chance.expovariate(stage.rate * share)
        while at < end:
            yield Arrival(at, index)
            at += chance.expovariate(stage.rate * share)
        begin = end
