"""What the command line makes of a profile."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from load_tests.operations import OPERATIONS
from load_tests.plan import Plan, add_options
from load_tests.profiles import PROFILES, Limit


def plan(*arguments: str) -> Plan:
    parser = argparse.ArgumentParser()
    add_options(parser)
    return Plan.from_options(parser.parse_args(arguments))


def test_the_mix_is_what_runs_when_nothing_is_said() -> None:
    assert plan().profile == PROFILES["mix"]
    assert plan().out == Path(".local/reports/load/mix")


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_is_a_plan(name: str) -> None:
    made = plan("--load-profile", name)
    assert made.profile.operations.keys() == made.profile.mix.keys()
    assert {operation.gate for operation in made.profile.operations.values()} <= made.profile.limits.keys()
    assert any(stage.judged for stage in made.profile.stages)


def test_there_is_a_profile_for_each_mode_and_for_all_of_them() -> None:
    modes = {name: {each.mode for each in profile.operations.values()} for name, profile in PROFILES.items()}
    assert (modes["sync"], modes["batch"], modes["workflow"]) == ({"sync"}, {"batch"}, {"workflow"})
    assert modes["mix"] == modes["soak"] == {"sync", "batch", "workflow"}


def test_files_come_wherever_jobs_do_but_far_fewer() -> None:
    for name in ("batch", "mix", "soak"):
        assert 0 < PROFILES[name].mix["file"] <= PROFILES[name].mix["job"] / 2
    # What the local cloud may keep for an arrival is judged, and a file is twenty of them.
    assert PROFILES["soak"].mix["file"] <= PROFILES["mix"].mix["file"] / 5
    assert PROFILES["file"].operations == {"file": OPERATIONS["file"]}


@pytest.mark.parametrize("name", ["batch", "mix", "soak", "file"])
def test_enough_files_come_for_their_limit_to_have_something_to_judge(name: str) -> None:
    """A limit without a measurement fails a run: with less than 1 % of all seeds there is none."""
    profile = PROFILES[name]
    arrivals = sum(stage.rate * stage.seconds for stage in profile.stages if stage.judged)
    assert arrivals * profile.mix["file"] / sum(profile.mix.values()) > 4.6


def test_the_soak_lasts_twenty_minutes_and_is_watched() -> None:
    assert PROFILES["soak"].seconds == 20 * 60
    assert PROFILES["soak"].watched


def test_a_rate_moves_every_stage_in_proportion() -> None:
    usual, faster = (
        plan("--load-profile", "step").profile.stages,
        plan("--load-profile", "step", "--rate", "10").profile.stages,
    )
    assert (faster[1].rate, faster[1].name) == (10, "10/s")
    assert [each.rate / usual[1].rate for each in usual] == pytest.approx([each.rate / 10 for each in faster])


def test_times_of_warm_up_and_load_are_set_apart() -> None:
    stages = plan("--duration", "300", "--warm-up", "30").profile.stages
    assert [(each.seconds, each.judged) for each in stages] == [(30, False), (300, True)]


def test_the_warm_up_may_be_left_out() -> None:
    assert [each.judged for each in plan("--warm-up", "0").profile.stages] == [True]


def test_a_file_has_a_limit_of_its_own_beside_that_of_jobs() -> None:
    limits = plan("--limit", "file=7000,9000").profile.limits
    assert limits["file"] == Limit(7000, 9000)
    assert limits["batch"] == PROFILES["mix"].limits["batch"]
    made = plan("--warm-up", "0", "--duration", "20", "--limit", "file=7000,9000")
    assert made.latest_end(0, OPERATIONS["file"]) == 29
    assert (OPERATIONS["file"].mode, OPERATIONS["job"].gate) == ("batch", "batch")


def test_limits_are_set_one_by_one() -> None:
    limits = plan("--limit", "sync=80,120", "--limit", "overhead=20,40").profile.limits
    assert (limits["sync"], limits["overhead"]) == (Limit(80, 120), Limit(20, 40))
    assert limits["batch"] == PROFILES["mix"].limits["batch"]


def test_a_form_may_hand_over_text() -> None:
    parser = argparse.ArgumentParser()
    add_options(parser)
    form = {"rate": "5", "duration": "", "warm_up": "0", "limit": "sync=80,120", "out": ""}
    made = Plan.from_options(vars(parser.parse_args(["--load-profile", "sync"])) | form)
    assert [(each.rate, each.seconds) for each in made.profile.stages] == [(5, 60)]
    assert made.profile.limits["sync"] == Limit(80, 120)
    assert made.out == Path(".local/reports/load/sync")


@pytest.mark.parametrize("text", ["sync", "sync=80", "sync=80,x", "chat=80,120", "sync=80,120,130", "=80,120"])
def test_a_limit_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="NAME=P95,P99"):
        plan("--limit", text)


@pytest.mark.parametrize("text", ["sync=120,80", "sync=0,80"])
def test_p99_is_not_below_p95(text: str) -> None:
    with pytest.raises(ValueError, match="p95"):
        plan("--limit", text)


def test_whoever_comes_last_in_a_stage_has_the_time_of_the_slowest_percent() -> None:
    made = plan("--warm-up", "10", "--duration", "20", "--limit", "sync=100,500")
    assert made.latest_end(0, OPERATIONS["chat"]) == 10.5
    assert made.latest_end(1, OPERATIONS["chat"]) == 30.5
    assert made.latest_end(1, OPERATIONS["job"]) == 30 + PROFILES["mix"].limits["batch"].p99_ms / 1e3


def test_answers_are_waited_for_as_long_as_the_most_patient_waits() -> None:
    assert plan("--load-profile", "sync").patience_s == 30
    assert plan("--load-profile", "mix").patience_s == 120
