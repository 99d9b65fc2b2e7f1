"""Parts keep to S3's rules, hold every byte once and in order, and are copied by S3 wherever it may be."""

from __future__ import annotations

import random

import pytest

from sluice.adapters.s3_parts import COPIED_BYTES, JOINED_BYTES, LEAST_BYTES, MOST_PARTS, PlannedPart, plan_parts
from sluice.domain.ports import Piece

MIB = 1_048_576
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


def check(pieces: list[Piece]) -> list[PlannedPart]:
    parts = plan_parts(pieces)
    assert laid_out([piece for part in parts for piece in part.pieces]) == laid_out(pieces)
    assert [part.number for part in parts] == list(range(1, len(parts) + 1))
    assert len(parts) <= MOST_PARTS
    assert all(S3_LEAST <= part.size <= S3_MOST for part in parts[:-1])
    for part in parts:
        assert part.copied is not None or part.size <= max(JOINED_BYTES, LEAST_BYTES) or len(parts) > MOST_PARTS / 3
    return parts


@pytest.mark.parametrize("pieces", [[], [Piece("a", 0)], [Piece(None, 0), Piece("b", 0)]])
def test_no_bytes_are_no_part(pieces: list[Piece]) -> None:
    assert plan_parts(pieces) == []


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
    assert [part.size for part in parts] == [COPIED_BYTES, COPIED_BYTES, COPIED_BYTES, 1]


def test_literal_bytes_stand_where_they_belong() -> None:
    large = b"x" * (2 * JOINED_BYTES + 3)
    parts = check([Piece(None, 4, literal=b"PAR1"), Piece("a", 9 * MIB), Piece(None, len(large), literal=large)])
    assert parts[0].pieces[0] == Piece(None, 4, literal=b"PAR1")


@pytest.mark.parametrize(("count", "size"), [(30_000, 6 * MIB), (200_000, MIB), (12_000, 8 * MIB)])
def test_there_are_never_more_parts_than_s3_takes(count: int, size: int) -> None:
    parts = check([Piece(str(number), size) for number in range(count)])
    assert sum(part.size for part in parts) == count * size


def test_the_same_pieces_are_always_planned_alike() -> None:
    pieces = [Piece(str(number), number * 100_003) for number in range(300)]
    assert plan_parts(pieces) == plan_parts(list(pieces))


@pytest.mark.parametrize("seed", range(200))
def test_whatever_the_pieces_the_rules_are_kept(seed: int) -> None:
    choose = random.Random(seed)
    sizes = [0, 1, 100, MIB, S3_LEAST - 1, S3_LEAST, LEAST_BYTES, LEAST_BYTES + 1, 7 * MIB, 8 * MIB, 300 * MIB]

    def piece(number: int) -> Piece:
        if choose.random() < 0.1:
            literal = bytes([number % 256]) * choose.choice([0, 1, 4096])
            return Piece(None, len(literal), literal=literal)
        return Piece(f"object-{number}", choose.choice(sizes), start=choose.choice([0, 17]))

    check([piece(number) for number in range(choose.randrange(60))])
