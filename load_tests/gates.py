"""What a run must hold, and the knee: the highest rate at which it does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from load_tests.arrivals import Stage
from load_tests.plan import Plan
from load_tests.profiles import OVERHEAD, Limit
from load_tests.record import Record, Tally

__all__ = ["Step", "Verdict", "climb", "judge", "knee"]


@dataclass(frozen=True)
class Verdict:
    """Whether one thing held, and the figures that say so."""

    passed: bool
    text: str

    def __str__(self) -> str:
        return f"{'ok' if self.passed else 'FAIL':<4}  {self.text}"


@dataclass(frozen=True)
class Step:
    """One stage of a climb. `passed` when everything held in it; `begun` is false for one that was left out."""

    stage: Stage
    tally: Tally
    passed: bool
    begun: bool


def judge(plan: Plan, record: Record) -> list[Verdict]:
    """The verdicts on a run. Errors count in every stage, the rest in those that are judged."""
    if plan.profile.climbs:
        return [_knee_verdict(climb(plan, record))]
    stages = range(len(plan.profile.stages))
    judged = [index for index in stages if plan.profile.stages[index].judged]
    errors = _errors(plan, record.total(stages, plan.profile.mix))
    return [_achieved(plan, record.total(judged, plan.profile.mix)), errors, *_latencies(plan, record, judged)]


def climb(plan: Plan, record: Record) -> list[Step]:
    """The judged stages one by one, the lowest rate first."""
    return [_step(plan, record, index) for index, stage in enumerate(plan.profile.stages) if stage.judged]


def knee(steps: list[Step]) -> Step | None:
    """The last step before the first that did not hold; None when already the first did not."""
    held = None
    for step in steps:
        if not step.passed:
            return held
        held = step
    return held


def _step(plan: Plan, record: Record, index: int) -> Step:
    stage = plan.profile.stages[index]
    tally = record.total([index], plan.profile.mix)
    verdicts = [_achieved(plan, tally), _errors(plan, tally), *_latencies(plan, record, [index])]
    return Step(stage, tally, all(each.passed for each in verdicts), begun=tally.offered > 0)


def _knee_verdict(steps: list[Step]) -> Verdict:
    found = knee(steps)
    if found is None:
        return Verdict(passed=False, text=f"not even {steps[0].stage.name} held")
    if found is steps[-1]:
        return Verdict(passed=True, text=f"every step held, up to {found.stage.name}: the knee lies beyond")
    return Verdict(
        passed=True, text=f"the knee: {found.stage.name} held, {steps[steps.index(found) + 1].stage.name} did not"
    )


def _achieved(plan: Plan, tally: Tally) -> Verdict:
    share = tally.achieved / tally.offered if tally.offered else 0.0
    text = f"achieved {share:.1%} of {tally.offered} arrivals (at least {plan.least_achieved:.0%})"
    return Verdict(share >= plan.least_achieved, text)


def _errors(plan: Plan, tally: Tally) -> Verdict:
    # One that was never heard of again failed, too.
    failed = tally.failed + tally.unfinished
    share = failed / tally.offered if tally.offered else 0.0
    return Verdict(share <= plan.most_errors, f"errors {share:.2%}, {failed} (at most {plan.most_errors:.2%})")


def _latencies(plan: Plan, record: Record, stages: list[int]) -> Iterator[Verdict]:
    operations = plan.profile.operations
    for name, limit in plan.profile.limits.items():
        gate = "sync" if name == OVERHEAD else name
        tally = record.total(stages, [each for each in operations if operations[each].gate == gate])
        histogram = tally.overhead if name == OVERHEAD else tally.latency
        if gate in {operation.gate for operation in operations.values()}:
            yield _latency(name, limit, histogram.percentile(95), histogram.percentile(99))


def _latency(name: str, limit: Limit, p95: int | None, p99: int | None) -> Verdict:
    if p95 is None or p99 is None:
        return Verdict(passed=False, text=f"{name}: nothing was measured")
    text = f"{name}: p95 {p95} ms (at most {limit.p95_ms}), p99 {p99} ms (at most {limit.p99_ms})"
    return Verdict(p95 <= limit.p95_ms and p99 <= limit.p99_ms, text)
