"""The ``x-sluice-`` headers of inference: what a request may ask of its routing, and how it was handled.

========================  ============================================================================================
x-sluice-target           who answered, or was asked last (also accepted: ask this target and no other)
x-sluice-attempts         calls of providers, failed ones included
x-sluice-fallbacks        targets that come before this one in the order chosen
x-sluice-cost-usd         an exact decimal; left out when the cost is unknown or there was none
x-sluice-overhead-ms      the time that was not spent on waiting for a provider
x-sluice-cache            ``bypass``: nothing is answered from a cache
x-sluice-hedged           ``true`` when a second target was asked while the first kept silent
========================  ============================================================================================

Accepted too: ``x-sluice-strategy`` (how to choose) and ``x-sluice-region`` (where the target has to be).
"""

from collections.abc import Mapping
from typing import Protocol

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
        "x-sluice-cache": "bypass",
        "x-sluice-hedged": "true" if report.hedged else None,
    }
    return {name: value for name, value in headers.items() if value is not None}
