import random
from collections import Counter
from collections.abc import Mapping
from decimal import Decimal

import msgspec
import pytest

from sluice.domain.inference import ChatRequest, EmbeddingRequest, Message, Tool
from sluice.domain.pricing import Price
from sluice.domain.resilience import LATENCY_DECAY_S, UNMEASURED, Health
from sluice.domain.routing import Route, Strategy, Target
from sluice.domain.strategies import TYPICAL_OUTPUT_TOKENS, Demand, expected_cost, in_order, two_choices, weighted
from sluice.testing.routes import target

NOW = 1_000.0
NOTHING_KNOWN = Demand()
ABC = (target("a/one"), target("b/two"), target("c/three"))


def price(input_per_mtok: str, output_per_mtok: str, *, cached: str | None = None, version: str = "2026-01") -> Price:
    return Price(
        version=version,
        input_per_mtok=Decimal(input_per_mtok),
        output_per_mtok=Decimal(output_per_mtok),
        cache_read_per_mtok=Decimal(cached) if cached else None,
    )


def order(
    strategy: Strategy,
    *,
    targets: tuple[Target, ...] = ABC,
    weights: tuple[int, ...] = (1, 1, 1),
    demand: Demand = NOTHING_KNOWN,
    health: Mapping[str, Health] | None = None,
    turn: int = 0,
    seed: int = 1,
) -> list[str]:
    route = Route(targets=targets, weights=weights, strategy=strategy)
    found = in_order(route, demand, health=health or {}, now=NOW, turn=turn, dice=random.Random(seed))
    assert sorted(each.name for each in found) == sorted(each.name for each in targets)
    return [each.name for each in found]


def test_priority_is_the_order_of_the_alias() -> None:
    assert order(Strategy.PRIORITY) == ["a/one", "b/two", "c/three"]


def test_round_robin_starts_one_further_each_time() -> None:
    firsts = [order(Strategy.ROUND_ROBIN, turn=turn)[0] for turn in range(7)]
    assert firsts == ["a/one", "b/two", "c/three", "a/one", "b/two", "c/three", "a/one"]
    assert order(Strategy.ROUND_ROBIN, turn=2) == ["c/three", "a/one", "b/two"]


def test_weights_are_shares_of_the_first_place_and_of_the_fallbacks() -> None:
    dice = random.Random(7)
    drawn = [weighted("xyz", (6, 3, 1), dice) for _ in range(20_000)]
    firsts = Counter(each[0] for each in drawn)
    assert firsts["x"] / 20_000 == pytest.approx(0.6, abs=0.015)
    assert firsts["z"] / 20_000 == pytest.approx(0.1, abs=0.01)
    seconds = Counter(each[1] for each in drawn if each[0] == "x")
    assert seconds["y"] / sum(seconds.values()) == pytest.approx(0.75, abs=0.02)


def test_what_weighs_nothing_is_a_fallback_only() -> None:
    for seed in range(50):
        assert order(Strategy.WEIGHTED, weights=(0, 1, 1), seed=seed)[-1] == "a/one"


def test_the_same_dice_draw_the_same_order() -> None:
    assert order(Strategy.WEIGHTED, seed=5) == order(Strategy.WEIGHTED, seed=5)


CHEAP_TO_ASK = target("ask", price=price("1", "10"))
CHEAP_TO_ANSWER = target("answer", price=price("4", "2"))


@pytest.mark.parametrize(
    ("demand", "best"),
    [
        (Demand(input_tokens=10_000, output_bound=10, writes=True), "ask"),
        (Demand(input_tokens=10, output_bound=1_000, writes=True), "answer"),
        (Demand(input_tokens=100), "ask"),
    ],
)
def test_cost_is_that_of_this_request_not_the_sum_of_the_prices(demand: Demand, best: str) -> None:
    assert order(Strategy.COST, targets=(CHEAP_TO_ASK, CHEAP_TO_ANSWER), weights=(1, 1), demand=demand)[0] == best


