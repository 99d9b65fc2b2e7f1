import random
from decimal import Decimal
from fractions import Fraction
from typing import Any

import msgspec
import pytest

from sluice.domain.inference import Usage
from sluice.domain.pricing import (
    Charge,
    Price,
    Rates,
    Tier,
    ceiling,
    charge,
    cost_micro_usd,
    price_versions,
    total_cost,
    total_usage,
)

PRICE = Price(version="v1", input_per_mtok=Decimal("0.035"), output_per_mtok=Decimal("0.14"))
EVERY_CLASS = Price(
    version="v1",
    input_per_mtok=Decimal(3),
    output_per_mtok=Decimal(15),
    cache_read_per_mtok=Decimal("0.3"),
    cache_write_per_mtok=Decimal("3.75"),
    cache_write_1h_per_mtok=Decimal(6),
    reasoning_per_mtok=Decimal(20),
)
USAGE = Usage(
    input_tokens=100,
    output_tokens=50,
    cache_read_tokens=40,
    cache_write_tokens=30,
    cache_write_1h_tokens=10,
    reasoning_tokens=20,
)


def test_a_cost_is_exact_to_the_last_digit() -> None:
    assert cost_micro_usd(Usage(input_tokens=7, output_tokens=3), PRICE) == Decimal("0.665")


def test_a_cost_is_exact_however_many_digits_it_has() -> None:
    price = Price(version="v1", input_per_mtok=Decimal("123456789.123456789012345678"))
    usage = Usage(input_tokens=999_999_999_999)
    cost = cost_micro_usd(usage, price)
    assert cost is not None
    assert Fraction(cost) == 999_999_999_999 * Fraction("123456789.123456789012345678")


def test_every_class_of_tokens_has_its_own_rate() -> None:
    expected = 30 * 3 + 40 * Decimal("0.3") + 20 * Decimal("3.75") + 10 * 6 + 30 * 15 + 20 * 20
    assert cost_micro_usd(USAGE, EVERY_CLASS) == expected


def test_without_rates_of_their_own_tokens_cost_what_their_kind_costs() -> None:
    assert cost_micro_usd(USAGE, PRICE) == 100 * Decimal("0.035") + 50 * Decimal("0.14")


def test_without_a_rate_for_the_hour_a_cache_write_costs_what_a_short_one_does() -> None:
    price = msgspec.structs.replace(EVERY_CLASS, cache_write_1h_per_mtok=None)
    expected = 30 * 3 + 40 * Decimal("0.3") + 30 * Decimal("3.75") + 30 * 15 + 20 * 20
    assert cost_micro_usd(USAGE, price) == expected


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (Usage(input_tokens=10, cache_read_tokens=99), 10 * Decimal("0.3")),
        (Usage(input_tokens=10, cache_read_tokens=8, cache_write_tokens=9), 8 * Decimal("0.3") + 2 * Decimal("3.75")),
        (Usage(input_tokens=0, output_tokens=5, reasoning_tokens=9), 5 * Decimal(20)),
        (Usage(input_tokens=10, cache_write_tokens=4, cache_write_1h_tokens=9), 6 * Decimal(3) + 4 * Decimal(6)),
    ],
)
def test_a_part_is_never_more_than_the_whole_so_no_token_is_billed_twice(usage: Usage, expected: Decimal) -> None:
    assert cost_micro_usd(usage, EVERY_CLASS) == expected


def test_an_unknown_price_makes_an_unknown_cost_not_a_free_one() -> None:
    assert cost_micro_usd(Usage(input_tokens=7), None) is None


@pytest.mark.parametrize("rate", ["-1", "NaN", "Infinity", "-0.000001"])
def test_a_rate_that_varies_makes_an_unknown_cost(rate: str) -> None:
    price = msgspec.structs.replace(EVERY_CLASS, input_per_mtok=Decimal(rate))
    assert cost_micro_usd(USAGE, price) is None
    assert charge("a/b", USAGE, price) == Charge(target="a/b", usage=USAGE, cost_micro_usd=None, price_version="v1")


def test_a_rate_that_no_token_needs_does_not_matter() -> None:
    price = msgspec.structs.replace(EVERY_CLASS, reasoning_per_mtok=Decimal(-1))
    assert cost_micro_usd(Usage(input_tokens=1, output_tokens=1), price) == 18
    assert cost_micro_usd(Usage(input_tokens=1, output_tokens=1, reasoning_tokens=1), price) is None


def test_a_price_of_zero_is_a_price() -> None:
    assert cost_micro_usd(USAGE, Price(version="free", input_per_mtok=Decimal(0))) == 0


@pytest.mark.parametrize(("tokens", "rate"), [(200, 1), (201, 2), (1000, 2), (1001, 4)])
def test_a_long_prompt_puts_the_whole_request_into_the_tier_that_it_reaches(tokens: int, rate: int) -> None:
    tiers = (
        Tier(above_input_tokens=1000, input_per_mtok=Decimal(4)),
        Tier(above_input_tokens=200, input_per_mtok=Decimal(2)),
    )
    price = Price(version="v1", input_per_mtok=Decimal(1), tiers=tiers)
    assert cost_micro_usd(Usage(input_tokens=tokens), price) == tokens * rate


