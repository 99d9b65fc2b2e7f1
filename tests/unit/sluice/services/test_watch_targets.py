import json

import pytest

from sluice.domain.errors import StateError
from sluice.domain.resilience import CLEAN, Circuit, CircuitPolicy, CircuitState, Sample, Verdict
from sluice.services.watch_targets import HEALTH_FLUSH_S, WatchTargets
from sluice.testing.clock import FakeClock
from sluice.testing.target_states import FakeTargetStates

NAMES = ("a/one", "b/two", "c/three")
ONE = "a/one"


class World:
    def __init__(self, *, failures: int = 3, cache_s: float = 3.0) -> None:
        self.clock = FakeClock()
        self.states = FakeTargetStates()
        policy = CircuitPolicy(failures=failures, open_s=30.0)
        self.watch = WatchTargets(self.states, policy, cache_s=cache_s, now=self.clock, clock=self.clock)

    def request(self, verdict: Verdict = Verdict.SUCCESS) -> bool:
        self.watch.look(NAMES)
        permit = self.watch.permit(ONE, lease_s=10.0)
        if permit is not None:
            self.watch.report(permit, verdict, operation="chat")
        return permit is not None

    @property
    def circuit(self) -> Circuit:
        state = self.states.stored.get(ONE)
        return state.circuit if state else CLEAN


def test_healthy_requests_cost_one_read_per_interval_and_no_write() -> None:
    world = World()
    for _ in range(100):
        assert world.request()
    assert (world.states.reads, world.states.writes) == (1, 0)
    world.clock.advance(3.0)
    for _ in range(100):
        world.request()
    assert (world.states.reads, world.states.writes) == (2, 0)


def test_a_failure_is_one_write() -> None:
    world = World()
    world.request(Verdict.FAILURE)
    assert (world.states.reads, world.states.writes, world.circuit.run) == (1, 1, 1)


def test_successes_after_it_are_one_write_per_interval() -> None:
    world = World()
    world.request(Verdict.FAILURE)
    for _ in range(50):
        world.request()
    assert (world.states.writes, world.circuit.run) == (2, 0)
    world.clock.advance(3.0)
    for _ in range(50):
        world.request()
    assert world.states.writes == 3
    assert world.circuit.succeeded == 51
    world.clock.advance(60.0)
    for _ in range(50):
        world.request()
    assert world.states.writes == 3


def test_what_failed_before_counts_against_the_successes_between() -> None:
    world = World(failures=3)
    for _ in range(20):
        world.request()
        world.request()
        assert world.request(Verdict.FAILURE)
    assert world.circuit.state is CircuitState.CLOSED


def test_an_open_circuit_costs_nothing_but_reads() -> None:
    world = World()
    for _ in range(3):
        world.request(Verdict.FAILURE)
    writes = world.states.writes
    assert not any(world.request() for _ in range(20))
    assert (world.states.reads, world.states.writes) == (1, writes)
    assert world.watch.opens_in_s(NAMES) == 0
    assert world.watch.opens_in_s([ONE]) == 30
    assert not world.watch.may_ask(ONE)


def test_a_recovery_is_two_writes_and_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    world = World()
    for _ in range(3):
        world.request(Verdict.FAILURE)
    world.clock.advance(31)
    writes = world.states.writes
    assert world.request()
    assert (world.states.writes - writes, world.circuit) == (2, CLEAN)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    events = [line["event"] for line in lines if "event" in line]
    assert events == ["circuit_opened", "circuit_probed", "circuit_closed"]
    opened = next(line for line in lines if line.get("event") == "circuit_opened")
    assert (opened["target"], opened["failures_in_a_row"], opened["open_s"]) == (ONE, 3, 30)
    metrics = [line for line in lines if "_aws" in line]
    assert [(line.get("CircuitOpened"), line.get("CircuitClosed")) for line in metrics] == [(1, None), (None, 1)]


def test_without_the_table_everything_is_permitted_and_it_is_logged(capsys: pytest.CaptureFixture[str]) -> None:
    world = World()
    world.states.failing = StateError("The table is throttling.")
    for _ in range(10):
        assert world.request(Verdict.FAILURE)
    # Nor is it asked again at once.
    assert world.states.reads == 1
    events = {json.loads(line).get("event") for line in capsys.readouterr().out.splitlines()}
    assert events == {"target_states_not_read", "circuit_not_written"}


def test_without_the_table_an_open_circuit_is_kept_until_it_is_due() -> None:
    world = World()
    for _ in range(3):
        world.request(Verdict.FAILURE)
    world.states.failing = StateError("The table is throttling.")
    world.clock.advance(10)
    assert not world.request()
    world.clock.advance(21)
    assert world.request()


def test_measurements_are_seen_at_once_and_written_seldom() -> None:
    world = World()
    world.watch.look(NAMES)
    for number in range(10):
        world.watch.measured(ONE, Sample(ms_per_token=10.0 + number, at=world.clock.time))
    assert world.states.writes == 1
    assert world.watch.health(NAMES)[ONE].ms_per_token == 19
    world.clock.advance(HEALTH_FLUSH_S)
    world.watch.measured(ONE, Sample(ms_per_token=50.0, at=world.clock.time))
    assert world.states.writes == 2
    assert world.states.stored[ONE].health.ms_per_token == 50


def test_measurements_of_others_are_kept_when_ours_are_added() -> None:
    world = World()
    other = WatchTargets(world.states, CircuitPolicy(), cache_s=3.0, now=world.clock, clock=world.clock)
    world.watch.look(NAMES)
    other.look(NAMES)
    other.measured(ONE, Sample(ms_per_token=200.0, at=world.clock.time))
    world.watch.measured(ONE, Sample(ms_per_token=10.0, at=world.clock.time))
    assert world.states.stored[ONE].health.ms_per_token == 200


def test_a_table_that_fails_loses_no_measurement() -> None:
    world = World()
    world.states.failing = StateError("The table is throttling.")
    world.watch.measured(ONE, Sample(ms_per_token=99.0, at=world.clock.time))
    world.states.failing = None
    world.clock.advance(HEALTH_FLUSH_S)
    world.watch.measured(ONE, Sample(ms_per_token=1.0, at=world.clock.time))
    assert world.states.stored[ONE].health.ms_per_token > 85
