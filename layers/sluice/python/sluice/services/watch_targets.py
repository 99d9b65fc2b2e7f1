"""The health of targets as one container knows it: shared through the table, remembered for a few seconds.

What it costs
-------------
* One batch read per set of targets and ``cache_s``; none for the rest of the requests.
* No write for a request to a healthy target. A failure is one write; while a circuit has failures in its window, a
  container adds the successes that speak against them at most once per ``cache_s``.
* Latencies are only measured on routes that choose by them, and written at most once in ``HEALTH_FLUSH_S``.

When the table fails, every target counts as it was last known, and as healthy when it never was: requests are more
important than what is known of their targets. That is logged, and not tried again before ``cache_s`` is over.
"""

import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from sluice.domain.errors import ProviderError, SluiceError
from sluice.domain.ports import TargetStates
from sluice.domain.resilience import (
    CLEAN,
    WINDOW_S,
    Circuit,
    CircuitPolicy,
    CircuitState,
    Health,
    Sample,
    TargetState,
    Verdict,
    verdict_on,
)
from sluice.telemetry import logs, metrics

HEALTH_FLUSH_S: Final = 5.0
MOST_PENDING_SAMPLES: Final = 50
# Whoever loses so often meets a crowd that reports the same; the circuit is about to open without him.
SWAP_ATTEMPTS: Final = 5
# For a probe's answer to be written, after the attempt itself is over.
LEASE_MARGIN_S: Final = 2.0
_NOBODY_KNOWS: Final = TargetState()
_log = logs.get_logger()


class Permit(msgspec.Struct, frozen=True, kw_only=True):
    """Leave to ask a target once. ``probe`` is set when this is the one probe of a half-open circuit."""

    target: str
    probe: str | None = None


class _Known(msgspec.Struct, kw_only=True):
    """What is known of one target. ``read_at`` is on the monotonic clock, the others are epoch seconds."""

    state: TargetState = _NOBODY_KNOWS
    read_at: float | None = None
    successes: int = 0
    counting_since: float = 0.0
    counted_at: float = 0.0
    pending: list[Sample] = msgspec.field(default_factory=list)
    flushed_at: float = 0.0

    @property
    def health(self) -> Health:
        health = self.state.health
        for sample in self.pending:
            health = health.after(sample)
        return health


