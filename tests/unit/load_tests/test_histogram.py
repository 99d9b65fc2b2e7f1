"""Latencies by the millisecond."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from load_tests.histogram import Histogram

LATENCIES = st.lists(st.floats(min_value=0, max_value=100), min_size=1)


def histogram(*seconds: float) -> Histogram:
    made = Histogram()
    for each in seconds:
        made.record(each)
    return made


def test_a_millisecond_is_named_by_its_upper_end() -> None:
    assert list(histogram(0.0, 0.0001, 0.001, 0.0010001, 0.005)) == [(0, 1), (1, 2), (2, 1), (5, 1)]


def test_neighbouring_milliseconds_stay_apart_however_long_a_call_takes() -> None:
    found = histogram(9.871, 9.872)
    assert (found.percentile(50), found.percentile(100)) == (9871, 9872)


def test_a_clock_that_runs_backwards_counts_as_no_time_at_all() -> None:
    assert list(histogram(-0.5)) == [(0, 1)]


def test_nothing_has_no_percentile() -> None:
    assert Histogram().percentile(99) is None
    assert Histogram().longest is None


@given(LATENCIES, st.sampled_from([1, 50, 90, 95, 99, 99.9, 100]))
def test_percentiles_are_those_of_the_sorted_list(latencies: list[float], percent: float) -> None:
    ordered = sorted(max(0, math.ceil(round(each * 1e3, 6))) for each in latencies)
    rank = max(1, math.ceil(round(len(ordered) * percent / 100, 6)))
    assert histogram(*latencies).percentile(percent) == ordered[rank - 1]


@given(LATENCIES, LATENCIES)
def test_two_processes_together_saw_what_each_of_them_saw(one: list[float], other: list[float]) -> None:
    together = histogram(*one)
    together.add(histogram(*other))
    assert list(together) == list(histogram(*one, *other))
    assert len(together) == len(one) + len(other)
    assert together.longest == max(x for x, _ in together)


@given(LATENCIES)
def test_a_histogram_survives_being_sent(latencies: list[float]) -> None:
    sent = histogram(*latencies)
    assert list(Histogram(list(map(list, sent)))) == list(sent)
