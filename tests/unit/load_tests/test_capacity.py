"""Concurrency and cost by hand, and by the formulae."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from load_tests.capacity import __main__ as command
from load_tests.capacity.formulae import (
    Assumptions,
    Function,
    Measured,
    cost,
    in_flight,
    kept_gb,
    peak,
    sampled_share,
    units,
)
from load_tests.capacity.prices import PRICES, Price
from load_tests.capacity.quotas import quotas
from load_tests.capacity.tables import tables

MEASURED = Measured(
    cpu_ms=5.0,
    table_round_trips=3.0,
    write_units=4.0,
    read_units=0.5,
    log_bytes=1600,
    tls=True,
    taken_at="2026-11-21T12:00:00+00:00",
)
ASSUMED = Assumptions(requests_per_minute=60_000, memory_mb=1769, table_ms=4, authorizer_ms=10)


def function(provider_s: float = 1.0, **changed: Any) -> Function:
    return Function(MEASURED, replace(ASSUMED, **changed), provider_s)


def test_little() -> None:
    assert in_flight(833, 3) == 2499


def test_a_request_computes_at_its_share_of_a_core_and_waits_for_the_table() -> None:
    assert function().own_ms == pytest.approx(5 + 3 * 4)
    assert function(memory_mb=884.5).own_ms == pytest.approx(10 + 12)
    assert function().seconds == pytest.approx(1.017)


def test_one_thread_has_no_use_for_a_second_core() -> None:
    assert function(memory_mb=3538).own_ms == function().own_ms


def test_jobs_side_by_side_wait_together_and_compute_in_turn() -> None:
    assert function().batch_seconds(1) == function().seconds
    assert function().batch_seconds(10) == pytest.approx(1.017 + 9 * 0.005)


def test_a_slower_core_takes_longer() -> None:
    assert function(core_ratio=2).own_ms == pytest.approx(10 + 12)


@pytest.mark.parametrize("mean", [20, 100, 853, 2500])
def test_the_peak_is_exceeded_in_about_a_thousandth_of_the_time(mean: float) -> None:
    """Against the Poisson distribution itself, summed term by term."""
    below = sum(math.exp(-mean + count * math.log(mean) - math.lgamma(count + 1)) for count in range(peak(mean) + 1))
    assert 0.0004 < 1 - below < 0.0020


def test_many_short_requests_need_environments_for_their_rate() -> None:
    """1,000 a second at 5 ms: five at once, but an environment counts for ten requests a second at most."""
    brief = Function(
        replace(MEASURED, cpu_ms=1, table_round_trips=1), replace(ASSUMED, table_ms=4, authorizer_ms=5), 0.0
    )
    assert brief.mean_environments == pytest.approx(5)
    assert brief.quota == 100 + 100


def test_long_requests_need_environments_for_their_time() -> None:
    assert function(3.0).quota == peak(1000 * 3.017) + 100


def test_environments_start_at_a_thousand_in_ten_seconds() -> None:
    assert function(3.0).ramp_s == pytest.approx(peak(3017) / 100)


def test_the_default_rule_of_x_ray() -> None:
    assert sampled_share(0.5) == 1
    assert sampled_share(1) == 1
    assert sampled_share(101) == pytest.approx(6 / 101)


def test_tiers_are_paid_one_after_the_other() -> None:
    price = Price("x", ((10, 3.0), (30, 2.0), (math.inf, 1.0)), "here")
    assert [price.of(units) for units in (0, 5, 10, 20, 30, 100)] == [0, 15, 30, 50, 70, 140]


def test_the_bill_of_a_million_requests() -> None:
    bill = cost(function(memory_mb=1024)).per_million
    assert bill["API Gateway, REST"] == pytest.approx(3.50)
    assert bill["DynamoDB, writes"] == pytest.approx(4 * 0.625)
    # 1 s for the model, 5 ms of CPU at 1024/1769 of a core, 12 ms for the table, 10 ms of the authorizer, one GB; and a
    # hundredth of a batch of 100 ms.
    seconds = 1 + 5 * 1769 / 1024 / 1e3 + 0.012 + 0.010 + 0.1 / 100
    assert bill["Lambda, time"] == pytest.approx(seconds * 13.3334)
    assert bill["Lambda, requests"] == pytest.approx(2.01 * 0.20)
    assert bill["DynamoDB, reads"] == pytest.approx(0.5 * 0.125)
    assert bill["CloudWatch Logs"] == pytest.approx((1600 + 2200) / 1e3 * 0.50)
    assert bill["EventBridge"] == pytest.approx(1)


def test_a_month_is_cheaper_than_as_many_single_millions() -> None:
    found = cost(function())
    millions = 60_000 * 60 * 730 / 1e6
    assert found.per_month["API Gateway, REST"] == pytest.approx(333 * 3.5 + 667 * 2.8 + (millions - 1000) * 2.38)
    assert found.per_month["API Gateway, REST"] < millions * found.per_million["API Gateway, REST"]
    assert found.per_month["WAF"] == pytest.approx(millions * 0.60)


def test_every_price_is_used_and_has_a_source() -> None:
    assert units(function()).keys() == PRICES.keys()
    assert all(price.source.startswith("https://") for price in PRICES.values())
    assert all(price.tiers[-1][0] == math.inf for price in PRICES.values())


def test_what_is_kept_grows_until_the_oldest_go() -> None:
    assert kept_gb(1000, 10, 100) == pytest.approx(86.4)


def test_quotas_that_are_too_small_are_said_to_be() -> None:
    enough = {quota.name.split(":")[0] + str(quota.default): quota.enough for quota in quotas(function(0.1))}
    assert enough["API Gateway10000"]
    assert enough["Lambda1000"]
    assert not enough["Step Functions300"]
    lambdas = next(quota for quota in quotas(function(3.0)) if quota.name.startswith("Lambda"))
    assert not lambdas.enough
    assert lambdas.needed == function(3.0).quota


def test_the_bench_file_is_read_by_the_names_it_has(tmp_path: Path) -> None:
    saved = {
        "taken_at": "2026-11-21T12:00:00+00:00",
        "machine": {"tls": True},
        "sluice": {
            "cpu_ms_per_request": 5,
            "each_request": {
                "table_round_trips": 3,
                "write_units": 4,
                "read_units": 0.5,
                "log_bytes": 1600,
                "calls": {},
            },
        },
    }
    (tmp_path / "bench.json").write_text(json.dumps(saved))
    assert Measured.load(tmp_path / "bench.json") == MEASURED


def test_without_figures_nothing_is_made_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken.json").write_text("{}")
    assert command.main(["--bench", str(tmp_path / "missing.json")]) == 1
    assert command.main(["--bench", str(tmp_path / "broken.json")]) == 1
    assert capsys.readouterr().err.count("hint: make bench, or --cpu-ms") == 2


def test_figures_may_be_given(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--cpu-ms", "5", "--write-units", "4", "--rate", "6000"]) == 0
    assert "6,000 a minute, 100 a second" in capsys.readouterr().out


def test_only_what_stands_between_the_markers_is_replaced() -> None:
    text = f"before\n{command._BEGIN}\nold\n{command._END}\nafter\n"
    assert command.document(text, "new\n") == f"before\n{command._BEGIN}\n\nnew\n\n{command._END}\nafter\n"
    with pytest.raises(ValueError, match="markers"):
        command.document("before", "new")


def test_the_tables_say_what_the_formulae_say() -> None:
    text = tables(MEASURED, ASSUMED)
    row = next(line for line in text.splitlines() if line.startswith("| Lambda concurrency"))
    assert [cell.strip() for cell in row.split("|")[2:-1]] == [f"{function(wait).quota:,}" for wait in (0.1, 1.0, 3.0)]
    total = sum(cost(function(1.0)).per_million.values())
    assert f"**{total:.2f}**" in text
