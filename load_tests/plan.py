"""A run to make: a profile, and what the command line changes of it. Locust and our command read the same options."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from load_tests.arrivals import Stage
from load_tests.operations import OPERATIONS, Operation
from load_tests.profiles import OVERHEAD, PROFILES, Limit, Profile

__all__ = ["Plan", "add_options"]

_GATES = (*sorted({operation.gate for operation in OPERATIONS.values()}), OVERHEAD)


@dataclass(frozen=True)
class Plan:
    """A run: what arrives, what must hold, and where the results go.

    `least_achieved` and `most_errors` are shares of the arrivals; `streams` arrival processes make the rates together.
    Equal seeds make equal arrivals (texts differ).
    """

    profile: Profile
    seed: int
    out: Path
    most_errors: float
    streams: int = 1
    least_achieved: float = 0.99

    @classmethod
    def from_options(cls, options: argparse.Namespace | Mapping[str, Any]) -> Plan:
        """The plan that `add_options` was told of. Raises ValueError when the options make no sense."""
        given = dict(options if isinstance(options, Mapping) else vars(options))
        # Where an option has no default, Locust's web form hands over the text that was typed in.
        given |= {name: _number(given[name]) for name in ("rate", "duration", "warm_up")}
        limits = [given["limit"]] if isinstance(given["limit"], str) else given["limit"]
        profile = _changed(PROFILES[given["load_profile"]], given)
        profile = replace(profile, limits={**profile.limits, **dict(_limit(text) for text in limits or () if text)})
        out = Path(given["out"] or Path(".local", "reports", "load", profile.name))
        return cls(profile, given["seed"], out, given["most_errors"], max(1, given["streams"]))

    def latest_end(self, stage: int, operation: Operation) -> float:
        """Until when an arrival of a stage must be done to have kept up with the rate, in seconds from the beginning.

        Whoever arrives last has the time of the slowest percent; a queue that grew during the stage is not forgiven.
        """
        end = sum(each.seconds for each in self.profile.stages[: stage + 1])
        limit = self.profile.limits.get(operation.gate)
        return end + (limit.p99_ms / 1e3 if limit else operation.deadline_s)

    @property
    def patience_s(self) -> float:
        """How long after the last arrival the last answer may come, in seconds."""
        return max(operation.deadline_s for operation in self.profile.operations.values())


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that make a plan."""
    # Locust has a --profile of its own: a label for its web interface.
    parser.add_argument("--load-profile", choices=sorted(PROFILES), default="mix", help="the kind of load")
    parser.add_argument("--rate", type=float, help="arrivals a second (step: at the first step)")
    parser.add_argument("--duration", type=float, help="seconds of load after the warm-up (step: of each step)")
    parser.add_argument("--warm-up", type=float, help="seconds of load before it is judged; 0 for none")
    parser.add_argument(
        "--limit",
        action="append",
        metavar="NAME=P95,P99",
        help=f"ms; NAME is one of {', '.join(_GATES)}; may be repeated",
    )
    parser.add_argument("--most-errors", type=float, default=0.001, help="share of arrivals that may fail")
    # Locust tells its workers of our options, of its own --users it does not.
    parser.add_argument("--streams", type=int, default=1, help="Locust users that share the rates: as many as --users")
    parser.add_argument("--seed", type=int, default=1, help="equal seeds make equal arrivals")
    parser.add_argument("--out", help="folder of the results; without it .local/reports/load/<profile>")


def _changed(profile: Profile, given: Mapping[str, Any]) -> Profile:
    """The profile at another rate or for other times."""
    factor = (
        1.0 if given["rate"] is None else given["rate"] / next(stage.rate for stage in profile.stages if stage.judged)
    )
    seconds = {True: given["duration"], False: given["warm_up"]}
    stages = [
        Stage(
            f"{stage.rate * factor:.4g}/s" if stage.name.endswith("/s") else stage.name,
            stage.rate * factor,
            stage.seconds if seconds[stage.judged] is None else seconds[stage.judged],
            stage.judged,
        )
        for stage in profile.stages
        if stage.judged or given["warm_up"] != 0
    ]
    return replace(profile, stages=tuple(stages))


def _number(value: float | str | None) -> float | None:
    return None if value is None or value == "" else float(value)


def _limit(text: str) -> tuple[str, Limit]:
    name, _, numbers = text.partition("=")
    parts: Sequence[str] = numbers.split(",")
    if name not in _GATES or len(parts) != 2 or not all(part.strip().isdigit() for part in parts):
        raise ValueError(f"--limit {text}: write NAME=P95,P99 in milliseconds, NAME being one of {', '.join(_GATES)}")
    return name, Limit(int(parts[0]), int(parts[1]))
