"""The kinds of load: what arrives, how often, and what must hold. Rates and limits fit the local cloud on two cores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from load_tests.arrivals import Stage
from load_tests.operations import OPERATIONS, Operation

__all__ = ["OVERHEAD", "PROFILES", "Limit", "Profile"]

# Besides the gates of operations, a name that a limit may have: Sluice's own part of a synchronous answer.
OVERHEAD = "overhead"


@dataclass(frozen=True)
class Limit:
    """The longest p95 and p99 that pass, in milliseconds."""

    p95_ms: int
    p99_ms: int

    def __post_init__(self) -> None:
        if not 0 < self.p95_ms <= self.p99_ms:
            raise ValueError("p95 must be above 0 and not above p99")


@dataclass(frozen=True)
class Profile:
    """A kind of load.

    `mix` is the weight of each operation by name, `stages` the arrivals, `limits` what is judged, by gate of
    the operations or `overhead`. A profile that `climbs` looks for the first stage that does not hold; the stages after
    it are left out. A `watched` one also fails when memory or queues grow.
    """

    name: str
    about: str
    mix: Mapping[str, float]
    stages: tuple[Stage, ...]
    limits: Mapping[str, Limit] = field(default_factory=dict)
    climbs: bool = False
    watched: bool = False

    @property
    def operations(self) -> dict[str, Operation]:
        """The operations of the mix, by name."""
        return {name: OPERATIONS[name] for name in self.mix}

    @property
    def seconds(self) -> float:
        """From the first moment in which a call may arrive to the last."""
        return sum(stage.seconds for stage in self.stages)


_SYNC_MIX = {"chat": 4.0, "stream": 1.0, "embeddings": 2.0, "classify": 1.0, "score": 2.0}
# A file is twenty requests, so few of them will do; but about five a minute, or with some seeds there would be none,
# and nothing to judge by their limit.
_FULL_MIX = {**_SYNC_MIX, "job": 1.0, "chain": 0.5, "file": 0.5}
_BATCH_MIX = {"job": 1.0, "file": 0.15}
# In 20 minutes fewer will do: the local cloud keeps every line of them, and what it may keep for an arrival is judged.
_SOAK_MIX = {**_FULL_MIX, "file": 0.1}
_LIMITS = {
    "sync": Limit(1500, 3000),
    "batch": Limit(5000, 10000),
    "file": Limit(10000, 20000),
    "workflow": Limit(5000, 10000),
}


def _warm(rate: float, seconds: float, name: str = "steady") -> tuple[Stage, ...]:
    """A stage after one at half its rate, in which further environments of the functions start."""
    return Stage("warm-up", rate / 2, 15, judged=False), Stage(name, rate, seconds)


def _climb(first: float, factor: float, steps: int, seconds: float) -> tuple[Stage, ...]:
    rates = [round(first * factor**step, 2) for step in range(steps)]
    return (*_warm(first, seconds, f"{first:g}/s")[:1], *(Stage(f"{rate:g}/s", rate, seconds) for rate in rates))


PROFILES = {
    profile.name: profile
    for profile in (
        Profile("sync", "chat, streams, embeddings, classification, scores", _SYNC_MIX, _warm(3, 60), _LIMITS),
        Profile(
            "batch",
            "chat completions through the queue and files of 20, asked for until done",
            _BATCH_MIX,
            _warm(1, 60),
            _LIMITS,
        ),
        Profile(
            "file", "files of 20 chat completions as batches, and nothing else", {"file": 1.0}, _warm(0.3, 60), _LIMITS
        ),
        Profile("workflow", "chains of two prompts, asked for until done", {"chain": 1.0}, _warm(0.5, 60), _LIMITS),
        Profile("mix", "all three modes at once", _FULL_MIX, _warm(2, 60), _LIMITS),
        Profile(
            "step",
            "sync at ever higher rates, to find the knee",
            _SYNC_MIX,
            _climb(1, 1.5, 9, 20),
            _LIMITS,
            climbs=True,
        ),
        Profile(
            "soak",
            "all three modes for 20 minutes, with an eye on memory and queues",
            _SOAK_MIX,
            _warm(2, 1185),
            _LIMITS,
            watched=True,
        ),
    )
}