class WatchTargets:
    """Permits attempts and learns from how they end. Safe to use from several threads."""

    def __init__(
        self,
        states: TargetStates,
        policy: CircuitPolicy,
        *,
        cache_s: float,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
        new_probe: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> None:
        self._states = states
        self._policy = policy
        self._cache_s = cache_s
        self._now = now
        self._clock = clock
        self._new_probe = new_probe
        self._known: dict[str, _Known] = {}
        self._lock = threading.RLock()

    def look(self, names: Sequence[str]) -> None:
        """Make sure that what is known of all these targets is at most ``cache_s`` old."""
        with self._lock:
            if all(self._is_fresh(self._of(name)) for name in names):
                return
            # Taken before the answer is there, so that no second thread asks the same.
            for name in names:
                self._of(name).read_at = self._clock()
        try:
            found = self._states.read(names)
        except SluiceError as error:
            _log.error("target_states_not_read", **logs.describe(error))
            return
        with self._lock:
            for name in names:
                self._of(name).state = found.get(name, _NOBODY_KNOWS)

    def health(self, names: Sequence[str]) -> Mapping[str, Health]:
        """The health of these targets, this container's own latest measurements included."""
        with self._lock:
            return {name: self._of(name).health for name in names}

    def may_ask(self, name: str) -> bool:
        """Whether :meth:`permit` may be worth asking for."""
        circuit = self._circuit(name)
        return circuit.state is CircuitState.CLOSED or circuit.is_due(self._now())

    def opens_in_s(self, names: Sequence[str]) -> float:
        """Seconds until the first of these targets may be asked."""
        now = self._now()
        return min(self._circuit(name).opens_in_s(now) for name in names)

    def permit(self, name: str, *, lease_s: float) -> Permit | None:
        """Leave to ask the target once, or ``None``: its circuit is open. To be given back by :meth:`report`.

        A half-open circuit lets through one attempt at a time, whichever container makes it: a conditional write
        decides. Should that attempt never report, the next may be made ``lease_s`` later.
        """
        if self._circuit(name).state is CircuitState.CLOSED:
            return Permit(target=name)
        if not self._circuit(name).is_due(self._now()):
            return None
        probe = self._new_probe()
        policy = msgspec.structs.replace(self._policy, probe_lease_s=lease_s + LEASE_MARGIN_S)
        try:
            taken = self._swap_once(name, lambda circuit: circuit.probed_by(probe, now=self._now(), policy=policy))
        except SluiceError as error:
            _log.error("circuit_not_written", target=name, **logs.describe(error))
            return Permit(target=name)
        if taken:
            _log.info("circuit_probed", target=name)
            return Permit(target=name, probe=probe)
        return Permit(target=name) if self._circuit(name).state is CircuitState.CLOSED else None

    def report(self, permit: Permit, verdict: Verdict, *, operation: str, retry_after_s: float | None = None) -> None:
        """Say how the attempt ended. Never fails."""
        try:
            self._report(permit, verdict, operation, retry_after_s)
        except SluiceError as error:
            _log.error("circuit_not_written", target=permit.target, **logs.describe(error))

    def lost(self, permit: Permit, error: BaseException, *, operation: str) -> None:
        """Say that the attempt ended with ``error``. Never fails."""
        retry_after_s = error.retry_after_s if isinstance(error, ProviderError) else None
        self.report(permit, verdict_on(error), operation=operation, retry_after_s=retry_after_s)

    def measured(self, name: str, sample: Sample) -> None:
        """Take in a measurement of a route that chooses by them. Never fails."""
        with self._lock:
            known = self._of(name)
            known.pending = [*known.pending, sample][-MOST_PENDING_SAMPLES:]
            if self._now() - known.flushed_at < HEALTH_FLUSH_S:
                return
            known.flushed_at = self._now()
        try:
            self._flush(name)
        except SluiceError as error:
            _log.error("health_not_written", target=name, **logs.describe(error))

    def _report(self, permit: Permit, verdict: Verdict, operation: str, retry_after_s: float | None) -> None:
        name, now = permit.target, self._now()
        if permit.probe is not None:
            probe = permit.probe
            self._swap(
                name,
                lambda circuit: circuit.settled_by(
                    probe, verdict, now=now, policy=self._policy, retry_after_s=retry_after_s
                ),
                operation,
            )
        elif verdict is Verdict.FAILURE:
            successes = self._take_successes(name)
            self._swap(
                name,
                lambda circuit: circuit.failing(
                    now=now, policy=self._policy, successes=successes, retry_after_s=retry_after_s
                ),
                operation,
            )
        elif verdict is Verdict.SUCCESS and self._count_success(name):
            successes = self._take_successes(name)
            self._swap(name, lambda circuit: circuit.succeeding(now=now, successes=successes), operation)

    def _count_success(self, name: str) -> bool:
        """Whether it is time to tell the others of the successes."""
        now = self._now()
        with self._lock:
            known = self._of(name)
            if now - known.counting_since >= WINDOW_S:
                known.successes, known.counting_since = 0, now
            known.successes += 1
            if not known.state.circuit.is_troubled(now) or now - known.counted_at < self._cache_s:
                return False
            known.counted_at = now
            return True

    def _take_successes(self, name: str) -> int:
        now = self._now()
        with self._lock:
            known = self._of(name)
            successes = known.successes if now - known.counting_since < WINDOW_S else 0
            known.successes = 0
        return successes

    def _swap(self, name: str, change: Callable[[Circuit], Circuit | None], operation: str) -> None:
        for _ in range(SWAP_ATTEMPTS):
            before = self._circuit(name)
            if change(before) is None:
                return
            if self._swap_once(name, change):
                _tell_operators(name, before, self._circuit(name), operation, self._now())
                return

    def _swap_once(self, name: str, change: Callable[[Circuit], Circuit | None]) -> bool:
        """One compare-and-swap; whether it was won. Either way what is known afterwards is what is stored."""
        with self._lock:
            state = self._of(name).state
        wanted = change(state.circuit)
        if wanted is None:
            return False
        won, stored = self._states.swap_circuit(name, wanted, version=state.circuit_version)
        with self._lock:
            known = self._of(name)
            known.state = msgspec.structs.replace(
                known.state, circuit=stored.circuit, circuit_version=stored.circuit_version
            )
        return won

    def _flush(self, name: str) -> None:
        for _ in range(2):
            with self._lock:
                known = self._of(name)
                state, pending, health = known.state, tuple(known.pending), known.health
            won, stored = self._states.swap_health(name, health, version=state.health_version)
            with self._lock:
                known.state = msgspec.structs.replace(
                    known.state, health=stored.health, health_version=stored.health_version
                )
                if won:
                    known.pending = [sample for sample in known.pending if sample not in pending]
                    return

    def _circuit(self, name: str) -> Circuit:
        with self._lock:
            return self._of(name).state.circuit if name in self._known else CLEAN

    def _is_fresh(self, known: _Known) -> bool:
        return known.read_at is not None and self._clock() - known.read_at < self._cache_s

    def _of(self, name: str) -> _Known:
        return self._known.setdefault(name, _Known())


def _tell_operators(name: str, before: Circuit, after: Circuit, operation: str, now: float) -> None:
    opened = after.state is CircuitState.OPEN
    if before.state is after.state or not (opened or after.state is CircuitState.CLOSED):
        return
    write = _log.error if opened else _log.info
    write(
        "circuit_opened" if opened else "circuit_closed",
        target=name,
        circuit_before=before.state.value,
        failures_in_a_row=after.run if opened else None,
        open_s=round(after.opens_in_s(now), 3) if opened else None,
    )
    metrics.emit(
        {"Operation": operation, "Target": name},
        CircuitOpened=1 if opened else None,
        CircuitClosed=None if opened else 1,
    )
