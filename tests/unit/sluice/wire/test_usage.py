import json
from datetime import date
from decimal import Decimal

import msgspec

from sluice.domain.ledger import Limits, Standing
from sluice.domain.usage import KeyUsage, Tally, UsageReport, UsageRow
from sluice.wire.usage import UsageObject, UsageReportObject, groups

TALLY = Tally(requests=2, failed=1, input_tokens=10, output_tokens=3, cost_micro_usd=Decimal("1500000.5"))


def test_usage_has_money_as_decimal_strings_and_null_where_nothing_is_limited() -> None:
    standing = Standing(
        limits=Limits(rpm=10, monthly_budget_micro_usd=Decimal(2_000_000)),
        month="202611",
        reset_s=1,
        month_reset_s=1,
        remaining_requests=8,
        spent_micro_usd=Decimal(1_500_000),
        held_micro_usd=Decimal(250_000),
    )
    usage = KeyUsage(period="2026-11", total=TALLY, by_model=(("a/one", TALLY),), standing=standing)
    assert json.loads(msgspec.json.encode(UsageObject.of(usage))) == {
        "object": "usage",
        "period": "2026-11",
        "requests": 2,
        "input_tokens": 10,
        "output_tokens": 3,
        "cost_usd": "1.5000005",
        "by_model": [
            {
                "model": "a/one",
                "requests": 2,
                "failed_requests": 1,
                "cached_requests": 0,
                "unpriced_requests": 0,
                "input_tokens": 10,
                "output_tokens": 3,
                "cost_usd": "1.5000005",
            }
        ],
        "reserved_usd": "0.25",
        "limits": {"rpm": 10, "tpm": None, "monthly_budget_usd": "2", "total_budget_usd": None},
        "remaining": {"requests": 8, "tokens": None, "monthly_budget_usd": "0.25", "total_budget_usd": None},
    }


def test_a_month_that_is_over_has_no_remains() -> None:
    shown = UsageObject.of(KeyUsage(period="2026-10", total=TALLY, by_model=(), standing=None))
    assert (shown.limits, shown.remaining, shown.reserved_usd) == (None, None, None)


def test_a_report_leaves_out_what_it_is_not_grouped_by() -> None:
    row = UsageRow(tally=TALLY, key_id="key_1", key_name="name")
    report = UsageReport(first=date(2026, 11, 1), last=date(2026, 11, 21), rows=(row,), total=TALLY)
    shown = json.loads(msgspec.json.encode(UsageReportObject.of(report)))
    assert (shown["object"], shown["from"], shown["to"]) == ("list", "2026-11-01", "2026-11-21")
    assert shown["data"][0].keys() >= {"key_id", "key_name", "cost_usd"}
    assert not shown["data"][0].keys() & {"day", "model"}
    assert shown["total"]["requests"] == 2


def test_groups_are_joined_by_commas() -> None:
    assert groups("key, day") == ("key", "day")
    assert groups(None) is None
