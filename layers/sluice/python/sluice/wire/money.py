"""Money over HTTP: US dollars as decimal strings, exact to the last digit."""

from decimal import Decimal


def usd(micro_usd: Decimal | None) -> str | None:
    """Micro-dollars as dollars, without an exponent or trailing zeros; ``None`` stays unknown."""
    return None if micro_usd is None else f"{micro_usd.scaleb(-6).normalize():f}"
