"""Budgets hold to the micro-dollar: under a rush, when functions are killed, and without ever blocking falsely."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Self

import pytest

from tests.integration.governance import Key, admin, containers, dollars, kill, micro, rush, settled
from tests.integration.support import Answer, Platform, eventually

CALLERS = 64
REQUESTS = 200
AFFORDABLE = 50
AT_LEAST = 45
# The longest deadline of a sync request, its margins, and the width of a bucket of holds.
EXPIRES_WITHIN_S = 75
PATH = "/chat/completions"
CONTEXT = " ".join(f"Gate {number} of the canal was opened in the spring of that year." for number in range(1, 6))
BODY: dict[str, Any] = {
    "model": "openai/extractive-v1",
    "messages": [{"role": "user", "content": f"{CONTEXT} Summarise it."}],
    "max_completion_tokens": 64,
}


@dataclass(frozen=True)
class Price:
    """What the request costs, and the most that is held for it, in micro-dollars."""

    cost: Decimal
    hold: Decimal


@pytest.fixture(scope="module")
def price(platform: Platform) -> Iterator[Price]:
    """As one request with more than enough money tells: while it is under way, and when it is over."""
    platform.heal()
    key = Key.new(platform, total_budget_usd="1")
    with slow(platform, 3.0), ThreadPoolExecutor(1) as pool:
        answer = pool.submit(key.served, "POST", PATH, BODY)
        held = eventually(lambda: micro(key.usage()["reserved_usd"]) or None, within_s=30, what="a hold is to be seen")
        cost = micro(answer.result().headers["x-sluice-cost-usd"])
    assert cost > 0
    yield Price(cost, held)
    platform.heal()


@dataclass
class Crashed:
    """A key whose functions were killed in the middle of requests."""

    key: Key
    budget: Decimal
    lost: int
    answered: int
    at: float


@pytest.fixture(scope="module")
def crashed(platform: Platform, price: Price) -> Crashed:
    """Killed first of all, so that the time until what they held expires is spent on the other tests."""
    budget = price.cost * AFFORDABLE
    key = Key.new(platform, total_budget_usd=dollars(budget))
    with slow(platform, 6.0), ThreadPoolExecutor(6) as pool:
        doomed = [pool.submit(key.call, "POST", PATH, BODY) for _ in range(6)]
        eventually(
            lambda: micro(key.usage()["reserved_usd"]) >= 4 * price.hold or None,
            within_s=60,
            what="four requests are under way",
        )
        assert kill(containers(platform, "chat_completions")) >= 4
        answers = [each.result() for each in doomed]
    # Those that came so late that no container had them yet were served.
    return Crashed(key, budget, sum(answer.status == 502 for answer in answers), successes(answers), time.monotonic())


@contextmanager
def slow(platform: Platform, seconds: float) -> Iterator[None]:
    """Requests take so long."""
    platform.fault("extractive-v1", kind="latency", seconds=seconds)
    yield
    platform.end_faults()


class Watch:
    """Looks at what a key has spent and reserved, again and again, while other things go on."""

    def __init__(self, key: Key) -> None:
        self._key = key
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.seen: list[Decimal] = []

    def _look(self) -> None:
        while not self._over.wait(0.3):
            usage = self._key.usage()
            self.seen.append(micro(usage["cost_usd"]) + micro(usage["reserved_usd"]))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def successes(answers: list[Answer]) -> int:
    return sum(answer.status == 200 for answer in answers)


def assert_clean_refusals(answers: list[Answer], price: Price) -> None:
    """Each was given while spent and reserved left less room than the request may need, and says all of it."""
    refused = [answer for answer in answers if answer.status != 200]
    for answer in refused:
        assert answer.status == 429, answer.body
        assert answer.body["error"]["code"] == answer.body["error"]["type"] == "insufficient_quota"
        assert answer.headers["x-should-retry"] == "false"
        assert Decimal(0) <= micro(answer.headers["x-sluice-budget-remaining-usd"]) < price.hold
        if "retry-after" in answer.headers:
            assert answer.headers["retry-after"] == "1"


def come_back(key: Key) -> int:
    """How many more requests succeed, one after the other, until one is refused."""
    for number in range(REQUESTS):
        answer = key.served("POST", PATH, BODY)
        if answer.status == 429:
            assert "retry-after" not in answer.headers, "nothing is reserved, so waiting helps nobody"
            return number
        assert answer.status == 200, answer.body
    pytest.fail("the budget never ended")


def test_200_requests_of_64_callers_stay_within_a_budget_for_50(
    healthy: Platform, price: Price, crashed: Crashed
) -> None:
    budget = price.cost * AFFORDABLE
    key = Key.new(healthy, total_budget_usd=dollars(budget))
    with Watch(key) as watch:
        answers = rush(key, PATH, [BODY] * REQUESTS, callers=CALLERS)
    assert len(answers) == REQUESTS
    assert_clean_refusals(answers, price)
    assert watch.seen
    assert max(watch.seen) <= budget
    usage = settled(key, within_s=5)
    assert micro(usage["cost_usd"]) == successes(answers) * price.cost <= budget

    total = successes(answers) + come_back(key)
    assert AT_LEAST <= total <= AFFORDABLE
    usage = settled(key, within_s=5)
    assert micro(usage["cost_usd"]) == total * price.cost == key.logged_cost() <= budget
    assert micro(usage["remaining"]["total_budget_usd"]) == budget - total * price.cost


def test_what_killed_functions_held_comes_back_and_the_ledger_is_the_log(
    healthy: Platform, price: Price, crashed: Crashed
) -> None:
    key = crashed.key
    assert crashed.lost >= 4
    answers = rush(key, PATH, [BODY] * 30, callers=CALLERS)
    assert_clean_refusals(answers, price)
    usage = settled(key, within_s=EXPIRES_WITHIN_S - (time.monotonic() - crashed.at))
    assert micro(usage["cost_usd"]) == key.logged_cost() <= crashed.budget

    total = crashed.answered + successes(answers) + come_back(key)
    assert AT_LEAST <= total <= AFFORDABLE
    usage = settled(key, within_s=5)
    assert micro(usage["cost_usd"]) == total * price.cost == key.logged_cost() <= crashed.budget


def test_a_months_budget_says_when_the_month_is_over(healthy: Platform, price: Price) -> None:
    key = Key.new(healthy, monthly_budget_usd=dollars(price.hold), total_budget_usd="5")
    assert key.served("POST", PATH, BODY).status == 200
    refused = key.served("POST", PATH, BODY)
    assert refused.status == 429
    assert refused.headers["x-should-retry"] == "false"
    now = datetime.now(UTC)
    following = datetime(now.year + now.month // 12, now.month % 12 + 1, 1, tzinfo=UTC)
    assert abs(int(refused.headers["retry-after"]) - (following - now).total_seconds()) < 5


def test_a_raised_budget_frees_the_key(healthy: Platform, price: Price) -> None:
    key = Key.new(healthy, total_budget_usd=dollars(price.hold))
    assert [key.served("POST", PATH, BODY).status for _ in range(2)] == [200, 429]
    assert admin(healthy, "PATCH", f"/keys/{key.id}", {"total_budget_usd": "1"}).status == 200
    eventually(
        lambda: key.served("POST", PATH, BODY).status == 200 or None, within_s=60, what="the raised budget is in force"
    )


def test_what_failed_costs_nothing(healthy: Platform, price: Price) -> None:
    key = Key.new(healthy, total_budget_usd=dollars(price.hold))
    healthy.fault("extractive-v1", kind="error", status=500)
    assert key.served("POST", PATH, BODY).status == 502
    assert key.served("POST", PATH, {**BODY, "stream": True}).status == 502
    healthy.heal()
    assert micro(settled(key, within_s=5)["cost_usd"]) == 0
    assert key.served("POST", PATH, BODY).status == 200


def test_a_stream_that_breaks_off_is_settled(healthy: Platform, price: Price) -> None:
    key = Key.new(healthy, total_budget_usd="1")
    healthy.fault("extractive-v1", kind="cut_stream", after_tokens=3)
    answer = key.served("POST", PATH, {**BODY, "stream": True})
    assert answer.status == 200
    assert b"[DONE]" not in answer.raw
    usage = settled(key, within_s=5)
    assert 0 < micro(usage["cost_usd"]) < price.cost
    assert micro(usage["cost_usd"]) == key.logged_cost()


def test_a_key_with_a_budget_uses_no_model_of_unknown_price(healthy: Platform) -> None:
    key = Key.new(healthy, total_budget_usd="1")
    refused = key.served("POST", PATH, {**BODY, "model": "openai/extractive-v1-small", "max_completion_tokens": 8})
    assert refused.status == 403
    assert refused.body["error"]["code"] == "model_without_price"


def test_less_room_makes_a_shorter_answer(healthy: Platform) -> None:
    body = {**BODY, "max_completion_tokens": 1000}
    key = Key.new(healthy, tpm=900)
    answer = key.served("POST", PATH, body)
    assert answer.status == 200, answer.body
    assert 64 <= int(answer.headers["x-sluice-max-output-tokens"]) < 900


@pytest.mark.parametrize("route", ["batch", "workflow"])
def test_durable_work_without_money_has_failed_for_good(healthy: Platform, route: str) -> None:
    key = Key.new(healthy, total_budget_usd="0.000001")
    if route == "batch":
        accepted = key.served("POST", "/async/chat/completions", BODY)
        path = f"/async/{accepted.body['id']}"
    else:
        steps = [{"prompt": "The door is red. Which colour?", "model": BODY["model"]}]
        accepted = key.served("POST", "/workflows/chain/executions", {"steps": steps})
        path = f"/workflows/executions/{accepted.body['id']}"
    assert accepted.status == 202, accepted.body

    def failed() -> dict[str, Any] | None:
        answer = key.served("GET", path)
        return answer.body["error"] if answer.body["status"] == "failed" else None

    error = eventually(failed, within_s=60, what=f"the {route} work has failed")
    assert error["code"] == "insufficient_quota"
    assert micro(settled(key, within_s=5)["cost_usd"]) == 0
