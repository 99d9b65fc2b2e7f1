"""Parts keep to S3's rules, hold every byte once and in order, and are copied by S3 wherever it may be."""

from __future__ import annotations

import random

import pytest

from sluice.adapters.s3_parts import (
    COMPOSING_FOLDER,
    COPIED_BYTES,
    FETCHED_BYTES,
    JOINED_BYTES,
    LEAST_BYTES,
    LIMITS,
    MOST_BYTES,
    MOST_PARTS,
    PartLimits,
    PlannedObject,
    PlannedPart,
    plan_objects,
)
from sluice.domain.errors import ConfigurationError
from sluice.domain.ports import Piece

MIB = 1_048_576
KEY = "files/key_1/file_1"
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
S3_LEAST, S3_MOST = 5 * MIB, 5 * 1024 * MIB


def laid_out(pieces: list[Piece]) -> list[tuple[str | None, int, int, bytes]]:
    """Pieces with those that belong together joined, so that only the bytes and their order are left."""
    out: list[tuple[str | None, int, int, bytes]] = []
    for piece in pieces:
        if not piece.size:
            continue
        if out and piece.key is None and out[-1][0] is None:
            out[-1] = (None, 0, out[-1][2] + piece.size, out[-1][3] + piece.literal)
        elif out and piece.key is not None and out[-1][0] == piece.key and out[-1][2] == piece.start:
            out[-1] = (piece.key, out[-1][1], piece.start + piece.size, b"")
        elif piece.key is None:
            out.append((None, 0, piece.size, piece.literal))
        else:
            out.append((piece.key, piece.start, piece.start + piece.size, b""))
    return out


def in_place(objects: list[PlannedObject]) -> list[Piece]:
    """The pieces of the last object, with what is in the others in the place of the others."""
    *intermediates, whole = objects
    within = {made.key: [piece for part in made.parts for piece in part.pieces] for made in intermediates}
    sizes = {made.key: made.size for made in intermediates}
    out: list[Piece] = []
    copied: dict[str, int] = {}
    for piece in (piece for part in whole.parts for piece in part.pieces):
        if piece.key not in within:
            out.append(piece)
            continue
        # An intermediate object is copied from its beginning to its end.
        assert piece.start == copied.get(piece.key, 0)
        out += within[piece.key] if piece.start == 0 else []
        copied[piece.key] = piece.start + piece.size
    assert copied == sizes
    return out


def check_objects(pieces: list[Piece], limits: PartLimits = LIMITS) -> list[PlannedObject]:
    objects = plan_objects(KEY, pieces, limits)
    assert objects[-1].key == KEY
    assert all(made.key.startswith(f"{COMPOSING_FOLDER}{KEY}/") for made in objects[:-1])
    assert len({made.key for made in objects}) == len(objects)
    assert laid_out(in_place(objects)) == laid_out(pieces)
    for made in objects:
        assert [part.number for part in made.parts] == list(range(1, len(made.parts) + 1))
        assert len(made.parts) <= limits.parts
        assert all(S3_LEAST <= part.size <= S3_MOST for part in made.parts[:-1])
        assert all(part.copied is not None or part.size < FETCHED_BYTES for part in made.parts)
    return objects


def check(pieces: list[Piece]) -> list[PlannedPart]:
    """The parts, where one level is enough."""
    [whole] = check_objects(pieces)
    return list(whole.parts)


def fetched(objects: list[PlannedObject]) -> list[int]:
    """The sizes of the parts that go through memory."""
    return [part.size for made in objects for part in made.parts if part.copied is None]


@pytest.mark.parametrize("pieces", [[], [Piece("a", 0)], [Piece(None, 0), Piece("b", 0)]])
def test_no_bytes_are_no_part(pieces: list[Piece]) -> None:
    assert plan_objects(KEY, pieces) == [PlannedObject(KEY, ())]


def test_what_is_large_is_copied_and_nothing_else_touched() -> None:
    parts = check([Piece("a", 10 * MIB), Piece("b", 6 * MIB, start=7), Piece("c", 3)])
    assert [part.copied for part in parts] == [Piece("a", 10 * MIB), Piece("b", 6 * MIB, start=7), None]


def test_a_range_is_copied_only_out_of_what_must_be_larger_than_five_mebibytes() -> None:
    assert [part.copied for part in check([Piece("a", S3_LEAST)])] == [None]
    assert [part.copied for part in check([Piece("a", S3_LEAST + 1)])] == [Piece("a", S3_LEAST + 1)]


def test_what_is_small_is_joined() -> None:
    parts = check([Piece(str(number), MIB) for number in range(20)])
    assert [part.size for part in parts] == [JOINED_BYTES, JOINED_BYTES, 4 * MIB]


def test_the_beginning_of_something_large_fills_up_what_is_before_it() -> None:
    [filled, copied] = check([Piece("small", 100), Piece("large", 50 * MIB)])
    assert filled.pieces == (Piece("small", 100), Piece("large", LEAST_BYTES - 100))
    assert copied.copied == Piece("large", 50 * MIB - LEAST_BYTES + 100, start=LEAST_BYTES - 100)


