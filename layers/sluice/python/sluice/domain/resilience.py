"""What is known of a target's health: its circuit breaker and its speed. Pure; who stores and shares it is elsewhere.

The circuit
-----------
::

    closed ── failures in a row, or too large a share of a window ──► open ── its time is up ──► half-open
       ▲                                                                ▲                            │
       └─────────────────────── the one probe succeeds ─────────────────┼──── the one probe fails ───┘

A record only changes by compare-and-swap of the whole of it, so every rule here is a plain function from one record to
the next. ``None`` instead of a new record means that there is nothing to write: a success of a healthy target does not.
"""

import math
from enum import StrEnum
from typing import Final

import msgspec

from sluice.domain import errors

# A provider that asks for more has made a mistake, or has no quota left until somebody buys some.
LONGEST_OPEN_S: Final = 600.0
WINDOW_S: Final = 30.0
# How long a peak is remembered, and a mean of answers.
LATENCY_DECAY_S: Final = 60.0
MEAN_SHARE: Final = 0.2


class Verdict(StrEnum):
    """What the end of an attempt says about the health of its target."""

    SUCCESS = "success"
    FAILURE = "failure"
    NOTHING = "nothing"


# The first class that an error is an instance of decides. What is not listed says nothing about the provider.
_VERDICTS: Final[tuple[tuple[type[errors.SluiceError], Verdict], ...]] = (
    # It answered, and in order: the request was at fault, or what the model wrote.
    (errors.ProviderRejectedError, Verdict.SUCCESS),
    (errors.InvalidModelOutputError, Verdict.SUCCESS),
    # It was at work; how long an answer gets, and how much time there is for it, is not its doing.
    (errors.AnswerUnfinishedError, Verdict.NOTHING),
    (errors.ProviderThrottledError, Verdict.FAILURE),
    (errors.ProviderOverloadedError, Verdict.FAILURE),
    (errors.ProviderTimeoutError, Verdict.FAILURE),
    (errors.ProviderUnavailableError, Verdict.FAILURE),
    (errors.ProviderProtocolError, Verdict.FAILURE),
    (errors.ProviderAuthError, Verdict.FAILURE),
)


def verdict_on(error: BaseException) -> Verdict:
    """What an attempt that ended with ``error`` says of its target: the one table of which errors count."""
    return next((verdict for kind, verdict in _VERDICTS if isinstance(error, kind)), Verdict.NOTHING)


class CircuitPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """When a circuit opens and for how long. Times are seconds.

    ``failures`` in a row open it; so does a share of ``ratio`` of at least ``minimum_volume`` attempts of one window.
    ``probe_lease_s`` is how long the one probe may take before it is given up for dead.
    """

    failures: int = 5
    ratio: float = 0.5
    minimum_volume: int = 10
    open_s: float = 30.0
    probe_lease_s: float = 30.0


