"""How targets are doing, as administrators see it. Times are epoch seconds."""

from collections.abc import Sequence
from typing import Literal

import msgspec

from sluice.domain.resilience import WINDOW_S, CircuitState, TargetState
from sluice.domain.routing import Target


class CircuitObject(msgspec.Struct, frozen=True, kw_only=True):
    """One target. ``closed`` is asked as usual, ``open`` is not, ``half_open`` is being probed by one request.

    ``opened_at`` is when the trouble began, ``probe_in_seconds`` how long it will be left alone. ``failed`` and
    ``succeeded`` count the attempts of the window under way; successes only where there is a failure to weigh them
    against. ``ms_per_token`` is measured on routes that choose by latency, and ``null`` elsewhere.
    """

    object: Literal["circuit"] = "circuit"
    target: str
    provider: str
    model: str
    state: CircuitState
    opened_at: int | None
    probe_in_seconds: float
    failures_in_a_row: int
    failed: int
    succeeded: int
    ms_per_token: float | None
    measured_at: int | None

    @classmethod
    def of(cls, target: Target, state: TargetState, *, now: float) -> "CircuitObject":
        """``target``, of which ``state`` is stored, at ``now`` (epoch seconds)."""
        circuit, health = state.circuit, state.health
        in_window = now - circuit.window_at < WINDOW_S
        return cls(
            target=target.name,
            provider=target.provider,
            model=target.model,
            state=circuit.state,
            opened_at=None if circuit.opened_at is None else int(circuit.opened_at),
            probe_in_seconds=round(circuit.opens_in_s(now), 1),
            failures_in_a_row=circuit.run,
            failed=circuit.failed if in_window else 0,
            succeeded=circuit.succeeded if in_window else 0,
            ms_per_token=round(health.ms_per_token, 3) if health.at else None,
            measured_at=int(health.at) if health.at else None,
        )


class CircuitList(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to ``GET /admin/circuits``."""

    object: Literal["list"] = "list"
    data: Sequence[CircuitObject]
