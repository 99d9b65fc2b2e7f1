"""Windows, buckets and shards of the ledger."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.domain.ledger import (
    BEGUN_BEFORE_S,
    HOLD_MARGIN_S,
    LONG_BUCKET_S,
    LONGEST_HOLD_S,
    MOST_SHARDS,
    NO_LIMITS,
    SHARDS_WITHOUT_LIMITS,
    SHORT_BUCKET_S,
    SHORT_HOLD_S,
    Limits,
    begun_between,
    bucket_of,
    expiry_of,
    minute_of,
    month_of,
    seconds_to_next_minute,
    seconds_to_next_month,
    shards_for,
)

MOMENTS = st.floats(min_value=1.7e9, max_value=2.5e9)
LENGTHS = st.floats(min_value=0.1, max_value=LONGEST_HOLD_S)


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("moment", "left"),
    [("2026-11-21T12:00:00", 60), ("2026-11-21T12:00:59.750", 0.25), ("2026-12-31T23:59:30", 30)],
)
def test_a_minute_ends_where_the_clock_says(moment: str, left: float) -> None:
    assert seconds_to_next_minute(at(moment)) == left
    assert minute_of(at(moment) + left) == minute_of(at(moment)) + 1


@pytest.mark.parametrize(
    ("moment", "month", "following"),
    [
        ("2026-11-21T12:00:00", "202611", "2026-12-01"),
        ("2026-12-31T23:59:59", "202612", "2027-01-01"),
        ("2027-01-01T00:00:00", "202701", "2027-02-01"),
        ("2028-02-29T00:00:00", "202802", "2028-03-01"),
    ],
)
def test_a_month_ends_where_the_calendar_says(moment: str, month: str, following: str) -> None:
    assert month_of(at(moment)) == month
    assert at(moment) + seconds_to_next_month(at(moment)) == at(following)


@given(MOMENTS, LENGTHS)
def test_a_bucket_outlives_its_holds_but_not_by_more_than_its_width(now: float, length: float) -> None:
    name, expiry = bucket_of(now, now + length)

    width = SHORT_BUCKET_S if length <= SHORT_HOLD_S else LONG_BUCKET_S
    assert expiry == expiry_of(name)
    assert now + length + HOLD_MARGIN_S <= expiry + 0.001
    assert expiry < now + length + HOLD_MARGIN_S + LONG_BUCKET_S
    if length < SHORT_HOLD_S - 1:
        assert expiry < now + length + HOLD_MARGIN_S + width


@given(MOMENTS, LENGTHS, st.floats(min_value=0, max_value=BEGUN_BEFORE_S))
def test_every_request_of_a_bucket_began_when_it_is_looked_for(now: float, length: float, begun_before: float) -> None:
    name, _ = bucket_of(now, now + length)

    first, last = begun_between(name)

    assert first <= now - begun_before <= now <= last


def test_no_hold_outlives_the_longest_function() -> None:
    with pytest.raises(ValueError, match="960 seconds at most"):
        bucket_of(0.0, LONGEST_HOLD_S + 1.0)


@pytest.mark.parametrize(
    ("limits", "shards"),
    [
        (NO_LIMITS, SHARDS_WITHOUT_LIMITS),
        (Limits(tpm=5), 1),
        (Limits(monthly_budget_micro_usd=Decimal(5)), 1),
        (Limits(rpm=1), 1),
        (Limits(rpm=15_000), 1),
        (Limits(rpm=15_001), 2),
        (Limits(rpm=120_000, total_budget_micro_usd=Decimal(5)), 8),
        (Limits(rpm=10**9), MOST_SHARDS),
    ],
)
def test_a_key_has_as_many_shards_as_its_requests_need(limits: Limits, shards: int) -> None:
    assert shards_for(limits) == shards