class CircuitState(StrEnum):
    """closed: asked as usual. open: not asked. half_open: one probe is under way."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Circuit(msgspec.Struct, frozen=True, kw_only=True):
    """One target's circuit. Times are epoch seconds.

    ``run`` counts the failures in a row, ``failed`` and ``succeeded`` the attempts of the window that began at
    ``window_at``. ``until`` is when an open circuit may be probed, or a probe's lease ends. ``probe`` names its holder.
    """

    state: CircuitState = CircuitState.CLOSED
    run: int = 0
    failed: int = 0
    succeeded: int = 0
    window_at: float = 0.0
    opened_at: float | None = None
    until: float = 0.0
    probe: str | None = None

    @property
    def is_clean(self) -> bool:
        """Whether nothing speaks against the target."""
        return self.state is CircuitState.CLOSED and self.run == 0 and self.failed == 0

    def is_troubled(self, now: float) -> bool:
        """Whether successes are worth counting: a circuit that is closed but had a failure in this window."""
        return self.state is CircuitState.CLOSED and (self.run > 0 or (self.failed > 0 and self._is_current(now)))

    def opens_in_s(self, now: float) -> float:
        """Seconds until somebody may ask the target, 0 when that is now."""
        return 0.0 if self.state is CircuitState.CLOSED else max(0.0, self.until - now)

    def is_due(self, now: float) -> bool:
        """Whether it waits for a probe: open for long enough, or its prober has died."""
        return self.state is not CircuitState.CLOSED and self.until <= now

    def probed_by(self, probe: str, *, now: float, policy: CircuitPolicy) -> "Circuit | None":
        """With the lease of the one probe taken; ``None`` when it is not to be had."""
        if not self.is_due(now):
            return None
        return msgspec.structs.replace(
            self, state=CircuitState.HALF_OPEN, until=now + policy.probe_lease_s, probe=probe
        )

    def failing(
        self, *, now: float, policy: CircuitPolicy, successes: int = 0, retry_after_s: float | None = None
    ) -> "Circuit | None":
        """After one more failed attempt, which came after ``successes`` that nobody has counted yet."""
        if self.state is not CircuitState.CLOSED:
            # Sent before it opened: known already.
            return None
        start = self if self._is_current(now) else Circuit(run=self.run, window_at=now)
        counted = msgspec.structs.replace(
            start,
            run=1 if successes else start.run + 1,
            failed=start.failed + 1,
            succeeded=start.succeeded + successes,
        )
        volume = counted.failed + counted.succeeded
        too_many = volume >= policy.minimum_volume and counted.failed >= policy.ratio * volume
        if counted.run >= policy.failures or too_many:
            return _opened(counted, now, policy, retry_after_s)
        return counted

    def succeeding(self, *, now: float, successes: int = 1) -> "Circuit | None":
        """After ``successes`` more. They are only counted where there is a failure to weigh them against."""
        if not self.is_troubled(now):
            return None
        if not self._is_current(now):
            return Circuit()
        return msgspec.structs.replace(self, run=0, succeeded=self.succeeded + successes)

    def settled_by(
        self, probe: str, verdict: Verdict, *, now: float, policy: CircuitPolicy, retry_after_s: float | None = None
    ) -> "Circuit | None":
        """After the probe has come back; ``None`` when it had lost its lease."""
        if self.state is not CircuitState.HALF_OPEN or self.probe != probe:
            return None
        match verdict:
            case Verdict.SUCCESS:
                return Circuit()
            case Verdict.FAILURE:
                return _opened(self, now, policy, retry_after_s)
            case Verdict.NOTHING:
                # Nothing was learned: the next request may probe.
                return msgspec.structs.replace(self, state=CircuitState.OPEN, until=now, probe=None)

    def _is_current(self, now: float) -> bool:
        return now - self.window_at < WINDOW_S


def _opened(circuit: Circuit, now: float, policy: CircuitPolicy, retry_after_s: float | None) -> Circuit:
    open_s = max(policy.open_s, min(retry_after_s or 0.0, LONGEST_OPEN_S))
    return msgspec.structs.replace(
        circuit,
        state=CircuitState.OPEN,
        opened_at=circuit.opened_at or now,
        until=now + open_s,
        probe=None,
    )


CLEAN: Final = Circuit()


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """How a target has been doing. ``at`` is when it was last measured, in epoch seconds.

    ``ms_per_token`` is a peak-EWMA: it jumps to a slow answer at once and comes down slowly. ``output_tokens`` and
    ``cached_share`` (of the input) are means of its answers; ``None`` as long as there was none.
    """

    ms_per_token: float = 0.0
    at: float = 0.0
    output_tokens: float | None = None
    cached_share: float | None = None

    def score(self, now: float) -> float:
        """The peak-EWMA as it counts now: what was measured long ago fades, so that a slow target is tried again."""
        return self.ms_per_token * _fading(now - self.at)

    def after(self, sample: "Sample") -> "Health":
        """With one more measurement."""
        before = self.ms_per_token
        kept = _fading(sample.at - self.at)
        speed = sample.ms_per_token
        return Health(
            ms_per_token=speed if speed >= before else before * kept + speed * (1 - kept),
            at=max(self.at, sample.at),
            output_tokens=_mean(self.output_tokens, sample.output_tokens),
            cached_share=_mean(self.cached_share, sample.cached_share),
        )


UNMEASURED: Final = Health()


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One measured attempt, at epoch seconds ``at``. What it does not tell is ``None``."""

    ms_per_token: float
    at: float
    output_tokens: float | None = None
    cached_share: float | None = None


def _fading(elapsed_s: float) -> float:
    return math.exp(-max(0.0, elapsed_s) / LATENCY_DECAY_S)


def _mean(before: float | None, sample: float | None) -> float | None:
    if before is None or sample is None:
        return before if sample is None else sample
    return before + (sample - before) * MEAN_SHARE


class TargetState(msgspec.Struct, frozen=True, kw_only=True):
    """What is stored of one target. Each ``version`` names exactly what was read; ``None``: nothing is stored."""

    circuit: Circuit = CLEAN
    circuit_version: str | None = None
    health: Health = UNMEASURED
    health_version: str | None = None
