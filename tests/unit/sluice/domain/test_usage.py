from datetime import date

import pytest

from sluice.domain.errors import InvalidRequestError
from sluice.domain.usage import month_days, span_days

NOW = 1_795_262_400.0  # 2026-11-21T12:00:00Z


def test_the_current_month_ends_today() -> None:
    period, days = month_days(None, now=NOW)
    assert (period, days[0], days[-1], len(days)) == ("2026-11", date(2026, 11, 1), date(2026, 11, 21), 21)


@pytest.mark.parametrize(
    ("period", "last"),
    [("2026-10", date(2026, 10, 31)), ("2026-02", date(2026, 2, 28)), ("2025-12", date(2025, 12, 31))],
)
def test_a_month_that_is_over_is_whole(period: str, last: date) -> None:
    found, days = month_days(period, now=NOW)
    assert (found, days[0], days[-1], len(days)) == (period, last.replace(day=1), last, last.day)


@pytest.mark.parametrize("period", ["2026-12", "2027-01", "2026-13", "0000-01", "november", "2026-1", "2026-11-21"])
def test_what_is_no_month_that_has_begun_is_refused(period: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        month_days(period, now=NOW)
    assert refused.value.param == "period"


def test_without_dates_it_is_the_current_month() -> None:
    assert span_days(None, None, now=NOW) == month_days(None, now=NOW)[1]


def test_a_span_has_both_its_ends() -> None:
    assert span_days("2026-10-30", "2026-11-02", now=NOW) == (
        date(2026, 10, 30),
        date(2026, 10, 31),
        date(2026, 11, 1),
        date(2026, 11, 2),
    )
    assert span_days("2026-11-20", None, now=NOW) == (date(2026, 11, 20), date(2026, 11, 21))


@pytest.mark.parametrize(
    ("first", "last", "param"),
    [
        ("2026-11-03", "2026-11-02", "from"),
        ("yesterday", None, "from"),
        (None, "2026-02-30", "to"),
        ("2026-01-01", "2026-04-03", "to"),
    ],
)
def test_a_span_that_is_none_is_refused(first: str | None, last: str | None, param: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        span_days(first, last, now=NOW)
    assert refused.value.param == param


def test_a_quarter_is_not_too_long() -> None:
    assert len(span_days("2026-01-01", "2026-04-02", now=NOW)) == 92
