"""Batches keep to the pace that providers take."""

from __future__ import annotations

import threading

import pytest

from sluice.domain.errors import ProviderThrottledError, ProviderUnavailableError, StateError
from sluice.domain.pace import Pace, PaceState
from sluice.domain.resilience import CircuitPolicy, CircuitState, Verdict
from sluice.services.pace_targets import PaceTargets, PatientWatch
from sluice.testing.clock import FakeClock
from sluice.testing.pace import FakePace
from sluice.testing.target_states import FakeTargetStates


class World:
    def __init__(self, *, most: int = 2) -> None:
        self.clock = FakeClock()
        self.store = FakePace()
        self.states = FakeTargetStates()
        self.one, self.other = self.worker(most), self.worker(most)
        self.watch = PatientWatch(self.states, CircuitPolicy(failures=2), cache_s=0.0, pace=self.one, now=self.clock)

    def worker(self, most: int) -> PaceTargets:
        return PaceTargets(self.store, most=most, now=self.clock, sleep=lambda _: None, jitter=lambda _, high: high)

    def until(self) -> int:
        return int(self.clock()) + 60


def test_workers_share_the_slots_of_a_target() -> None:
    world = World()
    assert world.one.enter(["a"], "one", until=world.until()) is None
    assert world.other.enter(["a"], "two", until=world.until()) is None
    assert (world.other.enter(["a"], "three", until=world.until()) or 0) > 0
    world.one.leave(["a"], "one", clean=True)
    assert world.other.enter(["a"], "three", until=world.until()) is None


def test_all_targets_or_none() -> None:
    world = World(most=1)
    world.one.enter(["b"], "one", until=world.until())
    assert world.other.enter(["a", "b"], "two", until=world.until()) is not None
    assert world.store.stored["a"].pace.slots == {}


def test_a_provider_has_so_many_slots_whichever_of_its_targets_are_asked() -> None:
    world = World()
    assert world.one.enter(["a"], "one", until=world.until(), providers=["p"]) is None
    assert world.other.enter(["b"], "two", until=world.until(), providers=["p"]) is None
    assert (world.one.enter(["c"], "three", until=world.until(), providers=["p"]) or 0) > 0
    assert world.store.stored["c"].pace.slots == {}, "what it had is given back"
    assert world.store.stored["p"].pace.slots.keys() == {"one", "two"}
    assert world.one.enter(["c"], "three", until=world.until(), providers=["q"]) is None
    world.other.leave(["b", "p"], "two", clean=True)
    assert world.one.enter(["d"], "four", until=world.until(), providers=["p"]) is None


def test_who_was_overtaken_leaves_the_slot_to_its_successor() -> None:
    world = World()
    world.one.enter(["a"], "chunk#1", until=world.until(), providers=["p"])
    # It does not know, and neither does the one before: no limit is raised for it.
    world.other.enter(["a"], "chunk#2", until=world.until(), providers=["p"])
    world.other.throttled("a", 1.0)
    before = dict(world.store.stored)
    world.one.leave(["a", "p"], "chunk#1", clean=True)
    assert world.store.stored == before
    assert before["a"].pace.slots.keys() == before["p"].pace.slots.keys() == {"chunk#2"}
    assert before["a"].pace.limit == 1


def test_everybody_takes_slots_in_the_same_order() -> None:
    world = World()
    swap, order = world.store.swap, list[str]()

    def told(name: str, pace: Pace, *, version: str | None) -> tuple[bool, PaceState]:
        order.append(name)
        return swap(name, pace, version=version)

    world.store.swap = told  # type: ignore[method-assign]
    world.one.enter(["y", "x"], "one", until=world.until(), providers=["b", "a"])
    assert order == ["x", "y", "a", "b"]


def test_a_provider_is_not_paused_with_its_target_and_keeps_its_limit() -> None:
    world = World()
    assert world.one.enter(["a"], "one", until=world.until(), providers=["p"]) is None
    world.one.throttled("a", 10.0)
    world.one.leave(["a", "p"], "one", clean=False)
    assert world.store.stored["a"].pace.limit == 1
    assert world.store.stored["p"].pace == Pace()
    assert (world.other.enter(["a"], "one", until=world.until(), providers=["p"]) or 0) >= 10
    assert world.other.enter(["b"], "two", until=world.until(), providers=["p"]) is None


def test_to_meet_a_crowd_is_to_wait_and_no_failure() -> None:
    world, rivals = World(most=50), iter(range(1_000))
    swap, waits = world.store.swap, list[float]()

    def late(name: str, pace: Pace, *, version: str | None) -> tuple[bool, PaceState]:
        if name == "b":
            # Somebody else has always been there a moment before.
            known = world.store.stored.get(name, PaceState())
            swap(name, Pace(slots={f"rival-{next(rivals)}": world.until()}), version=known.version)
        return swap(name, pace, version=version)

    world.store.swap = late  # type: ignore[method-assign]
    worker = PaceTargets(world.store, most=50, now=world.clock, sleep=waits.append, jitter=lambda _, high: high)
    assert (worker.enter(["a", "b"], "one", until=world.until()) or 0) > 0
    assert world.store.stored["a"].pace.slots == {}
    assert waits == sorted(waits)
    assert waits[-1] > 10 * waits[0]