def test_a_tier_is_reached_by_the_whole_prompt_cached_or_not() -> None:
    tier = Tier(above_input_tokens=200, input_per_mtok=Decimal(2), cache_read_per_mtok=Decimal("0.5"))
    price = Price(version="v1", input_per_mtok=Decimal(1), tiers=(tier,))
    assert cost_micro_usd(Usage(input_tokens=300, cache_read_tokens=200), price) == 100 * 2 + 200 * Decimal("0.5")


def test_batch_work_has_rates_of_its_own_and_without_them_the_ordinary_ones() -> None:
    batch = Rates(input_per_mtok=Decimal("1.5"), output_per_mtok=Decimal("7.5"))
    price = msgspec.structs.replace(EVERY_CLASS, batch=batch)
    assert cost_micro_usd(USAGE, price, batch=True) == 100 * Decimal("1.5") + 50 * Decimal("7.5")
    assert cost_micro_usd(USAGE, price) == cost_micro_usd(USAGE, EVERY_CLASS)
    assert cost_micro_usd(USAGE, EVERY_CLASS, batch=True) == cost_micro_usd(USAGE, EVERY_CLASS)
    assert charge("one", USAGE, price, batch=True).cost_micro_usd == cost_micro_usd(USAGE, price, batch=True)


def test_batch_rates_know_no_tiers_and_the_ordinary_ones_do() -> None:
    tiered = Price(
        version="v1",
        input_per_mtok=Decimal(1),
        tiers=(Tier(above_input_tokens=10, input_per_mtok=Decimal(4)),),
        per_request_usd=Decimal("0.000002"),
    )
    own = msgspec.structs.replace(tiered, batch=Rates(input_per_mtok=Decimal("0.5")))
    long = Usage(input_tokens=20)
    assert cost_micro_usd(long, own, batch=True) == 12
    assert cost_micro_usd(long, tiered, batch=True) == 82


def test_what_is_charged_per_request_comes_on_top() -> None:
    price = Price(version="v1", input_per_mtok=Decimal(1), per_request_usd=Decimal("0.000002"))
    assert cost_micro_usd(Usage(input_tokens=5), price) == 7
    assert cost_micro_usd(Usage(input_tokens=0), price) == 2


def test_several_calls_are_charged_together() -> None:
    one = charge("a/b", USAGE, EVERY_CLASS)
    two = charge(
        "a/b", Usage(input_tokens=1, output_tokens=2, estimated=True), msgspec.structs.replace(PRICE, version="v2")
    )
    usage = total_usage([one, two])
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens, usage.reasoning_tokens) == (101, 52, 20)
    assert usage.estimated
    assert one.cost_micro_usd is not None
    assert two.cost_micro_usd is not None
    assert total_cost([one, two]) == one.cost_micro_usd + two.cost_micro_usd
    assert price_versions([one, one, two]) == "v1,v2"


def test_one_unknown_cost_makes_the_sum_unknown_and_no_call_costs_nothing_known() -> None:
    assert total_cost([charge("a/b", USAGE, EVERY_CLASS), charge("c/d", USAGE, None)]) is None
    assert total_cost([]) is None
    assert total_usage([]) is None
    assert price_versions([charge("c/d", USAGE, None)]) is None


def test_a_price_is_read_from_the_strings_that_terraform_writes() -> None:
    stored: dict[str, Any] = {
        "version": "v1",
        "input_per_mtok": "3",
        "output_per_mtok": "15",
        "tiers": [{"above_input_tokens": 200000, "input_per_mtok": "6", "output_per_mtok": "22.5"}],
        "batch": {"input_per_mtok": "1.5", "output_per_mtok": "7.5"},
    }
    price = msgspec.convert(stored, Price, strict=False)
    assert cost_micro_usd(Usage(input_tokens=200_001), price) == 200_001 * 6


# ---------------------------------------------------------------------------------------- the most it can be
def any_rate(dice: random.Random) -> Decimal | None:
    return dice.choice([None, Decimal(dice.randrange(0, 5_000)) / 100])


def any_rates(dice: random.Random) -> dict[str, Any]:
    special = ("cache_read_per_mtok", "cache_write_per_mtok", "cache_write_1h_per_mtok", "reasoning_per_mtok")
    return {
        "input_per_mtok": Decimal(dice.randrange(1, 5_000)) / 100,
        "output_per_mtok": Decimal(dice.randrange(0, 5_000)) / 100,
        **{name: any_rate(dice) for name in special},
    }


