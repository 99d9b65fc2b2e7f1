"""What the benchmark makes of its measurements, and when it fails."""

from __future__ import annotations

import dataclasses
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from load_tests.bench.figures import Cold, Memory, Times, Warm, percentile, ratio
from load_tests.bench.layout import Size
from load_tests.bench.measure import Effort, Footprint
from load_tests.bench.report import BEGIN, END, Beside, Results, document, gates, save, table

MB = 2**20


def warm(ms: float, *, rounds: int = 5, cpu_ms: float = 1.0) -> Warm:
    """Rounds whose medians are `ms`, give or take a hundredth."""
    each = tuple(tuple([(ms + 0.01 * number) / 1000] * 10) for number in range(-(rounds // 2), rounds // 2 + 1))
    return Warm(each, tuple([cpu_ms / 100] * rounds))


def cold(init_ms: float, first_ms: float = 20.0) -> Cold:
    return Cold((init_ms / 1000,) * 3, (first_ms / 1000,) * 3)


def footprint(*, round_trips: int = 3, write_units: float = 5) -> Footprint:
    return Footprint({"dynamodb UpdateItem": round_trips, "provider /v1/chat/completions": 1}, write_units, 0, 2, 1500)


@pytest.fixture
def results() -> Results:
    """Everything holds."""
    return Results(
        runtime="awslambdaric",
        tls=False,
        effort=Effort(),
        sizes={"layers/sluice.zip": Size(MB, 2 * MB), "plain": Size(30 * MB, 60 * MB)},
        first=footprint(),
        each=footprint(),
        floor_each=footprint(),
        cold={"sluice": cold(140), "floor": cold(100), "floor-plain": cold(400), "empty": cold(25)},
        warm={"sluice": warm(1.4), "floor": warm(1.0), "sleeper": warm(3.4)},
        memory=Memory(tuple((100 * step, 50 * MB) for step in range(1, 11))),
        beside=Beside("1.0", direct=warm(0.1), proxied=warm(6.0), start_s=8.0, rss_mb=300.0),
    )


def failed(results: Results) -> list[str]:
    return [gate.name for gate in gates(results) if not gate.holds]


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [float(value) for value in range(1, 101)]
    assert [percentile(values, share) for share in (0.5, 0.95, 0.99, 1.0)] == [50, 95, 99, 100]
    assert percentile([7.0], 0.99) == 7.0


def test_the_spread_is_between_the_quartiles() -> None:
    times = Times((1.0, 2.0, 3.0, 4.0, 100.0))
    assert (times.median, times.spread) == (3.0, 2.0)
    assert Times((5.0,)).spread == 0.0


def test_a_ratio_goes_by_pairs_of_the_same_round() -> None:
    # The machine was twice as slow in the second half, for both.
    assert ratio(Times((3.0, 3.0, 6.0, 6.0)), Times((2.0, 2.0, 4.0, 4.0))) == 1.5


def test_cpu_is_told_for_one_request() -> None:
    assert warm(2.0, cpu_ms=1.5).cpu.median == pytest.approx(1.5)


def test_memory_that_is_taken_at_first_is_no_growth() -> None:
    memory = Memory(((100, 40 * MB), (500, 50 * MB), (1000, 51 * MB)))
    assert (memory.last_mb, memory.growth_mb) == (51, 1)


def test_all_gates_hold(results: Results) -> None:
    assert failed(results) == []
    assert len(gates(results)) == 10


@pytest.mark.parametrize(
    ("change", "gate"),
    [
        ({"warm": {"sluice": warm(1.6), "floor": warm(1.0), "sleeper": warm(3.6)}}, "warm median, as a multiple"),
        ({"warm": {"sluice": warm(1.4), "floor": warm(1.0), "sleeper": warm(1.405)}}, "spread of the rounds"),
        (
            {"cold": {"sluice": cold(160), "floor": cold(100, 200), "floor-plain": cold(400)}},
            "cold start, as a multiple",
        ),
        ({"cold": {"sluice": cold(100, 90), "floor": cold(100), "floor-plain": cold(400)}}, "start to first answer"),
        (
            {"cold": {"sluice": cold(140), "floor": cold(100), "floor-plain": cold(139)}},
            "cold start, against the plain",
        ),
        ({"memory": Memory(((500, 129 * MB), (1000, 129 * MB)))}, "resident memory"),
        ({"memory": Memory(((500, 50 * MB), (1000, 52 * MB)))}, "its growth"),
        ({"each": footprint(round_trips=4)}, "round trips"),
        ({"each": footprint(write_units=6)}, "write units"),
        ({"beside": Beside("1.0", warm(0.1), warm(1.2), 8.0, 300.0)}, "warm median, against what LiteLLM adds"),
    ],
)
def test_a_gate_fails_by_itself(results: Results, change: dict[str, object], gate: str) -> None:
    [only] = failed(dataclasses.replace(results, **change))  # type: ignore[arg-type]
    assert only.startswith(gate)


def test_without_a_comparison_or_a_sleep_there_is_nothing_to_hold(results: Results) -> None:
    without = {name: each for name, each in results.warm.items() if name != "sleeper"}
    assert len(gates(dataclasses.replace(results, warm=without, beside=None))) == 8


def test_the_table_tells_the_figures_and_what_failed(results: Results) -> None:
    slow = dataclasses.replace(results, memory=Memory(((500, 129 * MB), (1000, 129 * MB))))
    text = table(slow, gates(slow))
    assert "LiteLLM 1.0" in text
    assert "rate limits" in text
    assert text.count("FAILED") == 1
    assert max(map(len, text.splitlines())) <= 120


def test_the_results_are_saved_for_programs_and_as_a_picture(results: Results, tmp_path: Path) -> None:
    save(results, gates(results), tmp_path, "bench")
    saved = json.loads((tmp_path / "bench.json").read_text())
    # The capacity model goes by this one.
    assert saved["sluice"]["cpu_ms_per_request"] == pytest.approx(1.0)
    assert saved["contenders"]["floor"]["cold"]["init"]["median_ms"] == 100
    assert saved["litellm"]["added"]["median_ms"] == pytest.approx(5.9)
    assert all(gate["holds"] for gate in saved["gates"])
    assert "CPython" in (tmp_path / "bench.txt").read_text()
    picture = ET.parse(tmp_path / "bench.svg").getroot()
    shown = "".join(picture.itertext())
    assert "1.40 ms" in shown
    assert "added by LiteLLM 1.0" in shown


def test_the_page_gets_the_table_in_its_place(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    for text in ("one", "two"):
        document(text, page)
        assert page.read_text() == f"before\n{BEGIN}\n```\n{text}\n```\n{END}\nafter\n"
    page.write_text("no place")
    with pytest.raises(ValueError, match="no place"):
        document("one", page)


def test_the_documentation_shows_what_was_saved() -> None:
    """`make bench ARGS="--vs litellm --document"` writes both."""
    root = Path(__file__).resolve().parents[3]
    shown = (root / "docs" / "performance.md").read_text().partition(BEGIN)[2].partition(END)[0]
    saved = (root / "load_tests" / "results" / "bench.txt").read_text()
    assert shown.strip() == f"```\n{saved}```"
