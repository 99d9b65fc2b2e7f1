"""Keeps batches to the pace that providers take, and out of the way of requests that somebody waits for.

What is shared through the table is told in :mod:`sluice.domain.pace`: slots for chunks, and pauses. What it costs: two
writes per chunk and target, as many per chunk and provider, and one more per wave of throttles. Within a worker a pause
holds at once.

When the table does not answer, no chunk begins; one that is at work goes on by what this worker knows.
"""

import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from sluice.domain.errors import ProviderOverloadedError, ProviderThrottledError, SluiceError, StateError
from sluice.domain.pace import LONGEST_PAUSE_S, Pace, PaceState
from sluice.domain.ports import PaceStore, TargetStates
from sluice.domain.resilience import CircuitPolicy, Verdict
from sluice.services.watch_targets import Permit, WatchTargets
from sluice.telemetry import logs

# The chunks of a batch begin all at once, so whoever loses waits for longer each time, up to 16 times as long.
SWAP_ATTEMPTS: Final = 12
SWAP_WAIT_S: Final = 0.05
MOST_SWAP_DOUBLINGS: Final = 4
# Where the provider names no time: doubled with every wave of throttles.
FIRST_PAUSE_S: Final = 1.0
LONGEST_UNNAMED_PAUSE_S: Final = 60.0
# How long a chunk for which there is no slot stays away, on average.
NO_SLOT_S: Final = 5.0
# A pause that ends this little later than what is known is not worth a write.
WORTH_TELLING_S: Final = 0.5
_log = logs.get_logger()


class _ContendedError(StateError):
    """Others were faster each time."""


class _Local(msgspec.Struct):
    """What this worker knows of one target. ``wave_at`` and ``paused_until`` are epoch seconds."""

    state: PaceState = PaceState()
    paused_until: float = 0.0
    waves: int = 0
    wave_at: float = 0.0


