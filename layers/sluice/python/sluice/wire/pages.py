"""Lists as OpenAI has them: ``limit``, ``after`` and ``order`` in the query, ``has_more`` in the answer."""

from collections.abc import Mapping
from typing import Final

from sluice.domain.errors import InvalidRequestError

DEFAULT_PAGE: Final = 20
LONGEST_PAGE: Final = 100


def page_limit(query: Mapping[str, str], *, default: int = DEFAULT_PAGE, most: int = LONGEST_PAGE) -> int:
    """How many entries a page may have, by ``limit``.

    :raises InvalidRequestError: it is no number, or out of range.
    """
    text = query.get("limit")
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > len(str(most)) or not 1 <= int(text) <= most:
        raise InvalidRequestError(f"'limit' must be a number from 1 to {most}.", code="invalid_value", param="limit")
    return int(text)


def newest_first(query: Mapping[str, str]) -> bool:
    """Whether the newest entries come first, by ``order``. :raises InvalidRequestError: it is neither way."""
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise InvalidRequestError("'order' must be 'asc' or 'desc'.", code="invalid_value", param="order")
    return order == "desc"
