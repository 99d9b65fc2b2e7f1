"""How the targets are doing, for administrators: the circuit breakers and speeds that all containers share."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from sluice.domain.ports import RouteSource, TargetStates
from sluice.domain.resilience import CircuitState, TargetState
from sluice.domain.routing import Target

_NOTHING = TargetState()


class TargetStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One target as it stands at ``at`` (epoch seconds)."""

    target: Target
    state: TargetState
    at: float


@dataclass(frozen=True)
class ListCircuits:
    """Reads what is stored of every target; of one that never failed nothing is."""

    routes: RouteSource
    states: TargetStates
    now: Callable[[], float] = time.time

    def all(self) -> tuple[TargetStatus, ...]:
        """Every target, those that are not asked at the moment first, then by name.

        :raises StateError: the table cannot be read.
        :raises ConfigurationError: the routes are malformed.
        """
        targets = self.routes.load().targets
        states, at = self.states.read(list(targets)), self.now()
        found = [TargetStatus(target=targets[name], state=states.get(name, _NOTHING), at=at) for name in targets]
        return tuple(sorted(found, key=_worst_first))


def _worst_first(status: TargetStatus) -> tuple[bool, str]:
    return status.state.circuit.state is CircuitState.CLOSED, status.target.name
