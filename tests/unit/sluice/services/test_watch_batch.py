"""The watch: a batch expires in time, what has stalled is sent again, and what is in order is left alone."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from sluice.domain.batches import Batch, BatchPointer, BatchStatus, Chunk, ChunkPointer, ChunkStatus
from sluice.domain.errors import StateError
from tests.unit.sluice.services.assembling import BATCH_ID, DAY, NOW, POINTER, WATCH, WATCH_S, World, planned


@pytest.fixture
def world() -> World:
    return World()


def chunk(number: int, **changes: Any) -> Chunk:
    known = {"start": 0, "end": 1, "first_line": 1, "lines": 1, "updated_at": NOW - 10, **changes}
    return Chunk(batch_id=BATCH_ID, number=number, **known)


def at_work(world: World, *chunks: Chunk, **changes: Any) -> None:
    """A batch of these chunks, of which two may be out at once."""
    ended = sum(each.status is ChunkStatus.ENDED for each in chunks)
    released = min(len(chunks), 2 + ended)
    batch = planned(**{"chunks": len(chunks), "released": released, "ended": ended, "updated_at": NOW - 10, **changes})
    world.add(batch, *chunks)


def look(world: World) -> None:
    """One round of the watch."""
    if not world.queue.bodies:
        world.queue.send(WATCH)
    assert world.deliver() == []


def again(world: World) -> BatchPointer:
    """The message of the next round, after one that was just now."""
    return msgspec.structs.replace(WATCH, looked_at=int(world.clock()))


def sent(world: World) -> list[int]:
    """The chunks whose pointers have been sent since the last time."""
    numbers = [pointer.chunk for pointer in world.chunks.pointers]
    world.chunks.acknowledge(world.chunks.receive(), except_for=[])
    return numbers


# ---- how it goes on ----


def test_it_comes_back_until_the_batch_has_ended(world: World) -> None:
    at_work(world, chunk(0))
    for _ in range(30):
        look(world)
        assert world.queue.pointers == [again(world)]
        assert world.queue.due(again(world)) == world.clock() + WATCH_S
        world.clock.advance(WATCH_S)
        world.change_chunk(0, updated_at=int(world.clock()))
    world.change(status=BatchStatus.COMPLETED)
    look(world)
    assert not world.queue.bodies


def test_the_watch_over_a_batch_that_is_forgotten_ends(world: World) -> None:
    look(world)
    assert not world.queue.bodies
    assert not world.reasons.reasons


def test_a_table_that_is_away_does_not_end_it(world: World) -> None:
    at_work(world, chunk(0))
    world.batches.failing["get"] = StateError("down")
    for _ in range(20):
        look(world)
        world.clock.advance(WATCH_S)
    world.batches.failing.clear()
    look(world)
    assert world.queue.pointers == [again(world)]
    assert not world.queue.dead_letters


def test_it_comes_back_when_the_batch_expires_and_not_later(world: World) -> None:
    at_work(world, chunk(0, lease_until=NOW + 100), expires_at=NOW + 17)
    look(world)
    assert world.queue.due(again(world)) == NOW + 17
    world.clock.advance(17)
    look(world)
    assert (world.batch.halted, world.batch.halted_at) == ("expired", NOW + 17)
    assert world.queue.due(again(world)) == NOW + 17 + WATCH_S


# ---- expiry ----


def test_what_expires_is_halted_and_everything_that_waits_is_sent_at_once(world: World) -> None:
    at_work(
        world,
        chunk(0, status=ChunkStatus.RUNNING, lease_until=NOW + 50),
        chunk(1, parked=True),
        chunk(2),
        expires_at=NOW,
    )
    look(world)
    assert world.batch.halted == "expired"
    # The first is at work and will notice, the third comes when one of the others has ended.
    assert sent(world) == [1]


def test_a_parked_chunk_is_sent_once_for_the_expiry_and_not_for_ever(world: World) -> None:
    at_work(world, chunk(0, parked=True), expires_at=NOW)
    look(world)
    assert sent(world) == [0]
    world.change_chunk(0, updated_at=NOW + 30)  # and parked again
    for _ in range(20):
        world.clock.advance(WATCH_S)
        look(world)
    assert sent(world) == []


def test_one_that_expires_before_it_was_split_is_left_to_the_splitter(world: World) -> None:
    world.add(planned(status=BatchStatus.VALIDATING, chunks=None, released=0, expires_at=NOW))
    look(world)
    assert (world.batch.halted, world.splitting.pointers) == ("expired", [POINTER])


@pytest.mark.parametrize("halted", ["cancelled", "input_file_gone"])
def test_what_was_halted_before_does_not_expire(world: World, halted: str) -> None:
    at_work(world, chunk(0), expires_at=NOW - 5, halted=halted, halted_at=NOW - 20)
    look(world)
    assert world.batch.halted == halted


# ---- what stalls ----


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"status": ChunkStatus.RUNNING, "lease_until": NOW - 1},
        {"status": ChunkStatus.PENDING, "attempts": 3},
    ],
    ids=["never-taken", "worker-lost", "put-back"],
)
def test_a_chunk_that_nobody_has_touched_for_a_round_is_sent_again(world: World, changes: dict[str, Any]) -> None:
    at_work(world, chunk(0, **{**changes, "updated_at": NOW - WATCH_S}), chunk(1))
    look(world)
    assert sent(world) == [0]


@pytest.mark.parametrize(
    "changes",
    [
        {"updated_at": NOW - WATCH_S + 1},
        {"status": ChunkStatus.RUNNING, "lease_until": NOW + 1, "updated_at": NOW - WATCH_S},
        {"status": ChunkStatus.ENDED, "updated_at": NOW - WATCH_S},
        {"parked": True, "updated_at": NOW - WATCH_S},
    ],
    ids=["just-now", "at-work", "ended", "parked"],
)
def test_a_chunk_that_is_in_order_is_left_alone(world: World, changes: dict[str, Any]) -> None:
    at_work(world, chunk(0, **changes), chunk(1), chunk(2))
    look(world)
    assert sent(world) == []


def test_the_next_of_a_lane_is_sent_when_whoever_released_it_could_not(world: World) -> None:
    ended = chunk(0, status=ChunkStatus.ENDED)
    at_work(world, ended, chunk(1), chunk(2, released=True, updated_at=NOW - WATCH_S), chunk(3))
    look(world)
    assert sent(world) == [2]


def test_a_lost_worker_is_replaced_as_soon_as_its_lease_is_over(world: World) -> None:
    lost = {"status": ChunkStatus.RUNNING, "lease_until": NOW, "attempts": 1}
    at_work(world, chunk(0, updated_at=NOW - 5 * WATCH_S - 5, **lost), chunk(1))
    look(world)
    assert sent(world) == [0]


def test_what_only_waits_behind_others_does_not_become_many(world: World) -> None:
    at_work(world, chunk(0, updated_at=NOW))
    for _ in range(130):
        look(world)
        world.clock.advance(WATCH_S)
    assert len(world.chunks.bodies) == len([1, 2, 4, 8, 16, 32, 64, 128])


def test_a_look_that_comes_late_makes_up_for_those_that_it_missed(world: World) -> None:
    at_work(world, chunk(0, updated_at=NOW))
    for _ in range(20):
        world.clock.advance(3 * WATCH_S)
        look(world)
    # After 3, 6, 9, 18 and 33 rounds, which are the first looks after 1 or 2, 4, 8, 16 and 32.
    assert len(world.chunks.bodies) == len([3, 6, 9, 18, 33])


@pytest.mark.parametrize(
    ("changes", "goes"),
    [
        ({"updated_at": NOW - WATCH_S}, True),
        ({"updated_at": NOW - WATCH_S, "lease_until": NOW - 1, "attempts": 1}, True),
        ({"updated_at": NOW - WATCH_S + 1}, False),
        ({"updated_at": NOW - WATCH_S, "lease_until": NOW + 5}, False),
        ({"updated_at": NOW - WATCH_S, "parked": True}, False),
        ({"updated_at": NOW - WATCH_S, "parked": True, "halted": "cancelled", "halted_at": NOW - 5}, True),
        ({"updated_at": NOW - WATCH_S, "status": BatchStatus.CANCELLING, "halted": "cancelled"}, True),
    ],
)
def test_a_batch_that_nobody_splits_is_sent_to_the_splitter(world: World, changes: dict[str, Any], goes: bool) -> None:
    world.add(planned(**{"status": BatchStatus.VALIDATING, "chunks": None, "released": 0, **changes}))
    look(world)
    assert world.splitting.pointers == ([POINTER] if goes else [])
    assert world.queue.pointers == [again(world)]


@pytest.mark.parametrize(
    ("changes", "goes"),
    [
        ({}, True),
        ({"status": BatchStatus.FINALIZING}, True),
        ({"status": BatchStatus.CANCELLING, "halted": "cancelled", "halted_at": NOW - 300}, True),
        ({"status": BatchStatus.FINALIZING, "lease_until": NOW + 1}, False),
        ({"status": BatchStatus.FINALIZING, "updated_at": NOW - 1}, False),
        ({"status": BatchStatus.FINALIZING, "parked": True}, False),
    ],
)
def test_a_drained_batch_that_nobody_assembles_is_sent_to_the_assembler(
    world: World,
    changes: dict[str, Any],
    goes: bool,
) -> None:
    at_work(world, chunk(0, status=ChunkStatus.ENDED), **{"released": 1, "updated_at": NOW - WATCH_S, **changes})
    look(world)
    assert world.queue.pointers == ([POINTER, again(world)] if goes else [again(world)])
    assert sent(world) == []


# ---- what was halted ----


def test_chunks_of_a_cancelled_batch_need_not_wait_for_their_turn(world: World) -> None:
    halted: dict[str, Any] = {"status": BatchStatus.CANCELLING, "halted": "cancelled", "halted_at": NOW - 1}
    at_work(world, chunk(0, updated_at=NOW - 20), chunk(1, updated_at=NOW - 20, parked=True), chunk(2), **halted)
    look(world)
    assert sent(world) == [0, 1]


@pytest.mark.parametrize("parked", [True, False])
@pytest.mark.parametrize("rounds", [3, 5, 700])
@pytest.mark.parametrize("halted", ["cancelled", "expired", "input_file_gone"])
def test_a_halt_is_not_kept_waiting_by_how_long_a_chunk_has_waited(
    world: World, parked: bool, rounds: int, halted: str
) -> None:
    at_work(world, chunk(0, updated_at=NOW - rounds * WATCH_S, parked=parked), halted=halted, halted_at=NOW - 1)
    look(world)
    assert sent(world) == [0]
    for _ in range(8):
        world.clock.advance(WATCH_S)
        look(world)
    assert sent(world) == [0] * len([1, 2, 4, 8])


def test_what_failed_again_after_the_cancellation_is_left_to_the_operator(world: World) -> None:
    halted: dict[str, Any] = {"status": BatchStatus.CANCELLING, "halted": "cancelled", "halted_at": NOW - 500}
    at_work(world, chunk(0, updated_at=NOW - WATCH_S, parked=True), **halted)
    look(world)
    assert sent(world) == []


def test_a_whole_life(world: World) -> None:
    """Everything that can be lost is lost once: the batch ends all the same."""
    at_work(world, *(chunk(number) for number in range(4)), lines=4)
    world.queue.send(WATCH)
    for _ in range(20):
        world.deliver()
        for pointer in [pointer for pointer in world.chunks.pointers if pointer.chunk >= 0]:
            _end(world, pointer)
        world.chunks.acknowledge(world.chunks.receive(), except_for=[])
        world.clock.advance(WATCH_S)
    ended: Batch = world.batch
    assert (ended.status, ended.completed) == (BatchStatus.COMPLETED, 0)
    assert not world.queue.bodies


def _end(world: World, pointer: ChunkPointer) -> None:
    """What a worker does that is killed before it has sent anything on."""
    number = pointer.chunk
    now = int(world.clock())
    if world.batches.claim_chunk(BATCH_ID, number, now=now, lease_until=now + 5) is None:
        return
    following = number + 2
    world.change_chunk(number, status=ChunkStatus.ENDED, lease_until=None)
    world.change(ended=world.batch.ended + 1)
    if following < 4:
        world.change_chunk(following, released=True, updated_at=now)
        world.change(released=world.batch.released + 1)


def test_its_rounds_are_no_longer_than_a_day(world: World) -> None:
    at_work(world, chunk(0), expires_at=NOW + DAY)
    look(world)
    assert world.queue.due(again(world)) <= NOW + DAY
