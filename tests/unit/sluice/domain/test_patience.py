import pytest

from sluice.domain.errors import BudgetExceededError, LimitError, RateLimitedError
from sluice.domain.ledger import NO_LIMITS, Limit, Standing
from sluice.domain.patience import LONGEST_WAIT_S, passes, wait_s
from sluice.domain.routing import Report

STANDING = Standing(limits=NO_LIMITS, month="202611", reset_s=30, month_reset_s=60)


def limited(retry_after_s: float | None, kind: type[LimitError] = RateLimitedError) -> LimitError:
    return kind("Too much.", limit=Limit.REQUESTS, standing=STANDING, retry_after_s=retry_after_s)


def longest(low: float, high: float) -> float:
    return high


def test_the_first_wait_is_until_there_is_room() -> None:
    assert wait_s(limited(41.2), waits=0, jitter=longest) == 42
    assert wait_s(limited(0.001), waits=0, jitter=longest) == 1


def test_those_who_wait_again_come_back_spread_out() -> None:
    waits = [wait_s(limited(10), waits=count, jitter=longest) for count in range(9)]
    assert waits == [10, 15, 25, 45, 85, 165, 325, 645, LONGEST_WAIT_S]
    assert wait_s(limited(10), waits=100, jitter=lambda low, _: low) == 10


@pytest.mark.parametrize("retry_after_s", [None, LONGEST_WAIT_S + 1, 10 * 86_400.0])
def test_nobody_waits_for_what_will_not_come_soon(retry_after_s: float | None) -> None:
    error = limited(retry_after_s, BudgetExceededError)
    assert not passes(error)
    assert wait_s(error, waits=0, jitter=longest) is None


def test_money_that_is_only_held_is_waited_for() -> None:
    error = limited(1.0, BudgetExceededError)
    assert passes(error)
    assert wait_s(error, waits=0, jitter=longest) == 1


def test_what_had_been_asked_of_a_provider_is_not_just_waited_for() -> None:
    error = limited(1.0, BudgetExceededError)
    error.report = Report(attempts=0)
    assert wait_s(error, waits=0, jitter=longest) == 1
    error.report = Report(attempts=1)
    assert wait_s(error, waits=0, jitter=longest) is None
