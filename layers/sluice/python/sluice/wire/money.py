"""Money over HTTP: US dollars as decimal strings, exact to the last digit."""

from decimal import Context, Decimal

# The default would round what has more than 28 digits.
_EXACT = Context(prec=60)


def usd(micro_usd: Decimal | None) -> str | None:
    """Micro-dollars as dollars, without an exponent or trailing zeros; ``None`` stays unknown."""
    return None if micro_usd is None else f"{_EXACT.normalize(_EXACT.scaleb(micro_usd, -6)):f}"
