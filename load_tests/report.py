"""The result of a run: a table to read, JSON and CSV to keep."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence

from load_tests.gates import Step, Verdict, climb
from load_tests.histogram import Histogram
from load_tests.plan import Plan
from load_tests.record import Record, Tally

__all__ = ["show", "write"]

_PERCENTS = (50, 95, 99)


def show(plan: Plan, record: Record, verdicts: Sequence[Verdict]) -> None:
    """Print the result."""
    profile = plan.profile
    rows = _steps(climb(plan, record)) if profile.climbs else _operations(plan, record)
    print(f"\n{profile.name}: {profile.about}")
    print(", ".join(f"{stage.name} {stage.seconds:g} s at {stage.rate:g}/s" for stage in profile.stages))
    print("milliseconds from the moment a call was meant to start; sent: from the moment it was sent\n")
    print(_table(rows))
    for reason, count in record.total(range(len(profile.stages)), profile.mix).failures.most_common(10):
        print(f"      {count} x {reason}")
    print()
    print("\n".join(map(str, verdicts)))
    print(f"\nresults: {plan.out}", flush=True)


def write(plan: Plan, record: Record, verdicts: Sequence[Verdict]) -> None:
    """Write `summary.json` (everything, histograms included) and `latencies.csv` (one row per millisecond seen)."""
    plan.out.mkdir(parents=True, exist_ok=True)
    profile = plan.profile
    summary = {
        "profile": profile.name,
        "seed": plan.seed,
        "stages": [vars(stage) for stage in profile.stages],
        "limits": {name: vars(limit) for name, limit in profile.limits.items()},
        "passed": all(verdict.passed for verdict in verdicts),
        "verdicts": [vars(verdict) for verdict in verdicts],
        "tallies": record.plain(),
    }
    (plan.out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    with (plan.out / "latencies.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("stage", "operation", "milliseconds", "count"))
        for tally in record.plain():
            stage = profile.stages[tally["stage"]].name
            rows.writerows((stage, tally["operation"], *pair) for pair in tally["latency_ms"])


def _operations(plan: Plan, record: Record) -> list[list[str]]:
    stages = [index for index, stage in enumerate(plan.profile.stages) if stage.judged]
    seconds = sum(plan.profile.stages[index].seconds for index in stages)
    rows = [_head("operation")]
    for name, operation in plan.profile.operations.items():
        rows.append(_row(f"{operation.mode} {name}", record.total(stages, [name]), seconds))
    return [*rows, _row("all", record.total(stages, plan.profile.mix), seconds)]


def _steps(steps: Iterable[Step]) -> list[list[str]]:
    rows = [[*_head("step"), ""]]
    for step in steps:
        row = _row(step.stage.name, step.tally, step.stage.seconds)
        rows.append([*row, "held" if step.passed else "did not hold"] if step.begun else [row[0], "left out"])
    return rows


def _head(first: str) -> list[str]:
    return [
        first,
        "arrivals",
        "per s",
        "achieved",
        "errors",
        "p50",
        "p95",
        "p99",
        "longest",
        "sent p50",
        "overhead p95",
    ]


def _row(name: str, tally: Tally, seconds: float) -> list[str]:
    achieved = f"{tally.achieved / tally.offered:.1%}" if tally.offered else "-"
    counts = [str(tally.offered), f"{tally.offered / seconds:.2f}", achieved, str(tally.failed + tally.unfinished)]
    times = [*_percentiles(tally.latency), tally.latency.longest, tally.service.percentile(50)]
    return [name, *counts, *map(_text, times), _text(tally.overhead.percentile(95))]


def _percentiles(histogram: Histogram) -> list[int | None]:
    return [histogram.percentile(percent) for percent in _PERCENTS]


def _text(milliseconds: int | None) -> str:
    return "-" if milliseconds is None else str(milliseconds)


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows if len(row) > column) for column in range(max(map(len, rows)))]
    lines = (
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=False))
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)
