"""The shared state of targets: the same contract for the table and for the fake, and two containers over each."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from sluice.adapters.dynamodb import Table
from sluice.adapters.dynamodb_circuits import TTL_S, DynamoDBTargetStates
from sluice.domain.errors import ConfigurationError, StateError
from sluice.domain.ports import TargetStates
from sluice.domain.resilience import CLEAN, UNMEASURED, Circuit, CircuitPolicy, CircuitState, Health, Sample, Verdict
from sluice.services.watch_targets import Permit, WatchTargets
from sluice.testing.target_states import FakeTargetStates
from tests.contract.state.conftest import Aws

POLICY = CircuitPolicy(failures=3, open_s=30.0)
OPEN = Circuit(state=CircuitState.OPEN, run=3, failed=3, window_at=1_000.123, opened_at=1_000.123, until=1_030.123)
NAMES = ("bedrock/one", "openai/two", "vllm/three")


@pytest.fixture(params=["table", "fake"])
def states(request: pytest.FixtureRequest) -> Iterator[TargetStates]:
    if request.param == "fake":
        yield FakeTargetStates()
    else:
        aws: Aws = request.getfixturevalue("aws")
        yield DynamoDBTargetStates(aws.table()[0])


class Clock:
    """The same time for everybody."""

    def __init__(self) -> None:
        self.time = 10_000.0

    def __call__(self) -> float:
        return self.time


class Container:
    """What one Lambda container has in memory."""

    def __init__(self, states: TargetStates, clock: Clock, *, cache_s: float = 3.0) -> None:
        self.watch = WatchTargets(states, POLICY, cache_s=cache_s, now=clock, clock=clock)

    def ask(self, name: str, verdict: Verdict | None, *, retry_after_s: float | None = None) -> Permit | None:
        """One request: ``verdict`` is how the attempt ends, ``None`` that it never does."""
        self.watch.look(NAMES)
        permit = self.watch.permit(name, lease_s=10.0)
        if permit is not None and verdict is not None:
            self.watch.report(permit, verdict, operation="chat", retry_after_s=retry_after_s)
        return permit


class TestContract:
    def test_what_nobody_has_written_is_left_out(self, states: TargetStates) -> None:
        assert not states.read(NAMES)

    def test_everything_written_comes_back(self, states: TargetStates) -> None:
        health = Health(ms_per_token=12.345, at=1_000.5, output_tokens=80.5, cached_share=0.25)
        won, stored = states.swap_circuit("bedrock/one", OPEN, version=None)
        assert (won, stored.circuit) == (True, OPEN)
        assert states.swap_health("bedrock/one", health, version=None)[0]
        [(name, state)] = states.read(NAMES).items()
        assert (name, state.circuit, state.health) == ("bedrock/one", OPEN, health)
        assert state.circuit_version == stored.circuit_version

    def test_half_of_it_is_there_when_half_was_written(self, states: TargetStates) -> None:
        states.swap_health("bedrock/one", Health(ms_per_token=1.5, at=1.0), version=None)
        state = states.read(NAMES)["bedrock/one"]
        assert (state.circuit, state.circuit_version) == (CLEAN, None)
        states.swap_circuit("openai/two", OPEN, version=None)
        assert states.read(NAMES)["openai/two"].health == UNMEASURED

    def test_a_swap_needs_the_latest_version(self, states: TargetStates) -> None:
        _, first = states.swap_circuit("bedrock/one", OPEN, version=None)
        won, second = states.swap_circuit("bedrock/one", CLEAN, version=first.circuit_version)
        assert won
        for stale in (None, first.circuit_version, "never"):
            won, found = states.swap_circuit("bedrock/one", OPEN, version=stale)
            assert not won
            assert (found.circuit, found.circuit_version) == (CLEAN, second.circuit_version)

    def test_so_does_one_of_the_health(self, states: TargetStates) -> None:
        health = Health(ms_per_token=1.5, at=1.0)
        _, first = states.swap_health("bedrock/one", health, version=None)
        won, found = states.swap_health("bedrock/one", UNMEASURED, version=None)
        assert (won, found.health, found.health_version) == (False, health, first.health_version)

    def test_of_a_crowd_exactly_one_wins(self, states: TargetStates) -> None:
        _, stored = states.swap_circuit("bedrock/one", OPEN, version=None)
        with ThreadPoolExecutor(32) as pool:
            swaps = pool.map(
                lambda _: states.swap_circuit("bedrock/one", CLEAN, version=stored.circuit_version), range(32)
            )
            assert sum(won for won, _ in swaps) == 1


class TestTwoContainers:
    def test_they_share_one_breaker(self, states: TargetStates) -> None:
        clock = Clock()
        one, two = Container(states, clock, cache_s=0), Container(states, clock, cache_s=0)
        for container in (one, two, one):
            assert container.ask("bedrock/one", Verdict.FAILURE) is not None
        assert one.ask("bedrock/one", Verdict.FAILURE) is None
        assert two.ask("bedrock/one", Verdict.FAILURE) is None
        assert two.watch.opens_in_s(["bedrock/one"]) == 30
        assert two.ask("openai/two", Verdict.SUCCESS) is not None

    def test_a_success_of_one_breaks_the_row_of_the_other(self, states: TargetStates) -> None:
        clock = Clock()
        one, two = Container(states, clock, cache_s=0), Container(states, clock, cache_s=0)
        for _ in range(5):
            one.ask("bedrock/one", Verdict.FAILURE)
            two.ask("bedrock/one", Verdict.SUCCESS)
        assert one.ask("bedrock/one", Verdict.SUCCESS) is not None

    def test_the_other_hears_of_it_when_its_memory_is_too_old(self, states: TargetStates) -> None:
        clock = Clock()
        one, two = Container(states, clock), Container(states, clock)
        two.ask("bedrock/one", Verdict.SUCCESS)
        for _ in range(3):
            one.ask("bedrock/one", Verdict.FAILURE)
        assert two.ask("bedrock/one", None) is not None
        clock.time += 3.0
        assert two.ask("bedrock/one", None) is None

    def test_retry_after_is_shared_too(self, states: TargetStates) -> None:
        clock = Clock()
        one, two = Container(states, clock), Container(states, clock)
        for _ in range(3):
            one.ask("bedrock/one", Verdict.FAILURE, retry_after_s=90.0)
        two.watch.look(NAMES)
        assert two.watch.opens_in_s(["bedrock/one"]) == 90

    def test_thirty_two_threads_send_one_probe(self, states: TargetStates) -> None:
        clock = Clock()
        containers = [Container(states, clock, cache_s=0) for _ in range(2)]
        self._open(containers[0])
        clock.time += 31
        barrier = threading.Barrier(32)

        def race(number: int) -> Permit | None:
            barrier.wait()
            return containers[number % 2].ask("bedrock/one", None)

        with ThreadPoolExecutor(32) as pool:
            permits = [permit for permit in pool.map(race, range(32)) if permit is not None]
        assert len(permits) == 1
        assert permits[0].probe is not None

        # It never comes back: when its lease is over, again exactly one follows.
        clock.time += 13
        with ThreadPoolExecutor(32) as pool:
            again = [permit for permit in pool.map(race, range(32)) if permit is not None]
        assert len(again) == 1

        # The dead one's word counts no more, the other's does.
        containers[0].watch.report(permits[0], Verdict.SUCCESS, operation="chat")
        assert containers[1].ask("bedrock/one", None) is None
        containers[1].watch.report(again[0], Verdict.SUCCESS, operation="chat")
        assert states.read(NAMES)["bedrock/one"].circuit == CLEAN
        assert all(container.ask("bedrock/one", Verdict.SUCCESS) for container in containers)

    @pytest.mark.parametrize("verdict", [Verdict.FAILURE, Verdict.NOTHING])
    def test_a_probe_that_fails_or_says_nothing(self, states: TargetStates, verdict: Verdict) -> None:
        clock = Clock()
        one, two = Container(states, clock, cache_s=0), Container(states, clock, cache_s=0)
        self._open(one)
        clock.time += 31
        assert one.ask("bedrock/one", verdict) is not None
        assert (two.ask("bedrock/one", None) is None) is (verdict is Verdict.FAILURE)

    def test_they_share_what_they_measure(self, states: TargetStates) -> None:
        clock = Clock()
        one, two = Container(states, clock), Container(states, clock)
        for container in (one, two):
            container.watch.look(NAMES)
        one.watch.measured("bedrock/one", Sample(ms_per_token=10.0, at=clock.time, output_tokens=50.0))
        two.watch.measured("bedrock/one", Sample(ms_per_token=80.0, at=clock.time, output_tokens=50.0))
        clock.time += 3
        one.watch.look(NAMES)
        assert one.watch.health(NAMES)["bedrock/one"].ms_per_token == 80.0
        assert states.read(NAMES)["bedrock/one"].health.output_tokens == 50.0

    @staticmethod
    def _open(container: Container) -> None:
        for _ in range(3):
            container.ask("bedrock/one", Verdict.FAILURE)


def test_what_is_not_used_any_more_goes_away(aws: Aws) -> None:
    table, _ = aws.table()
    DynamoDBTargetStates(table, now=lambda: 1_000.9).swap_circuit("bedrock/one", OPEN, version=None)
    stored = table.get("CIRCUIT#bedrock/one", "STATE")
    assert stored is not None
    assert stored["expires_at"] == 1_000 + TTL_S


def test_a_malformed_item_is_named(aws: Aws) -> None:
    table, _ = aws.table()
    table.put({"pk": "CIRCUIT#bedrock/one", "sk": "STATE", "state": "ajar", "version": "x"})
    with pytest.raises(ConfigurationError, match="CIRCUIT#bedrock/one"):
        DynamoDBTargetStates(table).read(NAMES)


def test_a_hundred_targets_are_read_as_well(aws: Aws) -> None:
    table, _ = aws.table()
    states = DynamoDBTargetStates(table)
    names = [f"bedrock/{number}" for number in range(120)]
    states.swap_circuit(names[-1], OPEN, version=None)
    assert list(states.read(names)) == names[-1:]


def test_a_table_that_answers_in_part_is_asked_for_the_rest() -> None:
    class Partly:
        """Answers one key at a time, and never the second."""

        def __init__(self, *, stubborn: bool) -> None:
            self.calls = 0
            self.stubborn = stubborn

        def batch_get_item(self, RequestItems: dict[str, Any]) -> dict[str, Any]:  # noqa: N803 - botocore's name
            self.calls += 1
            keys = RequestItems["t"]["Keys"]
            answered, rest = ([], keys) if self.stubborn else (keys[:1], keys[1:])
            left = {"UnprocessedKeys": {"t": {"Keys": rest}}} if rest else {}
            return {"Responses": {"t": answered}, **left}

    client: Any = Partly(stubborn=False)
    assert Table(client, "t").get_many([("a", "1"), ("b", "2")]) == [{"pk": "a", "sk": "1"}, {"pk": "b", "sk": "2"}]
    assert client.calls == 2
    stubborn: Any = Partly(stubborn=True)
    with pytest.raises(StateError):
        Table(stubborn, "t").get_many([("a", "1")])
