"""The pace of targets, in memory and in the table; and who may send a chunk's pointer again."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from sluice.adapters.dynamodb_pace import DynamoDBPace
from sluice.domain.pace import FREE, Pace, PaceState
from sluice.domain.ports import PaceStore
from sluice.services.pace_targets import PaceTargets
from sluice.testing.pace import FakePace
from tests.contract.state.conftest import Aws

Make = Callable[[], PaceStore]
PACE = Pace(slots={"batch_1/0": 1_700_000_060}, limit=3, paused_until=1_700_000_000.125, throttled_at=1_699_999_999.5)


@pytest.fixture(params=["fake", "real"])
def store(request: pytest.FixtureRequest) -> PaceStore:
    if request.param == "fake":
        return FakePace()
    aws: Aws = request.getfixturevalue("aws")
    return DynamoDBPace(aws.table()[0])


def test_what_was_stored_is_read(store: PaceStore) -> None:
    assert store.read(["a", "b"]) == {}
    won, stored = store.swap("a", PACE, version=None)
    assert won
    assert store.read(["a", "b"]) == {"a": stored}
    assert stored.pace == PACE


def test_only_the_first_of_two_swaps_is_won(store: PaceStore) -> None:
    _, first = store.swap("a", FREE, version=None)
    lost, found = store.swap("a", PACE, version=None)
    assert (lost, found) == (False, first)
    won, second = store.swap("a", PACE, version=first.version)
    assert won
    assert store.swap("a", FREE, version=first.version) == (False, second)
    assert store.read(["a"])["a"].pace == PACE


def test_an_item_that_is_gone_is_found_to_be(store: PaceStore) -> None:
    assert store.swap("a", FREE, version="of-another-life") == (False, PaceState())


def test_no_more_slots_than_there_are(store: PaceStore) -> None:
    entered: list[float | None] = []

    def race(holder: str) -> None:
        entered.append(PaceTargets(store, most=2).enter(["a"], holder, until=2**40))

    racers = [threading.Thread(target=race, args=(f"holder-{number}",)) for number in range(6)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert entered.count(None) == 2
    assert len(store.read(["a"])["a"].pace.slots) == 2
