"""Arrivals are a Poisson process."""

from __future__ import annotations

import math
import random
import statistics

import pytest

from load_tests.arrivals import Arrival, Stage, arrivals


def made(*stages: Stage, share: float = 1, seed: int = 7) -> list[Arrival]:
    return list(arrivals(stages, share=share, chance=random.Random(seed)))


def test_there_are_as_many_as_the_rate_says() -> None:
    count = len(made(Stage("x", 50, 200)))
    assert abs(count - 10_000) < 4 * math.sqrt(10_000)


def test_counts_of_equal_times_vary_as_much_as_they_are_large() -> None:
    """Of a Poisson process mean and variance are equal; of an even beat the variance would be next to nothing."""
    seconds = [0] * 2000
    for each in made(Stage("x", 10, 2000)):
        seconds[int(each.at_s)] += 1
    assert statistics.variance(seconds) / statistics.mean(seconds) == pytest.approx(1, abs=0.15)


def test_several_shares_make_the_whole() -> None:
    parts = [made(Stage("x", 40, 100), share=0.25, seed=seed) for seed in range(4)]
    assert abs(sum(map(len, parts)) - 4000) < 4 * math.sqrt(4000)


def test_each_stage_has_its_own_rate_and_time() -> None:
    found = made(Stage("slow", 5, 100), Stage("fast", 50, 100))
    slow = [each.at_s for each in found if each.stage == 0]
    fast = [each.at_s for each in found if each.stage == 1]
    assert max(slow) < 100 <= min(fast)
    assert max(fast) < 200
    assert abs(len(slow) - 500) < 4 * math.sqrt(500)
    assert abs(len(fast) - 5000) < 4 * math.sqrt(5000)


def test_they_come_in_order() -> None:
    found = [each.at_s for each in made(Stage("x", 30, 10), Stage("y", 3, 10))]
    assert found == sorted(found)


def test_equal_seeds_make_equal_arrivals() -> None:
    assert made(Stage("x", 10, 10)) == made(Stage("x", 10, 10)) != made(Stage("x", 10, 10), seed=8)


@pytest.mark.parametrize(("rate", "seconds"), [(0, 1), (-1, 1), (1, 0)])
def test_a_stage_without_arrivals_is_refused(rate: float, seconds: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        Stage("x", rate, seconds)