def any_price(dice: random.Random) -> Price:
    tiers = tuple(
        Tier(above_input_tokens=dice.randrange(1, 1_000), **any_rates(dice)) for _ in range(dice.randrange(3))
    )
    return Price(version="v1", per_request_usd=Decimal(dice.randrange(3)) / 1_000, tiers=tiers, **any_rates(dice))


def any_usage(dice: random.Random, *, input_tokens: int, output_tokens: int) -> Usage:
    read = dice.randrange(input_tokens + 1)
    written = dice.randrange(input_tokens + 1)
    return Usage(
        input_tokens=dice.randrange(input_tokens + 1),
        output_tokens=dice.randrange(output_tokens + 1),
        cache_read_tokens=read,
        cache_write_tokens=written,
        cache_write_1h_tokens=dice.randrange(written + 1),
        reasoning_tokens=dice.randrange(output_tokens + 1),
    )


def test_no_usage_within_the_bounds_costs_more_than_the_ceiling() -> None:
    dice = random.Random(7)
    for _ in range(5_000):
        price, reads, writes = any_price(dice), dice.randrange(1, 1_200), dice.randrange(1, 300)
        highest = ceiling(price, input_tokens=reads, writes=True)
        assert highest is not None
        actual = cost_micro_usd(any_usage(dice, input_tokens=reads, output_tokens=writes), price)
        assert actual is not None
        assert actual <= highest.cost(calls=1, input_tokens=reads, output_tokens=writes)


def test_no_line_of_a_batch_costs_more_than_its_ceiling() -> None:
    dice = random.Random(8)
    for _ in range(2_000):
        price, other = any_price(dice), any_price(dice)
        if dice.random() < 0.7:
            rates = {name: getattr(other, name) for name in Rates.__struct_fields__}
            price = msgspec.structs.replace(price, batch=Rates(**rates))
        reads, writes = dice.randrange(1, 1_200), dice.randrange(1, 300)
        highest = ceiling(price, input_tokens=reads, writes=True, batch=True)
        assert highest is not None
        actual = cost_micro_usd(any_usage(dice, input_tokens=reads, output_tokens=writes), price, batch=True)
        assert actual is not None
        assert actual <= highest.cost(calls=1, input_tokens=reads, output_tokens=writes)


def test_the_ceiling_of_a_line_looks_at_batch_rates_only_where_there_are_some() -> None:
    cheaper = msgspec.structs.replace(PRICE, batch=Rates(input_per_mtok=Decimal("0.01")))
    assert [
        found and found.per_input_token
        for found in (
            ceiling(cheaper, input_tokens=7, writes=False, batch=True),
            ceiling(cheaper, input_tokens=7, writes=False),
            ceiling(PRICE, input_tokens=7, writes=False, batch=True),
        )
    ] == [Decimal("0.01"), Decimal("0.035"), Decimal("0.035")]


def test_the_ceiling_is_the_cost_where_there_is_only_one_rate() -> None:
    highest = ceiling(PRICE, input_tokens=7, writes=True)
    assert highest is not None
    assert highest.cost(calls=1, input_tokens=7, output_tokens=3) == Decimal("0.665")


def test_a_tier_that_cannot_be_reached_does_not_matter() -> None:
    price = msgspec.structs.replace(
        PRICE, tiers=(Tier(above_input_tokens=100, input_per_mtok=Decimal(9), output_per_mtok=Decimal(9)),)
    )
    below, above = (ceiling(price, input_tokens=tokens, writes=True) for tokens in (100, 101))
    assert below is not None
    assert above is not None
    assert (below.per_input_token, above.per_input_token) == (Decimal("0.035"), Decimal(9))


@pytest.mark.parametrize(
    ("change", "input_tokens", "writes", "known"),
    [
        ({}, 5, True, True),
        ({"output_per_mtok": Decimal(-1)}, 5, True, False),
        ({"output_per_mtok": Decimal(-1)}, 5, False, True),
        ({"cache_write_per_mtok": Decimal("NaN")}, 5, False, False),
        ({"cache_write_per_mtok": Decimal("NaN")}, 0, False, True),
        ({"reasoning_per_mtok": Decimal(-1)}, 5, True, False),
        ({"per_request_usd": Decimal("Infinity")}, 5, True, False),
    ],
)
def test_there_is_no_ceiling_where_a_rate_that_may_be_needed_is_not_fixed(
    change: dict[str, Any], input_tokens: int, writes: bool, known: bool
) -> None:
    price = msgspec.structs.replace(PRICE, **change)
    assert (ceiling(price, input_tokens=input_tokens, writes=writes) is not None) is known


def test_without_a_price_there_is_no_ceiling() -> None:
    assert ceiling(None, input_tokens=0, writes=False) is None


def test_each_call_is_charged() -> None:
    price = msgspec.structs.replace(PRICE, per_request_usd=Decimal("0.5"))
    highest = ceiling(price, input_tokens=0, writes=False)
    assert highest is not None
    assert highest.cost(calls=3, input_tokens=0, output_tokens=0) == 1_500_000
