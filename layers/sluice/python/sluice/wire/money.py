"""Money over HTTP: US dollars as decimal strings, exact to the last digit."""

import re
from decimal import Context, Decimal
from typing import Final

# An amount as people write it: no sign, no exponent, no thousands separators. Twelve digits after the point are
# millionths of a micro-dollar, so every price there is can be told in it.
USD_PATTERN: Final = r"^[0-9]{1,12}(\.[0-9]{1,12})?$"

# The default would round what has more than 28 digits.
_EXACT = Context(prec=60)


def usd(micro_usd: Decimal | None) -> str | None:
    """Micro-dollars as dollars, without an exponent or trailing zeros; ``None`` stays unknown."""
    return None if micro_usd is None else f"{_EXACT.normalize(_EXACT.scaleb(micro_usd, -6)):f}"


def micro_usd(text: str) -> Decimal:
    """Dollars, as :data:`USD_PATTERN` has them, in micro-dollars.

    :raises ValueError: it is no such amount; the message does not quote it.
    """
    if not re.fullmatch(USD_PATTERN, text):
        raise ValueError("an amount of US dollars is a decimal string such as '12.50'")
    return _EXACT.scaleb(Decimal(text), 6)
