from decimal import Decimal

import pytest

from sluice.domain.ledger import NO_LIMITS, Limits, Standing
from sluice.domain.routing import Preferences, Report
from sluice.runtime import inference_headers


def standing(limits: Limits, **values: object) -> Standing:
    given = {"month": "202611", "reset_s": 30.0, "month_reset_s": 1_000.0, **values}
    return Standing(limits=limits, **given)  # type: ignore[arg-type]


def test_preferences_are_read_from_the_headers() -> None:
    headers = {"x-sluice-target": "a/one", "x-sluice-strategy": "cost", "x-sluice-region": "eu", "accept": "*/*"}
    assert inference_headers.preferences(headers) == Preferences(target="a/one", strategy="cost", region="eu")
    caching = {"x-sluice-cache": "on", "x-sluice-cache-ttl": "60"}
    assert inference_headers.preferences(caching) == Preferences(cache="on", cache_ttl="60")
    assert inference_headers.preferences({"x-sluice-target": "", "x-sluice-cache": ""}) == Preferences()


def test_everything_is_told() -> None:
    report = Report(
        target="a/one",
        attempts=3,
        fallbacks=1,
        cost_micro_usd=Decimal("0.010"),
        overhead_ms=4.25,
        hedged=True,
        cache="hit",
        age_s=7,
        standing=standing(Limits(rpm=60), remaining_requests=59),
        max_output_tokens=100,
    )
    assert inference_headers.of(report) == {
        "x-sluice-target": "a/one",
        "x-sluice-attempts": "3",
        "x-sluice-fallbacks": "1",
        "x-sluice-cost-usd": "0.00000001",
        "x-sluice-overhead-ms": "4.2",
        "x-sluice-cache": "hit",
        "age": "7",
        "x-sluice-hedged": "true",
        "x-sluice-max-output-tokens": "100",
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "30s",
    }


def test_what_is_unknown_is_left_out() -> None:
    assert inference_headers.of(Report()) == {
        "x-sluice-attempts": "0",
        "x-sluice-fallbacks": "0",
        "x-sluice-overhead-ms": "0.0",
        "x-sluice-cache": "bypass",
    }


def test_only_limits_that_there_are_are_told() -> None:
    assert inference_headers.of_standing(standing(NO_LIMITS)) == {}
    assert inference_headers.of_standing(standing(Limits(tpm=10), remaining_tokens=0)) == {
        "x-ratelimit-limit-tokens": "10",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "30s",
    }


@pytest.mark.parametrize(
    ("monthly", "total", "left"),
    [(10, None, "0.000007"), (None, 10, "0.000005"), (10, 10, "0.000005"), (10, 30, "0.000007"), (1, None, "0")],
)
def test_the_smaller_of_two_budgets_is_told(monthly: int | None, total: int | None, left: str) -> None:
    limits = Limits(
        monthly_budget_micro_usd=None if monthly is None else Decimal(monthly),
        total_budget_micro_usd=None if total is None else Decimal(total),
    )
    used = standing(
        limits,
        spent_micro_usd=Decimal(2),
        held_micro_usd=Decimal(1),
        total_spent_micro_usd=Decimal(4),
        total_held_micro_usd=Decimal(1),
    )
    assert inference_headers.of_standing(used) == {"x-sluice-budget-remaining-usd": left}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2501, "251ms"), (0.25, "250ms"), (1, "1s"), (11.01, "12s"), (59.2, "1m0s"), (60, "1m0s"), (75, "1m15s")],
)
def test_times_are_told_as_openai_tells_them(seconds: float, text: str) -> None:
    assert inference_headers.duration(seconds) == text
