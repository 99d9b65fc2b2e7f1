"""Whatever becomes of a batch, and of those that assemble it: every result is in its files once, in order."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from sluice.adapters import parquet
from sluice.domain.batches import BatchError, BatchStatus, ChunkStatus, OutputFormat
from sluice.domain.deadline import Deadline
from sluice.domain.errors import LeasedError, NotFoundError, StateConflictError, StateError
from sluice.domain.files import FilePurpose
from sluice.domain.ledger import NO_LIMITS
from sluice.domain.ports import Piece
from sluice.services.assemble_batch import CONTENT_TYPES
from sluice.testing.batches import FakeBatches
from tests.unit.sluice.services.assembling import BATCH_ID, DAY, KEY_ID, LEASE_S, NOW, POINTER, WATCH, WATCH_S, World

OUTPUT, ERRORS = f"{BATCH_ID}_output.jsonl", f"{BATCH_ID}_error.jsonl"


@pytest.fixture
def world() -> World:
    return World()


def assert_whole(world: World) -> None:
    """The batch of :func:`filled` is complete."""
    assert world.batch.status is BatchStatus.COMPLETED
    assert world.file(world.batch.output_file_id) == (OUTPUT, b"a\nb\nc\nd\ne\nf\ng\n")
    assert world.file(world.batch.error_file_id) == (ERRORS, b"x\ny\n")


@pytest.fixture
def filled(world: World) -> World:
    world.ended(("abc", "x"), ("", ""), ("d", ""), ("", "y"), ("efg", ""), status=BatchStatus.FINALIZING)
    return world


# ---- what comes of it ----


def test_the_results_of_all_chunks_stand_behind_each_other(filled: World) -> None:
    filled.queue.send(POINTER)
    assert filled.deliver() == []
    assert_whole(filled)
    assert (filled.batch.completed_at, filled.batch.lease_until, filled.batch.progress) == (NOW, None, None)
    assert not filled.queue.bodies


def test_files_say_what_they_are(filled: World) -> None:
    filled.assemble()
    files = [filled.files.files[str(file_id)] for file_id in (filled.batch.output_file_id, filled.batch.error_file_id)]
    assert {file.purpose for file in files} == {FilePurpose.BATCH_OUTPUT}
    assert {(file.key_id, file.created_at, file.expires_at) for file in files} == {(KEY_ID, NOW, NOW + 30 * DAY)}
    assert [file.bytes for file in files] == [14, 4]
    assert {filled.composer.types[file.object_key] for file in files} == {"application/jsonl"}


def test_files_are_kept_for_as_long_as_their_owner_has_said(filled: World) -> None:
    filled.change(output_ttl_s=3600)
    filled.assemble()
    assert {file.expires_at for file in filled.files.files.values()} == {NOW + 3600}


@pytest.mark.parametrize(
    ("contents", "output", "errors"),
    [
        ([("ab", "")], (OUTPUT, b"a\nb\n"), None),
        ([("", "x"), ("", "yz")], None, (ERRORS, b"x\ny\nz\n")),
        ([("", "")], None, None),
    ],
)
def test_a_file_without_a_line_is_not_made(
    world: World, contents: list[tuple[str, str]], output: tuple[str, bytes] | None, errors: tuple[str, bytes] | None
) -> None:
    world.ended(*contents)
    world.assemble()
    assert world.batch.status is BatchStatus.COMPLETED
    assert (world.file(world.batch.output_file_id), world.file(world.batch.error_file_id)) == (output, errors)
    assert len(world.files.files) == (output is not None) + (errors is not None)


def test_parquet_is_joined_as_parquet_wants_it_and_errors_stay_lines(world: World) -> None:
    world.ended(("ab", "x"), ("c", ""), suffix="parquet", output_format=OutputFormat.PARQUET)
    world.assemble()
    assert world.file(world.batch.output_file_id) == (f"{BATCH_ID}_output.parquet", b"<a\nb\nc\n\n\n\n")
    assert world.file(world.batch.error_file_id) == (ERRORS, b"x\n")
    kinds = {file.content_type for file in world.files.files.values()}
    assert kinds == {"application/jsonl", parquet.CONTENT_TYPE} == set(CONTENT_TYPES.values())


def test_parquet_without_an_answer_is_not_made(world: World) -> None:
    world.ended(("", "x"), output_format=OutputFormat.PARQUET)
    world.assemble()
    assert world.batch.output_file_id is None


@pytest.mark.parametrize(
    ("halted", "status", "ends"),
    [
        ("expired", BatchStatus.IN_PROGRESS, BatchStatus.EXPIRED),
        ("cancelled", BatchStatus.CANCELLING, BatchStatus.CANCELLED),
        ("input_file_gone", BatchStatus.IN_PROGRESS, BatchStatus.FAILED),
        ("key_not_valid", BatchStatus.FINALIZING, BatchStatus.FAILED),
        ("something_new", BatchStatus.FINALIZING, BatchStatus.FAILED),
    ],
)
def test_what_ended_early_keeps_what_was_done(
    world: World, halted: str, status: BatchStatus, ends: BatchStatus
) -> None:
    world.ended(("ab", "x"), ("", ""), status=status, halted=halted, halted_at=NOW - 5, chunks=2, lines=90)
    # Chunks that were never given out.
    world.change(chunks=4 if halted != "expired" else 2)
    for number in range(2, world.batch.chunks or 0):
        chunk = msgspec.structs.replace(world.batches.stored_chunks[BATCH_ID, 1], number=number)
        world.batches.stored_chunks[BATCH_ID, number] = msgspec.structs.replace(chunk, status=ChunkStatus.PENDING)
    assert world.assemble()
    assert (world.batch.status, getattr(world.batch, f"{ends.value}_at")) == (ends, NOW)
    assert world.file(world.batch.output_file_id) == (OUTPUT, b"a\nb\n")
    assert world.file(world.batch.error_file_id) == (ERRORS, b"x\n")
    codes = [(error.code, bool(error.message)) for error in world.batch.errors]
    assert codes == ([(halted, True)] if ends is BatchStatus.FAILED else [])


def test_money_that_was_not_needed_goes_back(filled: World) -> None:
    filled.with_money()
    filled.assemble()
    assert filled.batch.held_micro_usd == Decimal(0)
    assert filled.ledger.standing(KEY_ID, NO_LIMITS).total_held_micro_usd == Decimal(0)


# ---- repeated, early, late ----


@pytest.mark.parametrize("status", [BatchStatus.COMPLETED, BatchStatus.FAILED, BatchStatus.CANCELLED])
def test_what_has_ended_stays_as_it_is(filled: World, status: BatchStatus) -> None:
    filled.change(status=status)
    before = filled.batch
    filled.queue.send(POINTER)
    assert filled.deliver() == []
    assert (filled.batch, filled.files.files) == (before, {})


def test_any_number_of_deliveries_make_the_same_files_once(filled: World) -> None:
    for _ in range(3):
        filled.queue.send(POINTER)
    for _ in range(4):
        filled.deliver()
        filled.clock.advance(LEASE_S + 2)
    assert_whole(filled)
    assert (len(filled.files.files), len(filled.queue.bodies), filled.batch.attempts) == (2, 0, 1)


def test_a_message_that_comes_before_the_last_chunk_has_ended_does_nothing(world: World) -> None:
    world.ended(("ab", ""), ("cd", ""), ended=1)
    before = world.batch
    assert world.assemble()
    assert world.batch == before


def test_whoever_ended_the_last_chunk_need_not_have_said_so(filled: World) -> None:
    filled.change(status=BatchStatus.IN_PROGRESS)
    filled.assemble()
    assert_whole(filled)
    assert filled.batch.finalizing_at == NOW


def test_what_another_has_is_waited_for(filled: World) -> None:
    filled.batches.claim(BATCH_ID, [BatchStatus.FINALIZING], now=NOW, lease_until=NOW + 30)
    filled.queue.send(POINTER)
    filled.deliver()
    filled.clock.advance(30)
    assert filled.queue.receive() == []
    filled.clock.advance(1)
    filled.deliver()
    assert_whole(filled)


def test_a_batch_that_is_forgotten_is_an_operators_matter(world: World) -> None:
    with pytest.raises(NotFoundError):
        world.assemble()


def test_results_that_are_not_those_that_were_counted_are_no_output(filled: World) -> None:
    filled.change_chunk(0, completed=2)
    with pytest.raises(StateError) as caught:
        filled.assemble()
    assert caught.value.code == "results_incomplete"
    assert filled.batch.status is BatchStatus.FINALIZING


# ---- cut off ----


class Killed(BaseException):
    """What no ``except Exception`` sees."""


def dying(world: World, on: int) -> Callable[[Piece], None]:
    seen: list[Piece] = []

    def die(piece: Piece) -> None:
        seen.append(piece)
        if len(seen) == on:
            raise Killed

    return die


@pytest.mark.parametrize("on", range(1, 8))
def test_after_a_kill_another_goes_on_where_it_was(filled: World, on: int) -> None:
    filled.composer.on_piece = dying(filled, on)
    with pytest.raises(Killed):
        filled.assemble()
    copied: list[Piece] = []
    filled.composer.on_piece = copied.append
    with pytest.raises(LeasedError):
        filled.assemble()
    filled.clock.advance(LEASE_S)
    assert filled.assemble()
    assert_whole(filled)
    outputs, errors = 5, 2
    # Of the file that was being made when it happened, nothing is copied again.
    assert len(copied) <= outputs + errors - (on - 1 if on <= outputs else on - 1 - outputs)


class Mortal:
    """A store of batches whose caller dies at the ``on``-th call, before it is made or right after."""

    def __init__(self, batches: FakeBatches, on: int, *, after: bool) -> None:
        self._batches = batches
        self._left = on
        self._after = after

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            self._left -= 1
            if not self._left and not self._after:
                raise Killed
            answer = getattr(self._batches, name)(*arguments, **named)
            if not self._left:
                raise Killed
            return answer

        return call


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("on", range(1, 8))
def test_whatever_was_being_written_when_it_died_the_watch_sees_to_the_rest(
    filled: World, on: int, after: bool
) -> None:
    filled.change(status=BatchStatus.IN_PROGRESS)
    mortal: Any = Mortal(filled.batches, on, after=after)
    with pytest.raises(Killed):
        dataclasses.replace(filled.service, batches=mortal).assemble(BATCH_ID, Deadline.after(300, filled.clock))
    filled.queue.send(WATCH)
    for _ in range(4):
        filled.deliver()
        filled.clock.advance(2 * WATCH_S)
    assert_whole(filled)
    assert len(filled.files.files) == 2
    assert not filled.queue.bodies


def test_time_that_is_over_is_no_attempt(filled: World) -> None:
    filled.composer.at_once = 1
    filled.composer.on_piece = lambda _: filled.clock.advance(15)
    filled.queue.send(POINTER)
    rounds = 0
    while filled.queue.bodies:
        rounds += 1
        assert filled.deliver(seconds=45) == []
        assert filled.queue.pointers in ([], [POINTER])
    assert rounds >= 3
    assert_whole(filled)
    assert not filled.reasons.reasons


def test_whoever_assembles_for_long_keeps_the_batch(filled: World) -> None:
    held: list[int] = []

    def slow(_: Piece) -> None:
        filled.clock.advance(25)
        held.append((filled.batch.lease_until or 0) - int(filled.clock()))

    filled.composer.on_piece = slow
    assert filled.assemble(seconds=900)
    assert min(held) > 0
    assert_whole(filled)


def test_one_part_that_is_joined_of_many_pieces_keeps_the_batch_too(filled: World) -> None:
    """Such a part is all or nothing, so the composer cannot stop in the middle of it to have the lease renewed."""
    compose, held = filled.composer.compose, list[int]()

    def unstoppable(*arguments: Any, **options: Any) -> bool:
        return compose(*arguments, **{**options, "deadline": Deadline.after(DAY, filled.clock)})

    def slow(_: Piece) -> None:
        filled.clock.advance(25)
        held.append((filled.batch.lease_until or 0) - int(filled.clock()))

    filled.composer.compose, filled.composer.on_piece = unstoppable, slow  # type: ignore[method-assign]
    assert filled.assemble(seconds=900)
    assert min(held) > 0
    assert_whole(filled)


def test_whoever_was_taken_for_dead_ends_nothing(filled: World) -> None:
    def overtaken(_: Piece) -> None:
        filled.composer.on_piece = lambda _: None
        filled.clock.advance(LEASE_S + 1)
        assert filled.assemble()

    filled.composer.on_piece = overtaken
    with pytest.raises(StateConflictError):
        filled.assemble()
    assert_whole(filled)
    assert len(filled.files.files) == 2


def test_the_batch_is_let_go_when_something_fails(filled: World) -> None:
    filled.composer.failing = StateError("down")
    with pytest.raises(StateError):
        filled.assemble()
    assert filled.batch.lease_until is None
    filled.composer.failing = None
    filled.assemble()
    assert_whole(filled)


def test_a_table_that_is_away_at_the_end_only_delays_it(filled: World) -> None:
    filled.batches.failing["finish"] = StateError("down")
    filled.queue.send(POINTER)
    assert len(filled.deliver()) == 1
    assert filled.files.files == {}
    filled.batches.failing.clear()
    filled.clock.advance(LEASE_S)
    filled.deliver()
    assert_whole(filled)


def test_parquet_that_takes_long_to_join_keeps_the_batch_too(world: World) -> None:
    world.ended(*[("ab", "")] * 8, suffix="parquet", output_format=OutputFormat.PARQUET)
    read, seen = world.ranges.read_range, threading.Event()

    def slow(key: str, start: int, end: int) -> bytes:
        world.clock.advance(25)
        assert (world.batch.lease_until or 0) > world.clock() or seen.is_set()
        return read(key, start, end)

    world.ranges.read_range = slow  # type: ignore[method-assign]
    assert world.service.assemble(BATCH_ID, Deadline.after(9_000, world.clock))
    assert world.batch.status is BatchStatus.COMPLETED


# ---- given up ----


def dead(world: World) -> None:
    for _ in range(20):
        world.deliver()
        if not world.queue.bodies:
            return
        world.clock.advance(world.queue.visibility_s)


def test_what_cannot_be_assembled_is_parked_and_a_redrive_mends_it(filled: World) -> None:
    filled.composer.failing = StateError("The object store is not available.")
    filled.queue.send(POINTER)
    dead(filled)
    assert (filled.batch.parked, filled.batch.status) == (True, BatchStatus.FINALIZING)
    [reason] = filled.reasons.of_queue("assembly", limit=5)
    assert (reason.subject, reason.code) == (BATCH_ID, "state_unavailable")
    filled.composer.failing = None
    filled.queue.redrive()
    filled.deliver()
    assert_whole(filled)
    assert not filled.batch.parked


def test_the_extra_receive_leaves_alone_what_is_in_order(filled: World) -> None:
    for change in ({"status": BatchStatus.COMPLETED}, {"status": BatchStatus.IN_PROGRESS, "ended": 4}):
        filled.change(**change)
        filled.queue.send(msgspec.structs.replace(POINTER, receives=9))
        assert filled.deliver() == []
        assert not filled.batch.parked
    filled.change(status=BatchStatus.FINALIZING, ended=5, lease_until=NOW + 30)
    filled.queue.send(msgspec.structs.replace(POINTER, receives=9))
    assert filled.deliver() == []
    assert len(filled.queue.bodies) == 1
    assert not filled.batch.parked


def test_the_errors_of_a_failed_batch_are_in_words(world: World) -> None:
    world.ended(("a", ""), status=BatchStatus.FINALIZING, halted="input_file_gone")
    world.assemble()
    assert world.batch.errors == (
        BatchError(
            code="input_file_gone", message="The input file was deleted, or has expired, before every line was run."
        ),
    )
