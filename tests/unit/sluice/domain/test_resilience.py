import pytest

from sluice.domain import errors
from sluice.domain.resilience import (
    CLEAN,
    LATENCY_DECAY_S,
    LONGEST_OPEN_S,
    WINDOW_S,
    Circuit,
    CircuitPolicy,
    CircuitState,
    Health,
    Sample,
    Verdict,
    verdict_on,
)

POLICY = CircuitPolicy(failures=3, ratio=0.5, minimum_volume=10, open_s=30.0, probe_lease_s=20.0)
T = 1_000.0


def failed(circuit: Circuit, times: int = 1, *, now: float = T, successes: int = 0) -> Circuit:
    for _ in range(times):
        changed = circuit.failing(now=now, policy=POLICY, successes=successes)
        assert changed is not None
        circuit = changed
    return circuit


def open_since(now: float = T) -> Circuit:
    return failed(CLEAN, 3, now=now)


@pytest.mark.parametrize(
    ("kind", "verdict"),
    [
        (errors.ProviderThrottledError, Verdict.FAILURE),
        (errors.ProviderOverloadedError, Verdict.FAILURE),
        (errors.ProviderTimeoutError, Verdict.FAILURE),
        (errors.AnswerUnfinishedError, Verdict.NOTHING),
        (errors.ProviderUnavailableError, Verdict.FAILURE),
        (errors.ProviderProtocolError, Verdict.FAILURE),
        (errors.ProviderAuthError, Verdict.FAILURE),
        (errors.ProviderRejectedError, Verdict.SUCCESS),
        (errors.ContextTooLongError, Verdict.SUCCESS),
        (errors.ContentFilteredError, Verdict.SUCCESS),
        (errors.InvalidModelOutputError, Verdict.SUCCESS),
        (errors.AllTargetsUnavailableError, Verdict.NOTHING),
    ],
)
def test_which_errors_count(kind: type[errors.ProviderError], verdict: Verdict) -> None:
    assert verdict_on(kind("It failed.", target="a/one")) is verdict


@pytest.mark.parametrize("error", [ValueError(), errors.ConfigurationError("x"), errors.StateError("x")])
def test_what_is_our_own_fault_says_nothing(error: Exception) -> None:
    assert verdict_on(error) is Verdict.NOTHING


def test_every_provider_error_is_judged() -> None:
    kinds = errors.ProviderError.__subclasses__()
    said_nothing_of = {kind for kind in kinds if verdict_on(kind("x", target="t")) is Verdict.NOTHING}
    assert said_nothing_of == {errors.AllTargetsUnavailableError}


def test_failures_in_a_row_open_it() -> None:
    almost = failed(CLEAN, 2)
    assert (almost.state, almost.run) == (CircuitState.CLOSED, 2)
    circuit = failed(almost)
    assert (circuit.state, circuit.until, circuit.opened_at) == (CircuitState.OPEN, T + 30, T)


def test_a_success_between_breaks_the_row() -> None:
    circuit = failed(CLEAN, 2).succeeding(now=T)
    assert circuit is not None
    assert circuit.run == 0
    assert failed(circuit, 2).state is CircuitState.CLOSED


def test_successes_nobody_has_counted_break_the_row_too() -> None:
    circuit = failed(failed(CLEAN, 2), successes=7)
    assert (circuit.state, circuit.run, circuit.succeeded) == (CircuitState.CLOSED, 1, 7)


def test_half_of_a_window_opens_it() -> None:
    circuit = CLEAN
    for number in range(4):
        circuit = failed(circuit, successes=1)
        assert (circuit.state, number) == (CircuitState.CLOSED, number)
    assert failed(circuit, successes=1).state is CircuitState.OPEN


def test_a_small_share_of_failures_never_opens_it() -> None:
    circuit = CLEAN
    for _ in range(100):
        circuit = failed(circuit, successes=9)
    assert circuit.state is CircuitState.CLOSED


def test_a_window_ends() -> None:
    circuit = failed(CLEAN, 2)
    later = failed(failed(circuit, successes=1), now=T + WINDOW_S)
    assert (later.failed, later.succeeded, later.window_at) == (1, 0, T + WINDOW_S)


def test_a_healthy_target_has_nothing_to_write() -> None:
    assert CLEAN.succeeding(now=T) is None
    assert CLEAN.is_clean