def test_an_unknown_price_comes_last() -> None:
    unknown, variable = target("unknown", price=None), target("variable", price=price("-1", "-1"))
    demand = Demand(input_tokens=1_000_000, writes=True)
    found = order(Strategy.COST, targets=(unknown, variable, CHEAP_TO_ASK), weights=(1, 1, 1), demand=demand)
    assert found[0] == "ask"


def test_the_share_that_is_usually_cached_costs_what_cached_input_costs() -> None:
    cached = target("cached", price=price("3", "1", cached="0.3"))
    plain = target("plain", price=price("2", "1"))
    demand = Demand(input_tokens=1_000)
    assert order(Strategy.COST, targets=(cached, plain), weights=(1, 1), demand=demand)[0] == "plain"
    health = {"cached": Health(cached_share=0.9)}
    assert order(Strategy.COST, targets=(cached, plain), weights=(1, 1), demand=demand, health=health)[0] == "cached"
    assert expected_cost(demand, cached, health["cached"]) == 100 * 3 + 900 * Decimal("0.3")


def test_the_expected_output_is_the_usual_one_within_the_bounds() -> None:
    one = target("one")
    small = msgspec.structs.replace(one, max_output_tokens=50)
    assert Demand(writes=True).output_tokens(one, UNMEASURED) == TYPICAL_OUTPUT_TOKENS
    assert Demand(writes=True, output_bound=1_000).output_tokens(one, UNMEASURED) == 1_000
    assert Demand(writes=True, output_bound=1_000).output_tokens(one, Health(output_tokens=79.2)) == 80
    assert Demand(writes=True, output_bound=20).output_tokens(one, Health(output_tokens=79.2)) == 20
    assert Demand(writes=True).output_tokens(small, UNMEASURED) == 50
    assert Demand().output_tokens(one, Health(output_tokens=79.2)) == 0


def test_demand_counts_everything_that_is_sent() -> None:
    bare = ChatRequest(model="m", messages=(Message("user", "x" * 400),), max_tokens=7)
    assert Demand.of(bare) == Demand(input_tokens=100, output_bound=7, writes=True)
    tools = msgspec.structs.replace(bare, tools=(Tool(name="find", description="y" * 400),))
    assert Demand.of(tools).input_tokens > 200
    assert Demand.of(EmbeddingRequest(model="m", inputs=("x" * 4, "y" * 4))) == Demand(input_tokens=2)
    assert Demand.of(object()) == Demand()


def test_the_quicker_of_two_is_tried_first() -> None:
    health = {"a/one": Health(ms_per_token=50, at=NOW), "b/two": Health(ms_per_token=5, at=NOW)}
    for seed in range(20):
        found = order(Strategy.LATENCY, targets=ABC[:2], weights=(1, 1), health=health, seed=seed)
        assert found == ["b/two", "a/one"]


def test_two_choices_avoid_the_worst_without_crowding_the_best() -> None:
    firsts = Counter(two_choices((1.0, 2.0, 3.0), float, random.Random(seed))[0] for seed in range(3_000))
    assert firsts[3.0] == 0
    assert firsts[1.0] / 3_000 == pytest.approx(2 / 3, abs=0.03)
    assert firsts[2.0] / 3_000 == pytest.approx(1 / 3, abs=0.03)


def test_what_nobody_has_measured_is_tried_and_what_was_slow_long_ago_is_tried_again() -> None:
    health = {"a/one": Health(ms_per_token=5, at=NOW)}
    assert order(Strategy.LATENCY, targets=ABC[:2], weights=(1, 1), health=health)[0] == "b/two"
    health["b/two"] = Health(ms_per_token=100, at=NOW - 4 * LATENCY_DECAY_S)
    assert order(Strategy.LATENCY, targets=ABC[:2], weights=(1, 1), health=health)[0] == "b/two"


@pytest.mark.parametrize("strategy", Strategy)
def test_one_target_is_one_target(strategy: Strategy) -> None:
    assert order(strategy, targets=ABC[:1], weights=(0,)) == ["a/one"]
