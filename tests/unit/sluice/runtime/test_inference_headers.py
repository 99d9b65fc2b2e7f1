from decimal import Decimal

from sluice.domain.routing import Preferences, Report
from sluice.runtime import inference_headers


def test_preferences_are_read_from_the_headers() -> None:
    headers = {"x-sluice-target": "a/one", "x-sluice-strategy": "cost", "x-sluice-region": "eu", "accept": "*/*"}
    assert inference_headers.preferences(headers) == Preferences(target="a/one", strategy="cost", region="eu")
    assert inference_headers.preferences({"x-sluice-target": ""}) == Preferences()


def test_everything_is_told() -> None:
    report = Report(
        target="a/one",
        attempts=3,
        fallbacks=1,
        cost_micro_usd=Decimal("0.010"),
        overhead_ms=4.25,
        hedged=True,
    )
    assert inference_headers.of(report) == {
        "x-sluice-target": "a/one",
        "x-sluice-attempts": "3",
        "x-sluice-fallbacks": "1",
        "x-sluice-cost-usd": "0.00000001",
        "x-sluice-overhead-ms": "4.2",
        "x-sluice-cache": "bypass",
        "x-sluice-hedged": "true",
    }


def test_what_is_unknown_is_left_out() -> None:
    assert inference_headers.of(Report()) == {
        "x-sluice-attempts": "0",
        "x-sluice-fallbacks": "0",
        "x-sluice-overhead-ms": "0.0",
        "x-sluice-cache": "bypass",
    }