def test_something_enormous_is_copied_in_several_parts() -> None:
    parts = check([Piece("a", 3 * COPIED_BYTES + 1)])
    assert [part.size for part in parts] == [COPIED_BYTES, COPIED_BYTES, COPIED_BYTES + 1]
    assert all(part.copied for part in parts)


def test_nothing_large_is_left_too_small_to_be_copied() -> None:
    """Or the beginning of each piece would have to be fetched for the end of the one before it, and so on."""
    parts = check([Piece("small", 4), *(Piece(f"large-{number}", 6 * MIB) for number in range(100))])
    assert parts[0].pieces == (Piece("small", 4), Piece("large-0", 6 * MIB))
    assert all(part.copied for part in parts[1:])


def test_literal_bytes_stand_where_they_belong() -> None:
    large = b"x" * (2 * JOINED_BYTES + 3)
    parts = check([Piece(None, 4, literal=b"PAR1"), Piece("a", 9 * MIB), Piece(None, len(large), literal=large)])
    assert parts[0].pieces[0] == Piece(None, 4, literal=b"PAR1")


def test_as_many_parts_as_s3_takes_need_no_second_level() -> None:
    assert fetched(check_objects([Piece(str(number), 16 * MIB) for number in range(9_900)])) == []
    assert len(check([Piece(str(number), 16 * MIB) for number in range(MOST_PARTS)])) == MOST_PARTS


@pytest.mark.parametrize(
    ("count", "size"),
    [(10_001, 16 * MIB), (10_100, 16 * MIB), (40_000, 16 * MIB), (30_000, 6 * MIB), (12_000, 8 * MIB)],
)
def test_more_than_that_is_copied_inside_s3_all_the_same(count: int, size: int) -> None:
    objects = check_objects([Piece(str(number), size) for number in range(count)])
    assert fetched(objects) == []
    assert all(part.size < COPIED_BYTES + LEAST_BYTES for made in objects for part in made.parts)


def test_no_more_than_must_be_is_copied_twice() -> None:
    [first, _] = check_objects([Piece(str(number), 16 * MIB) for number in range(10_100)])
    # Its 107 parts become 7.
    assert len(first.parts) == 107


@pytest.mark.parametrize(("count", "size"), [(200_000, MIB), (1_000_000, 300)])
def test_what_is_small_is_fetched_by_little_however_much_it_is(count: int, size: int) -> None:
    objects = check_objects([Piece(str(number), size) for number in range(count)])
    assert sum(fetched(objects)) == count * size
    assert max(fetched(objects)) == JOINED_BYTES


def test_large_among_many_small_is_copied() -> None:
    pieces = [piece for number in range(12_000) for piece in (Piece(f"a{number}", 16 * MIB), Piece(f"b{number}", MIB))]
    assert sum(fetched(check_objects(pieces))) <= 12_000 * LEAST_BYTES


def test_the_largest_object_is_one_of_whatever_it_is_made() -> None:
    [whole] = check_objects([Piece("a", MOST_BYTES)])
    assert fetched([whole]) == []
    many = MOST_BYTES // (64 * MIB)
    assert fetched(check_objects([Piece(str(number), 64 * MIB) for number in range(many)])) == []
    with pytest.raises(ConfigurationError):
        plan_objects(KEY, [Piece("a", MOST_BYTES), Piece("b", 1)])


def test_what_would_need_a_third_level_is_refused() -> None:
    with pytest.raises(ConfigurationError):
        plan_objects(KEY, [Piece(str(number), 6 * MIB) for number in range(50)], PartLimits(parts=3))


def test_an_intermediate_object_is_known_by_what_is_in_it() -> None:
    def first_of(pieces: list[Piece], key: str = KEY) -> str:
        return plan_objects(key, pieces, PartLimits(parts=5))[0].key

    pieces = [Piece(str(number), 6 * MIB) for number in range(8)]
    assert first_of(pieces) == first_of(list(pieces))
    others = [pieces[::-1], [Piece("x", 6 * MIB), *pieces[1:]], [Piece("0", 6 * MIB, start=1), *pieces[1:]]]
    assert len({first_of(pieces), first_of(pieces, "files/key_1/file_2"), *map(first_of, others)}) == 5


def test_the_same_pieces_are_always_planned_alike() -> None:
    pieces = [Piece(str(number), number * 100_003) for number in range(300)]
    for limits in (LIMITS, PartLimits(parts=20)):
        assert plan_objects(KEY, pieces, limits) == plan_objects(KEY, list(pieces), limits)


@pytest.mark.parametrize("seed", range(200))
def test_whatever_the_pieces_the_rules_are_kept(seed: int) -> None:
    choose = random.Random(seed)
    sizes = [0, 1, 100, MIB, S3_LEAST - 1, S3_LEAST, LEAST_BYTES, LEAST_BYTES + 1, 7 * MIB, 8 * MIB, 300 * MIB]

    def piece(number: int) -> Piece:
        if choose.random() < 0.1:
            literal = bytes([number % 256]) * choose.choice([0, 1, 4096])
            return Piece(None, len(literal), literal=literal)
        return Piece(f"object-{number}", choose.choice(sizes), start=choose.choice([0, 17]))

    pieces = [piece(number) for number in range(choose.randrange(60))]
    check(pieces)
    check_objects(pieces, PartLimits(parts=12, copied_bytes=20 * MIB))