class PaceTargets:
    """The pace of every target, and the slots of every provider. Safe to use from several threads.

    ``most`` is how many chunks may be at work at one target, and how many at all the targets of one provider. Only a
    target is ever paused, or its limit halved: most providers throttle by the model.
    """

    def __init__(
        self,
        store: PaceStore,
        *,
        most: int,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._store = store
        self._most = most
        self._now = now
        self._sleep = sleep
        self._jitter = jitter
        self._known: dict[str, _Local] = {}
        self._lock = threading.RLock()

    def enter(self, names: Sequence[str], holder: str, *, until: int, providers: Sequence[str] = ()) -> float | None:
        """Take a slot at each of these targets and providers, or none: then the seconds until it is worth asking again.

        :raises StateError: nobody can tell whether there is room.
        """
        # All take them in the same order, and those that more chunks want last: so they are kept for nothing least.
        wanted = [*sorted(names), *sorted(providers)]
        self.look(wanted)
        taken: list[str] = []
        wait_s = self._all_paused_s(names)
        if wait_s > 0:
            return wait_s
        try:
            for name in wanted:
                if not self._take(name, holder, until):
                    break
                taken.append(name)
            else:
                return None
        except SluiceError:
            self.leave(taken, holder, clean=False)
            raise
        self.leave(taken, holder, clean=False)
        return self._jitter(NO_SLOT_S / 2, NO_SLOT_S * 1.5)

    def leave(self, names: Sequence[str], holder: str, *, clean: bool) -> None:
        """Give slots of either kind back that this holder still has. ``clean``: no target throttled.

        Never fails: a slot lapses by itself.
        """
        for name in names:
            try:
                self._swap(name, lambda pace: pace.left_by(holder, clean=clean, now=self._now(), most=self._most))
            except SluiceError as error:
                _log.warning("slot_not_left", target=name, **logs.describe(error))

    def look(self, names: Sequence[str]) -> None:
        """Learn how these targets stand. :raises StateError: the table does not answer."""
        found = self._store.read(names) if names else {}
        with self._lock:
            for name in names:
                self._of(name).state = found.get(name, PaceState())

    def paused_s(self, name: str) -> float:
        """Seconds until a target may be asked, as far as this worker knows; 0 when that is now."""
        now = self._now()
        with self._lock:
            known = self._known.get(name)
            return 0.0 if known is None else max(0.0, known.paused_until - now, known.state.pace.paused_s(now))

    def throttled(self, name: str, retry_after_s: float | None) -> None:
        """Leave a target alone for as long as it asks for. Never fails."""
        now = self._now()
        with self._lock:
            known = self._of(name)
            if now >= known.paused_until:
                known.waves, known.wave_at = known.waves + 1, now
            pause_s = self._pause_s(known, retry_after_s)
            until = now + min(pause_s, LONGEST_PAUSE_S)
            told = max(known.paused_until, known.state.pace.paused_until)
            known.paused_until = max(known.paused_until, until)
        if until < told + WORTH_TELLING_S:
            return
        try:
            self._swap(name, lambda pace: pace.throttled(until=until, now=now, most=self._most))
        except SluiceError as error:
            _log.warning("pause_not_told", target=name, **logs.describe(error))

    def answered(self, name: str) -> None:
        """The target takes what it is sent: the next pause that it does not name is a short one again."""
        with self._lock:
            known = self._known.get(name)
            if known is not None and known.waves:
                known.waves = 0

    def _pause_s(self, known: _Local, retry_after_s: float | None) -> float:
        if retry_after_s is not None:
            # All that wait for the same moment would come back in it, so they spread a little.
            return retry_after_s + self._jitter(0, 0.1 * retry_after_s)
        ceiling = min(FIRST_PAUSE_S * 2 ** min(known.waves - 1, 10), LONGEST_UNNAMED_PAUSE_S)
        return self._jitter(ceiling / 2, ceiling)

    def _all_paused_s(self, names: Sequence[str]) -> float:
        """Seconds until the first of the targets may be asked: where one may, there is something to do."""
        return min((self.paused_s(name) for name in names), default=0.0)

    def _take(self, name: str, holder: str, until: int) -> bool:
        try:
            return self._swap(name, lambda pace: pace.taken_by(holder, until=until, now=self._now(), most=self._most))
        except _ContendedError:
            # So many want a slot that there is hardly one left; to wait for one is no failure.
            return False

    def _swap(self, name: str, change: Callable[[Pace], Pace | None]) -> bool:
        """Change a record; whether the rules allowed it.

        :raises StateError: nobody can tell, or others were faster each time.
        """
        for attempt in range(SWAP_ATTEMPTS):
            with self._lock:
                state = self._of(name).state
            wanted = change(state.pace)
            if wanted is None and state.version is None:
                return False
            if wanted is None:
                # What is known may be old: only a fresh look can say no.
                stored = self._store.read([name]).get(name, PaceState())
                won = False
            else:
                won, stored = self._store.swap(name, wanted, version=state.version)
            with self._lock:
                self._of(name).state = stored
            if won:
                return True
            if wanted is None and change(stored.pace) is None:
                return False
            self._sleep(self._jitter(0, SWAP_WAIT_S * 2 ** min(attempt, MOST_SWAP_DOUBLINGS)))
        raise _ContendedError("Too many workers change the same target's pace. Try again.", code="pace_contended")

    def _of(self, name: str) -> _Local:
        return self._known.setdefault(name, _Local())


class PatientWatch(WatchTargets):
    """The health of targets, as the work of batches goes by it and adds to it.

    A throttle is no failure of the target's: batches make it, and they wait. It pauses the target for batches, and
    says nothing to the circuit, which requests that somebody waits for go by.
    """

    def __init__(
        self,
        states: TargetStates,
        policy: CircuitPolicy,
        *,
        cache_s: float,
        pace: PaceTargets,
        now: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(states, policy, cache_s=cache_s, now=now)
        self._pace = pace

    def may_ask(self, name: str) -> bool:
        return self._pace.paused_s(name) <= 0 and super().may_ask(name)

    def opens_in_s(self, names: Sequence[str]) -> float:
        return min(max(self._pace.paused_s(name), super(PatientWatch, self).opens_in_s([name])) for name in names)

    def report(self, permit: Permit, verdict: Verdict, *, operation: str, retry_after_s: float | None = None) -> None:
        if verdict is Verdict.SUCCESS:
            self._pace.answered(permit.target)
        super().report(permit, verdict, operation=operation, retry_after_s=retry_after_s)

    def lost(self, permit: Permit, error: BaseException, *, operation: str) -> None:
        if isinstance(error, ProviderThrottledError | ProviderOverloadedError):
            self._pace.throttled(permit.target, error.retry_after_s)
        if isinstance(error, ProviderThrottledError):
            self.report(permit, Verdict.NOTHING, operation=operation)
            return
        super().lost(permit, error, operation=operation)
