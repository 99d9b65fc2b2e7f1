"""Answers that may be given again: to the same key, for the same question, by the model that would answer it now.

Whether and for how long is the alias's to say, or the request's, by two headers: ``x-sluice-cache`` (``on``; ``off``;
``refresh`` to have it answered anew and stored) and ``x-sluice-cache-ttl``. The latter only says for how long; it does
not turn anything on.
"""

import hashlib
import re
from typing import Final

import msgspec

from sluice.domain.errors import InvalidRequestError
from sluice.domain.inference import ChatResult, FinishReason, Operation
from sluice.domain.routing import Preferences, Target

CACHE_HEADER: Final = "x-sluice-cache"
CACHE_TTL_HEADER: Final = "x-sluice-cache-ttl"
DEFAULT_TTL_S: Final = 3600
LONGEST_TTL_S: Final = 86_400

_CHOICES: Final = ("on", "refresh", "off")
_SECONDS: Final = re.compile(r"[0-9]{1,5}")
# Who asks under which label makes no difference to an answer, nor does the name by which the target was found.
_WITHOUT_EFFECT: Final = frozenset({"metadata", "model", "user"})
# A route may come to mean another model by the same name, or to ask it in another way.
_OF_A_TARGET: Final = ("name", "provider", "model", "operations", "base_url", "max_output_tokens", "guardrail")


class Caching(msgspec.Struct, frozen=True, kw_only=True):
    """What a request may do with the cache. ``read`` of ``False`` asks anew and stores the answer.

    ``ttl_s`` is for how many seconds its answer is stored, and how old one may be that it is given.
    """

    ttl_s: int
    read: bool = True


class CachedAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A stored answer: ``result`` is its JSON, ``target`` the name of who gave it. Times are epoch seconds."""

    result: bytes
    target: str
    stored_at: int
    expires_at: int


def caching_of(preferences: Preferences, route_ttl_s: int | None) -> Caching | None:
    """What a request may do with the cache, ``None`` for nothing. ``route_ttl_s`` is what its alias says, in seconds.

    :raises InvalidRequestError: one of the two headers has no meaning.
    """
    asked_ttl_s = None if preferences.cache_ttl is None else _seconds(preferences.cache_ttl)
    asked = preferences.cache
    if asked is None:
        asked = "off" if route_ttl_s is None else "on"
    if asked not in _CHOICES:
        raise InvalidRequestError(
            f"{CACHE_HEADER}: must be one of {', '.join(_CHOICES)}.", code="invalid_cache", param=CACHE_HEADER
        )
    if asked == "off":
        return None
    return Caching(ttl_s=asked_ttl_s or route_ttl_s or DEFAULT_TTL_S, read=asked == "on")


def _seconds(text: str) -> int:
    seconds = int(text) if _SECONDS.fullmatch(text) else 0
    if not 1 <= seconds <= LONGEST_TTL_S:
        raise InvalidRequestError(
            f"{CACHE_TTL_HEADER}: must be a whole number of seconds from 1 to {LONGEST_TTL_S}.",
            code="invalid_cache_ttl",
            param=CACHE_TTL_HEADER,
        )
    return seconds


def fingerprint_of(operation: Operation, request: msgspec.Struct, target: Target) -> str:
    """What two requests have in common that get the same answer: SHA-256 in hexadecimal.

    It is of everything that may affect the answer, in the order in which it came: the operation, the target that
    answers and how it is asked, and every field of the request but its labels.
    """
    asked = {name: getattr(request, name) for name in request.__struct_fields__ if name not in _WITHOUT_EFFECT}
    by = {name: getattr(target, name) for name in _OF_A_TARGET}
    return hashlib.sha256(msgspec.json.encode((operation, by, asked))).hexdigest()


def worth_keeping(result: object) -> bool:
    """Whether an answer is whole. What a filter cut off may well be let through the next time."""
    return not isinstance(result, ChatResult) or result.finish_reason is not FinishReason.CONTENT_FILTER
