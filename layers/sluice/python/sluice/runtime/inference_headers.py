"""The headers of inference: what a request may ask of its routing, how it was handled, and how its key stands.

==============================  ======================================================================================
x-sluice-target                 who answered, or was asked last (also accepted: ask this target and no other)
x-sluice-attempts               calls of providers, failed ones included
x-sluice-fallbacks              targets that come before this one in the order chosen
x-sluice-cost-usd               an exact decimal; left out when the cost is unknown or there was none
x-sluice-overhead-ms            the time that was not spent on waiting for a provider
x-sluice-cache                  ``hit``, ``miss`` or ``refresh``; ``bypass``: the cache was not asked
age                             seconds since the answer was given, when it comes from the cache
x-sluice-hedged                 ``true`` when a second target was asked while the first kept silent
x-sluice-max-output-tokens      the length that the key's limits left room for, where that is less than there would be
x-ratelimit-limit-requests      the key's requests a minute, if it has such a limit; so with ``-tokens``
x-ratelimit-remaining-requests  how many more this minute holds
x-ratelimit-reset-requests      when the next minute begins, as ``12s`` or ``250ms``
x-sluice-budget-remaining-usd   what is left of the key's budget; of the smaller, if it has two
==============================  ======================================================================================

Accepted too: ``x-sluice-strategy`` (how to choose), ``x-sluice-region`` (where the target has to be),
``x-sluice-cache`` (``on``, ``refresh`` or ``off``) and ``x-sluice-cache-ttl`` (seconds).
"""

import math
from collections.abc import Mapping
from typing import Protocol

from sluice.domain.caching import CACHE_HEADER, CACHE_TTL_HEADER
from sluice.domain.ledger import Standing
from sluice.domain.routing import REGION_HEADER, STRATEGY_HEADER, TARGET_HEADER, Preferences, Report
from sluice.wire.money import usd


class Reported(Protocol):
    """Anything that says how it came about, such as an :class:`~sluice.services.infer.Answer`."""

    @property
    def report(self) -> Report:
        """How it came about."""
        ...


def preferences(headers: Mapping[str, str]) -> Preferences:
    """What the request asks for; ``headers`` have lower-case names. An empty value asks for nothing."""
    return Preferences(
        target=headers.get(TARGET_HEADER) or None,
        strategy=headers.get(STRATEGY_HEADER) or None,
        region=headers.get(REGION_HEADER) or None,
        cache=headers.get(CACHE_HEADER) or None,
        cache_ttl=headers.get(CACHE_TTL_HEADER) or None,
    )


def of(handled: Report | Reported) -> dict[str, str]:
    """The headers of a response, successful or not."""
    report = handled if isinstance(handled, Report) else handled.report
    headers = {
        TARGET_HEADER: report.target,
        "x-sluice-attempts": str(report.attempts),
        "x-sluice-fallbacks": str(report.fallbacks),
        "x-sluice-cost-usd": usd(report.cost_micro_usd),
        "x-sluice-overhead-ms": f"{report.overhead_ms:.1f}",
        CACHE_HEADER: report.cache,
        "age": _number(report.age_s),
        "x-sluice-hedged": "true" if report.hedged else None,
        "x-sluice-max-output-tokens": _number(report.max_output_tokens),
    }
    told = {name: value for name, value in headers.items() if value is not None}
    return told if report.standing is None else told | of_standing(report.standing)


def of_standing(standing: Standing) -> dict[str, str]:
    """What a key has left; nothing of what it has no limit to."""
    limits, reset = standing.limits, duration(standing.reset_s)
    headers: dict[str, str] = {}
    for name, limit, remaining in (
        ("requests", limits.rpm, standing.remaining_requests),
        ("tokens", limits.tpm, standing.remaining_tokens),
    ):
        if limit is not None:
            headers |= {
                f"x-ratelimit-limit-{name}": str(limit),
                f"x-ratelimit-remaining-{name}": str(remaining or 0),
                f"x-ratelimit-reset-{name}": reset,
            }
    left = usd(standing.remaining_budget_micro_usd)
    return headers if left is None else headers | {"x-sluice-budget-remaining-usd": left}


def duration(seconds: float) -> str:
    """A time as OpenAI writes it, never less than it is: ``250ms``, ``12s``, ``1m0s``."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    minutes, rest = divmod(math.ceil(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def _number(value: int | None) -> str | None:
    return None if value is None else str(value)
