"""What is shown and what is kept."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from load_tests.gates import judge
from load_tests.record import Record
from load_tests.report import show, write
from tests.unit.load_tests.test_gates import RATES, add, plan

if TYPE_CHECKING:
    import pytest


def test_the_table_has_a_row_for_each_operation_and_says_what_failed(capsys: pytest.CaptureFixture[str]) -> None:
    made, record = plan(), add(add(Record(), 98, 12), 2, 950, failure="503 state_unavailable", overhead_ms=4)
    show(made, record, judge(made, record))
    lines = capsys.readouterr().out.splitlines()
    chat = next(line.split() for line in lines if line.startswith("sync chat"))
    #                      arrivals per s achieved errors p50 p95 p99 longest sent overhead
    assert chat[2:] == ["100", "10.00", "100.0%", "2", "12", "12", "950", "950", "12", "4"]
    assert "      2 x 503 state_unavailable" in lines
    assert "FAIL  errors 2.00%, 2 (at most 1.00%)" in lines
    assert "FAIL  sync: p95 12 ms (at most 100), p99 950 ms (at most 200)" in lines


def test_a_climb_is_shown_step_by_step(capsys: pytest.CaptureFixture[str]) -> None:
    made, record = plan("step", stages=RATES), add(add(Record(), 10, 12, stage=0), 20, 900, stage=1)
    show(made, record, judge(made, record))
    lines = capsys.readouterr().out.splitlines()
    first = next(line.split() for line in lines if line.startswith("1/s  "))
    assert first == ["1/s", "10", "1.00", "100.0%", "0", "12", "12", "12", "12", "12", "-", "held"]
    assert next(line for line in lines if line.startswith("2/s  ")).endswith("did not hold")
    assert next(line for line in lines if line.startswith("4/s  ")).endswith("left out")
    assert "ok    the knee: 1/s held, 2/s did not" in lines


def test_everything_is_kept(tmp_path: Path) -> None:
    made, record = replace(plan(), out=tmp_path / "new" / "folder"), add(Record(), 3, 12)
    write(made, record, judge(made, record))
    kept = json.loads((made.out / "summary.json").read_text())
    assert Record.from_plain(kept["tallies"]).plain() == record.plain()
    assert kept["passed"] is all(each.passed for each in judge(made, record))
    assert [each["rate"] for each in kept["stages"]] == [10, 10]
    with (made.out / "latencies.csv").open(newline="") as file:
        assert list(csv.reader(file))[1:] == [["steady", "chat", "12", "3"]]