def test_successes_are_counted_only_while_they_matter() -> None:
    circuit = failed(CLEAN)
    assert circuit.succeeding(now=T + WINDOW_S + 1) == CLEAN
    counted = circuit.succeeding(now=T, successes=4)
    assert counted is not None
    assert counted.succeeded == 4
    assert counted.succeeding(now=T + WINDOW_S + 1) is None


def test_retry_after_keeps_it_open_for_longer_but_not_for_ever() -> None:
    for asked, kept in ((None, 30), (5, 30), (90, 90), (1e9, LONGEST_OPEN_S)):
        circuit = failed(CLEAN, 2).failing(now=T, policy=POLICY, retry_after_s=asked)
        assert circuit is not None
        assert circuit.until == T + kept


def test_an_open_one_waits_for_its_time() -> None:
    circuit = open_since()
    assert circuit.opens_in_s(T + 12) == 18
    assert circuit.probed_by("one", now=T + 29.9, policy=POLICY) is None
    assert circuit.failing(now=T + 1, policy=POLICY) is None
    assert circuit.succeeding(now=T + 1) is None


def test_there_is_one_probe_at_a_time() -> None:
    probed = open_since().probed_by("one", now=T + 30, policy=POLICY)
    assert probed is not None
    assert (probed.state, probed.probe, probed.opens_in_s(T + 30)) == (CircuitState.HALF_OPEN, "one", 20)
    assert probed.probed_by("two", now=T + 31, policy=POLICY) is None
    after_the_lease = probed.probed_by("two", now=T + 50, policy=POLICY)
    assert after_the_lease is not None
    assert after_the_lease.probe == "two"


@pytest.mark.parametrize(
    ("verdict", "state", "wait_s"),
    [
        (Verdict.SUCCESS, CircuitState.CLOSED, 0),
        (Verdict.FAILURE, CircuitState.OPEN, 30),
        (Verdict.NOTHING, CircuitState.OPEN, 0),
    ],
)
def test_the_probe_decides(verdict: Verdict, state: CircuitState, wait_s: float) -> None:
    probed = open_since().probed_by("one", now=T + 30, policy=POLICY)
    assert probed is not None
    settled = probed.settled_by("one", verdict, now=T + 35, policy=POLICY)
    assert settled is not None
    assert (settled.state, settled.probe, settled.opens_in_s(T + 35)) == (state, None, wait_s)
    assert settled.is_clean is (verdict is Verdict.SUCCESS)


def test_a_probe_that_lost_its_lease_decides_nothing() -> None:
    probed = open_since().probed_by("one", now=T + 30, policy=POLICY)
    assert probed is not None
    again = probed.probed_by("two", now=T + 60, policy=POLICY)
    assert again is not None
    assert again.settled_by("one", Verdict.SUCCESS, now=T + 61, policy=POLICY) is None


def test_it_remembers_since_when_it_has_been_failing() -> None:
    probed = open_since().probed_by("one", now=T + 30, policy=POLICY)
    assert probed is not None
    reopened = probed.settled_by("one", Verdict.FAILURE, now=T + 31, policy=POLICY)
    assert reopened is not None
    assert (reopened.opened_at, reopened.until) == (T, T + 61)


def test_latency_jumps_up_and_comes_down_slowly() -> None:
    health = Health().after(Sample(ms_per_token=10, at=T))
    peak = health.after(Sample(ms_per_token=100, at=T + 1))
    assert peak.ms_per_token == 100
    down = peak.after(Sample(ms_per_token=10, at=T + 2))
    assert 95 < down.ms_per_token < 100
    assert peak.after(Sample(ms_per_token=10, at=T + 1 + 10 * LATENCY_DECAY_S)).ms_per_token < 11


def test_what_was_measured_long_ago_fades() -> None:
    health = Health(ms_per_token=100, at=T)
    assert health.score(T) == 100
    assert health.score(T + LATENCY_DECAY_S) == pytest.approx(36.8, abs=0.1)
    assert Health().score(T) == 0


def test_means_move_towards_the_latest() -> None:
    health = Health().after(Sample(ms_per_token=1, at=T, output_tokens=100, cached_share=0.5))
    assert (health.output_tokens, health.cached_share) == (100, 0.5)
    health = health.after(Sample(ms_per_token=1, at=T, output_tokens=200))
    assert (health.output_tokens, health.cached_share) == (120, 0.5)