def test_a_store_that_goes_away_in_between_keeps_no_slot() -> None:
    world = World()
    swap = world.store.swap

    def failing(name: str, pace: Pace, *, version: str | None) -> tuple[bool, PaceState]:
        if name == "b":
            raise StateError("Away.")
        return swap(name, pace, version=version)

    world.store.swap = failing  # type: ignore[method-assign]
    with pytest.raises(StateError):
        world.one.enter(["a", "b"], "one", until=world.until())
    assert world.store.stored["a"].pace.slots == {}


def test_what_asks_no_target_needs_no_slot() -> None:
    world = World()
    world.store.failing = StateError("Away.")
    assert world.one.enter([], "one", until=world.until()) is None


def test_no_more_slots_than_there_are_however_many_race_for_them() -> None:
    world = World(most=3)
    entered: list[float | None] = []

    def race(holder: str) -> None:
        worker = world.worker(3)
        entered.append(worker.enter(["a"], holder, until=world.until()))

    racers = [threading.Thread(target=race, args=(f"holder-{number}",)) for number in range(12)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert entered.count(None) == 3
    assert world.store.most_at_work == 3


def test_a_pause_holds_for_every_worker_until_it_is_over() -> None:
    world = World()
    world.one.throttled("a", 10.0)
    assert world.one.paused_s("a") >= 10
    assert world.other.paused_s("a") == 0
    wait_s = world.other.enter(["a"], "two", until=world.until())
    assert wait_s is not None
    assert wait_s >= 10
    world.clock.advance(wait_s)
    assert world.other.enter(["a"], "two", until=world.until()) is None


def test_where_one_of_the_targets_is_open_there_is_something_to_do() -> None:
    world = World()
    world.one.throttled("a", 10.0)
    assert world.one.enter(["a", "b"], "one", until=world.until()) is None


def test_a_wave_of_throttles_is_told_once() -> None:
    world = World()
    for _ in range(20):
        world.one.throttled("a", 5.0)
    assert world.store.writes == 1


def test_pauses_that_nobody_names_grow_until_there_is_an_answer() -> None:
    world = World()
    pauses = []
    for _ in range(4):
        world.one.throttled("a", None)
        pauses.append(world.one.paused_s("a"))
        world.clock.advance(pauses[-1])
    assert pauses == [1, 2, 4, 8]
    world.one.answered("a")
    world.one.throttled("a", None)
    assert world.one.paused_s("a") == 1


def test_a_store_that_is_away_lets_nobody_begin_but_stops_nobody() -> None:
    world = World()
    world.one.enter(["a"], "one", until=world.until())
    world.store.failing = StateError("Away.")
    with pytest.raises(StateError):
        world.other.enter(["a"], "two", until=world.until())
    world.one.throttled("a", 3.0)
    assert world.one.paused_s("a") >= 3
    world.one.leave(["a"], "one", clean=True)


def test_a_throttle_pauses_the_target_for_batches_and_leaves_the_circuit_alone() -> None:
    world = World()
    for _ in range(5):
        permit = world.watch.permit("a", lease_s=1.0)
        assert permit is not None
        error = ProviderThrottledError("Slow down.", target="a", retry_after_s=7.0)
        world.watch.lost(permit, error, operation="chat")
    assert world.states.stored == {}
    assert not world.watch.may_ask("a")
    assert world.watch.may_ask("b")
    assert world.watch.opens_in_s(["a"]) >= 7
    assert world.watch.opens_in_s(["a", "b"]) == 0
    world.clock.advance(8)
    assert world.watch.may_ask("a")


def test_other_failures_count_as_they_do_for_everybody() -> None:
    world = World()
    for _ in range(2):
        permit = world.watch.permit("a", lease_s=1.0)
        assert permit is not None
        world.watch.lost(permit, ProviderUnavailableError("Away.", target="a"), operation="chat")
    assert world.states.stored["a"].circuit.state is CircuitState.OPEN
    assert world.watch.opens_in_s(["a"]) > 0


def test_a_success_makes_the_next_pause_a_short_one() -> None:
    world = World()
    for _ in range(3):
        world.one.throttled("a", None)
        world.clock.advance(60)
    permit = world.watch.permit("a", lease_s=1.0)
    assert permit is not None
    world.watch.report(permit, Verdict.SUCCESS, operation="chat")
    world.one.throttled("a", None)
    assert world.one.paused_s("a") == 1
