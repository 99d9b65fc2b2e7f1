"""The whole of it, with Locust itself, against platforms whose behaviour is known."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.contract.load_tests.platform import Behaviour, platform

ROOT = Path(__file__).resolve().parents[3]
KEY = "sk-sluice-for-a-test"


class Run:
    """A run that has ended: its exit code, what it printed, what it kept."""

    def __init__(self, behaviour: Behaviour, out: Path, *arguments: str) -> None:
        with platform(behaviour) as url:
            environment = {**os.environ, "SLUICE_URL": url, "SLUICE_API_KEY": KEY}
            command = [
                sys.executable,
                "-m",
                "load_tests",
                "--load-profile",
                "sync",
                "--out",
                str(out),
                "--warm-up",
                "0",
            ]
            done = subprocess.run(
                [*command, *arguments],
                cwd=ROOT,
                env=environment,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
        self.out, self.code, self.text, self.problems = out, done.returncode, done.stdout, done.stderr
        self.summary: Any = json.loads((out / "summary.json").read_text())

    def sum(self, name: str) -> int:
        return sum(tally[name] for tally in self.summary["tallies"])

    def failed_gates(self) -> list[str]:
        return [each["text"].split()[0] for each in self.summary["verdicts"] if not each["passed"]]

    def slower_than(self, milliseconds: int) -> int:
        pairs = (pair for tally in self.summary["tallies"] for pair in tally["latency_ms"])
        return sum(count for taken, count in pairs if taken > milliseconds)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Behaviour]:
    """Two processes, 60 arrivals a second together."""
    behaviour = Behaviour(service_s=0.005)
    out = tmp_path_factory.mktemp("good")
    return Run(behaviour, out, "--rate", "60", "--duration", "4", "--processes", "2"), behaviour


def test_a_platform_that_keeps_up_passes(good: tuple[Run, Behaviour]) -> None:
    run, _ = good
    assert (run.code, run.failed_gates()) == (0, []), run.text + run.problems


def test_what_two_processes_counted_is_all_there_was(good: tuple[Run, Behaviour]) -> None:
    run, behaviour = good
    # The first call of each of the five operations comes before the clock starts.
    assert run.sum("offered") == behaviour.served - 5
    assert run.sum("offered") == run.sum("achieved")
    assert abs(run.sum("offered") - 240) < 4 * 240**0.5


def test_every_operation_of_the_mix_arrives_with_the_key(good: tuple[Run, Behaviour]) -> None:
    run, behaviour = good
    assert {tally["operation"] for tally in run.summary["tallies"]} == {
        "chat",
        "stream",
        "embeddings",
        "classify",
        "score",
    }
    assert set(behaviour.paths) == {f"/v1/{path}" for path in ("chat/completions", "embeddings", "classify", "score")}
    assert behaviour.keys == {f"Bearer {KEY}"}


def test_reports_are_left_for_people_and_for_programs(good: tuple[Run, Behaviour]) -> None:
    run, _ = good
    assert "<html" in (run.out / "report.html").read_text().lower()
    with (run.out / "locust_stats.csv").open(newline="") as file:
        total = next(row for row in csv.DictReader(file) if row["Name"] == "Aggregated")
    assert int(total["Request Count"]) == run.sum("offered")
    with (run.out / "latencies.csv").open(newline="") as file:
        assert sum(int(row["count"]) for row in csv.DictReader(file)) == run.sum("offered")
    assert KEY not in "".join(path.read_text() for path in run.out.iterdir())


def test_the_platforms_own_part_is_known(good: tuple[Run, Behaviour]) -> None:
    run, _ = good
    assert {pair[0] for tally in run.summary["tallies"] for pair in tally["overhead_ms"]} == {5}


def test_an_overloaded_platform_does_not_keep_up_and_fails(tmp_path: Path) -> None:
    """25 answers a second are asked for 60 times a second; nobody is refused, everybody waits."""
    run = Run(
        Behaviour(service_s=0.04, one_by_one=True),
        tmp_path,
        "--rate",
        "60",
        "--duration",
        "3",
        "--limit",
        "sync=300,500",
    )
    assert run.code == 1
    assert set(run.failed_gates()) == {"achieved", "sync:"}
    assert run.sum("offered") > 130
    assert not any(tally["failures"] for tally in run.summary["tallies"])


def test_a_stall_is_measured_on_everybody_it_would_have_met(tmp_path: Path) -> None:
    """A second's stall at 50 arrivals a second. Whoever waits for answers would have met it once."""
    run = Run(
        Behaviour(stall=(2.0, 3.0)), tmp_path, "--cold", *["--rate", "50", "--duration", "4", "--limit", "sync=200,400"]
    )
    assert run.code == 1
    assert run.failed_gates() == ["sync:"]
    assert run.slower_than(200) > 25
    assert run.slower_than(700) > 5


def test_a_platform_that_errs_now_and_then_fails(tmp_path: Path) -> None:
    run = Run(Behaviour(fail_every=20), tmp_path, "--rate", "40", "--duration", "3")
    assert run.code == 1
    assert run.failed_gates() == ["errors"]
    reasons = {reason for tally in run.summary["tallies"] for reason in tally["failures"]}
    assert reasons == {"503 state_unavailable"}
