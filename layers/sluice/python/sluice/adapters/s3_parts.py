"""What parts an S3 multipart upload is to have, so that S3 itself copies as many bytes as its rules allow.

Every part but the last has 5 MiB or more, there are 10,000 at most, and a part is copied from one object or sent by us:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html. So what is large is copied, and what is small is
fetched and joined; of something large that follows something small, the beginning fills the small up.

What would have more parts than that is made in two levels: as many of its first parts as are too many become
intermediate objects, of 10,000 parts at most, which are then copied in far fewer and larger parts.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from sluice.domain.errors import ConfigurationError
from sluice.domain.ports import Piece

_MIB: Final = 1_048_576
# A range can only be copied out of an object that is larger than 5 MiB, which it is if the range itself is.
# https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPartCopy.html
LEAST_BYTES: Final = 5 * _MIB + 1
# What is sent by us goes through memory.
JOINED_BYTES: Final = 8 * _MIB
# More is fetched for a part only where the rest of a piece would be too small to be copied; never as much as this.
FETCHED_BYTES: Final = 2 * LEAST_BYTES
# S3 copies up to 5 GiB at once, which takes minutes; of less, more is done when the time is over.
COPIED_BYTES: Final = 256 * _MIB
MOST_PARTS: Final = 10_000
# What S3 took for years; it takes ten times as much by now. So much needs copies of a gigabyte, and no third level.
MOST_BYTES: Final = 5 * 1024 * 1024 * _MIB
# Where the intermediate objects are, which the bucket's lifecycle deletes.
COMPOSING_FOLDER: Final = "composing/"


class PartLimits(msgspec.Struct, frozen=True):
    """How many ``parts`` an object may have, and how many bytes S3 is to copy at once if that is enough."""

    parts: int = MOST_PARTS
    copied_bytes: int = COPIED_BYTES


LIMITS: Final = PartLimits()


class PlannedPart(msgspec.Struct, frozen=True):
    """One part, counted from 1: the ``pieces`` behind each other. None of them is empty."""

    number: int
    pieces: tuple[Piece, ...]

    @property
    def size(self) -> int:
        """Bytes of the part."""
        return sum(piece.size for piece in self.pieces)

    @property
    def copied(self) -> Piece | None:
        """What S3 can copy by itself, if that is the whole part."""
        [first, *others] = self.pieces
        return first if not others and first.key is not None and first.size >= LEAST_BYTES else None


class PlannedObject(msgspec.Struct, frozen=True):
    """An object under ``key``, and what it is made of. One without bytes has no parts."""

    key: str
    parts: tuple[PlannedPart, ...]

    @property
    def size(self) -> int:
        """Bytes of the object."""
        return sum(part.size for part in self.parts)


def plan_objects(key: str, pieces: Sequence[Piece], limits: PartLimits = LIMITS) -> list[PlannedObject]:
    """The objects to be made, in this order. The last is ``key``, of all ``pieces``; the others are copied into it.

    Always the same for the same key and pieces. The key of an intermediate object says what is in it.

    :raises ConfigurationError: it would be larger than :data:`MOST_BYTES`, or need a third level.
    """
    size = sum(piece.size for piece in pieces)
    # So large that copies are half of all parts at most, which leaves room for parts that are smaller.
    copied_bytes = max(limits.copied_bytes, 2 * size // limits.parts)
    parts = list(_parts(pieces, copied_bytes))
    groups = list(_groups(parts, limits.parts, copied_bytes))
    intermediates = [_planned(_intermediate_key(key, group), group) for group in groups]
    copies = [(piece,) for made in intermediates for piece in _ranges(Piece(made.key, made.size), copied_bytes)]
    whole = _planned(key, [*copies, *parts[sum(map(len, groups)) :]])
    if size > MOST_BYTES or len(whole.parts) > limits.parts:
        raise ConfigurationError(f"{size} bytes in {len(pieces)} pieces are more than can be put together in S3.")
    return [*intermediates, whole]


def _parts(pieces: Sequence[Piece], copied_bytes: int) -> Iterator[tuple[Piece, ...]]:
    """The pieces of each part, however many parts that are."""
    joined: list[Piece] = []
    size = 0
    for piece in pieces:
        rest = piece
        while rest.size:
            large = rest.key is not None and rest.size >= LEAST_BYTES
            if large and not size:
                yield from ((part,) for part in _ranges(rest, copied_bytes))
                break
            # Something large waits no longer than until what is before it may stand alone.
            enough = LEAST_BYTES if large else JOINED_BYTES
            head, rest = _filling(rest, max(0, enough - size), large=large)
            joined += [head] if head.size else []
            size += head.size
            if size >= enough:
                yield tuple(joined)
                joined, size = [], 0
    if joined:
        yield tuple(joined)


def _filling(piece: Piece, size: int, *, large: bool) -> tuple[Piece, Piece]:
    """What of a piece fills a part up that lacks ``size`` bytes, and what is left of the piece."""
    # What is left too small to be copied would have to be fetched too, and a part of the next piece with it.
    whole = large and piece.size - size < LEAST_BYTES
    return _split(piece, piece.size if whole else size)


def _ranges(piece: Piece, copied_bytes: int) -> Iterator[Piece]:
    """A large piece as parts that S3 can copy, none of them too small."""
    while piece.size >= copied_bytes + LEAST_BYTES:
        head, piece = _split(piece, copied_bytes)
        yield head
    yield piece


def _groups(parts: Sequence[tuple[Piece, ...]], most: int, copied_bytes: int) -> Iterator[list[tuple[Piece, ...]]]:
    """The first parts by intermediate objects: no more than it takes to have ``most`` parts with their copies."""
    excess, start = len(parts) - most, 0
    while excess > 0 and start < len(parts):
        end, size, saved = start, 0, 0
        while saved < excess and end < min(len(parts), start + most):
            size += sum(piece.size for piece in parts[end])
            end += 1
            saved = end - start - _count(size, copied_bytes)
        yield list(parts[start:end])
        excess, start = excess - saved, end


def _count(size: int, copied_bytes: int) -> int:
    """How many :func:`_ranges` something of ``size`` bytes has."""
    return max(1, (size - LEAST_BYTES) // copied_bytes + 1)


def _planned(key: str, parts: Sequence[tuple[Piece, ...]]) -> PlannedObject:
    return PlannedObject(key, tuple(PlannedPart(number, pieces) for number, pieces in enumerate(parts, start=1)))


def _intermediate_key(key: str, parts: Sequence[tuple[Piece, ...]]) -> str:
    digest = hashlib.sha256(msgspec.msgpack.encode(parts)).hexdigest()
    return f"{COMPOSING_FOLDER}{key}/{digest}"


def _split(piece: Piece, size: int) -> tuple[Piece, Piece]:
    """The first ``size`` bytes of a piece, and the others."""
    size = min(size, piece.size)
    head = Piece(piece.key, size, piece.start, piece.literal[:size])
    return head, Piece(piece.key, piece.size - size, piece.start + size, piece.literal[size:])
