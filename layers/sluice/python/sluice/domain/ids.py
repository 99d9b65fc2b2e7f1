"""Identifiers: a type prefix and 128 random bits, so that an id says what it names and cannot be guessed."""

import re
import secrets


def new_id(prefix: str) -> str:
    """``new_id("async")`` → ``async_`` and 32 hexadecimal digits."""
    return f"{prefix}_{secrets.token_hex(16)}"


def id_pattern(prefix: str) -> str:
    """The regular expression that exactly the ids of :func:`new_id` match."""
    return f"^{prefix}_[0-9a-f]{{32}}$"


def is_id(prefix: str, value: str) -> bool:
    """Whether ``value`` can be an id of this kind; what cannot need not be looked up."""
    return re.fullmatch(id_pattern(prefix), value) is not None
