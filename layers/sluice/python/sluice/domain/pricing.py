"""Prices and costs, exact: decimals in, decimals out, never a float.

A price is quoted in US dollars per million tokens, which is the same number as micro-dollars per token.
"""

from decimal import Decimal

import msgspec

from sluice.domain.inference import Usage


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """The price of one target. ``version`` says which price list a stored cost was computed with.

    Cache rates that are not given are billed as ordinary input, as providers without a cache price do.
    """

    version: str
    input_per_mtok: Decimal
    output_per_mtok: Decimal = Decimal(0)
    cache_read_per_mtok: Decimal | None = None
    cache_write_per_mtok: Decimal | None = None


def cost_micro_usd(usage: Usage, price: Price | None) -> Decimal | None:
    """The exact cost in micro-dollars, or ``None`` when the price is unknown (unknown is never zero)."""
    if price is None:
        return None
    plain_input = max(usage.input_tokens - usage.cache_read_tokens - usage.cache_write_tokens, 0)
    read_rate = price.input_per_mtok if price.cache_read_per_mtok is None else price.cache_read_per_mtok
    write_rate = price.input_per_mtok if price.cache_write_per_mtok is None else price.cache_write_per_mtok
    return (
        plain_input * price.input_per_mtok
        + usage.cache_read_tokens * read_rate
        + usage.cache_write_tokens * write_rate
        + usage.output_tokens * price.output_per_mtok
    )
