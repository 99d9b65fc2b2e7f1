from decimal import Decimal

from sluice.domain.inference import Usage
from sluice.domain.pricing import Price, cost_micro_usd

PRICE = Price(version="v1", input_per_mtok=Decimal("0.035"), output_per_mtok=Decimal("0.14"))


def test_a_cost_is_exact_to_the_last_digit() -> None:
    assert cost_micro_usd(Usage(input_tokens=7, output_tokens=3), PRICE) == Decimal("0.665")


def test_an_unknown_price_makes_an_unknown_cost_not_a_free_one() -> None:
    assert cost_micro_usd(Usage(input_tokens=7), None) is None


def test_cached_tokens_are_part_of_the_input_and_have_their_own_rates() -> None:
    price = Price(
        version="v1",
        input_per_mtok=Decimal(3),
        output_per_mtok=Decimal(15),
        cache_read_per_mtok=Decimal("0.3"),
        cache_write_per_mtok=Decimal("3.75"),
    )
    usage = Usage(input_tokens=100, output_tokens=10, cache_read_tokens=60, cache_write_tokens=20)
    assert cost_micro_usd(usage, price) == 20 * 3 + 60 * Decimal("0.3") + 20 * Decimal("3.75") + 10 * 15


def test_without_cache_rates_cached_tokens_cost_as_much_as_others() -> None:
    usage = Usage(input_tokens=100, cache_read_tokens=60)
    assert cost_micro_usd(usage, PRICE) == 100 * Decimal("0.035")
