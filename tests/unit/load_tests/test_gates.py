"""What passes and what does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from load_tests.arrivals import Stage
from load_tests.gates import climb, judge, knee
from load_tests.plan import Plan
from load_tests.profiles import PROFILES, Limit
from load_tests.record import Outcome, Record

STAGES = (Stage("warm-up", 10, 1, judged=False), Stage("steady", 10, 10))
LIMITS = {"sync": Limit(100, 200)}


def plan(profile: str = "sync", *, stages: tuple[Stage, ...] = STAGES, limits: dict[str, Limit] = LIMITS) -> Plan:
    made = replace(PROFILES[profile], stages=stages, limits=limits)
    return Plan(made, seed=1, out=Path("x"), most_errors=0.01)


def add(
    record: Record,
    count: int,
    ms: float = 10,
    *,
    stage: int = 1,
    operation: str = "chat",
    achieved: bool = True,
    failure: str = "",
    overhead_ms: float | None = None,
) -> Record:
    overhead = None if overhead_ms is None else overhead_ms / 1e3
    for _ in range(count):
        tally = record.tally(stage, operation)
        tally.offered += 1
        tally.end(Outcome(ms / 1e3, ms / 1e3, overhead, achieved, failure))
    return record


def passed(made: Plan, record: Record) -> list[bool]:
    return [verdict.passed for verdict in judge(made, record)]


def test_a_good_run_passes() -> None:
    assert passed(plan(), add(Record(), 1000)) == [True, True, True]


def test_what_did_not_keep_up_with_the_rate_fails() -> None:
    record = add(Record(), 990)
    assert passed(plan(), add(record, 10, achieved=False)) == [True, True, True]
    assert passed(plan(), add(record, 1, achieved=False)) == [False, True, True]


def test_errors_fail_a_run_also_those_of_the_warm_up() -> None:
    record = add(Record(), 990)
    assert passed(plan(), add(record, 10, stage=0, failure="500 x")) == [True, True, True]
    assert passed(plan(), add(record, 1, stage=0, failure="500 x")) == [True, False, True]


def test_an_arrival_that_was_never_heard_of_again_is_an_error() -> None:
    record = add(Record(), 900)
    record.tally(1, "chat").offered += 10
    assert passed(plan(), record) == [False, False, True]


def test_the_warm_up_may_be_slow() -> None:
    assert passed(plan(), add(add(Record(), 100), 100, 5000, stage=0)) == [True, True, True]


def test_p95_and_p99_are_judged_to_the_millisecond() -> None:
    assert passed(plan(), add(add(Record(), 95, 100), 5, 200)) == [True, True, True]
    assert passed(plan(), add(add(Record(), 94, 100), 6, 101)) == [True, True, False]
    assert passed(plan(), add(add(Record(), 98, 100), 2, 201)) == [True, True, False]


def test_each_mode_is_judged_by_its_own_limit() -> None:
    mixed = plan("mix", limits={"sync": Limit(100, 100), "batch": Limit(1000, 1000)})
    record = add(add(Record(), 100, 90), 100, 900, operation="job")
    assert passed(mixed, record) == [True, True, True, True]
    assert passed(mixed, add(record, 100, 900)) == [True, True, False, True]


def test_a_file_is_judged_by_its_own_limit_and_not_by_that_of_jobs() -> None:
    made = plan("batch", limits={"batch": Limit(1000, 1000), "file": Limit(5000, 5000)})
    record = add(add(Record(), 100, 900, operation="job"), 100, 4000, operation="file")
    assert passed(made, record) == [True, True, True, True]
    # Among the jobs it would be one percent, which no percentile of theirs shows.
    assert passed(made, add(record, 10, 6000, operation="file")) == [True, True, True, False]


def test_the_platforms_own_part_has_a_limit_of_its_own() -> None:
    made = plan(limits={"sync": Limit(1000, 1000), "overhead": Limit(20, 20)})
    assert passed(made, add(Record(), 100, 500, overhead_ms=20)) == [True, True, True, True]
    assert passed(made, add(Record(), 100, 500, overhead_ms=21)) == [True, True, True, False]


def test_nothing_measured_is_nothing_passed() -> None:
    assert passed(plan(), Record()) == [False, True, False]


RATES = (Stage("1/s", 1, 10), Stage("2/s", 2, 10), Stage("4/s", 4, 10))


def climbed(*good: bool) -> tuple[Plan, Record]:
    made, record = plan("step", stages=RATES), Record()
    for stage, held in enumerate(good):
        add(record, 100, 10 if held else 500, stage=stage)
    return made, record


def test_the_knee_is_the_last_step_before_the_first_that_did_not_hold() -> None:
    made, record = climbed(True, True, False)
    found = knee(climb(made, record))
    assert found is not None
    assert found.stage.name == "2/s"
    assert [str(each) for each in judge(made, record)] == ["ok    the knee: 2/s held, 4/s did not"]


def test_a_step_that_holds_beyond_the_knee_is_luck() -> None:
    found = knee(climb(*climbed(True, False, True)))
    assert found is not None
    assert found.stage.name == "1/s"


def test_a_step_that_was_left_out_did_not_hold() -> None:
    steps = climb(*climbed(True))
    assert [(each.begun, each.passed) for each in steps] == [(True, True), (False, False), (False, False)]


def test_a_climb_that_ends_on_top_has_not_found_the_knee() -> None:
    assert judge(*climbed(True, True, True))[0].text == "every step held, up to 4/s: the knee lies beyond"


def test_a_climb_that_fails_at_once_fails() -> None:
    assert passed(*climbed(False, True)) == [False]
