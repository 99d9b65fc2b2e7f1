"""The shared state of targets in memory, with a count of round trips."""

import threading
from collections.abc import Mapping, Sequence

import msgspec

from sluice.domain.errors import SluiceError
from sluice.domain.resilience import Circuit, CircuitPolicy, Health, TargetState
from sluice.services.watch_targets import WatchTargets


def healthy() -> WatchTargets:
    """A watch that knows nothing bad of any target, for tests of something else."""
    return WatchTargets(FakeTargetStates(), CircuitPolicy(failures=1_000, minimum_volume=1_000), cache_s=3.0)


class FakeTargetStates:
    """Implements :class:`~sluice.domain.ports.TargetStates`. ``failing`` is raised by every call while it is set.

    ``reads`` and ``writes`` count the calls, those that lost their swap included.
    """

    def __init__(self) -> None:
        self.stored: dict[str, TargetState] = {}
        self.failing: SluiceError | None = None
        self.reads = 0
        self.writes = 0
        self._versions = 0
        self._lock = threading.Lock()

    def read(self, names: Sequence[str]) -> Mapping[str, TargetState]:
        self.reads += 1
        self._fail()
        with self._lock:
            return {name: self.stored[name] for name in names if name in self.stored}

    def swap_circuit(self, name: str, circuit: Circuit, *, version: str | None) -> tuple[bool, TargetState]:
        self._fail()
        with self._lock:
            self.writes += 1
            state = self.stored.get(name, TargetState())
            if state.circuit_version != version:
                return False, TargetState(circuit=state.circuit, circuit_version=state.circuit_version)
            self.stored[name] = msgspec.structs.replace(state, circuit=circuit, circuit_version=self._version())
            return True, TargetState(circuit=circuit, circuit_version=self.stored[name].circuit_version)

    def swap_health(self, name: str, health: Health, *, version: str | None) -> tuple[bool, TargetState]:
        self._fail()
        with self._lock:
            self.writes += 1
            state = self.stored.get(name, TargetState())
            if state.health_version != version:
                return False, TargetState(health=state.health, health_version=state.health_version)
            self.stored[name] = msgspec.structs.replace(state, health=health, health_version=self._version())
            return True, TargetState(health=health, health_version=self.stored[name].health_version)

    def _version(self) -> str:
        self._versions += 1
        return f"version-{self._versions}"

    def _fail(self) -> None:
        if self.failing is not None:
            raise self.failing
