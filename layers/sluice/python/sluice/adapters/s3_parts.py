"""What parts an S3 multipart upload is to have, so that S3 itself copies as many bytes as its rules allow.

Every part but the last has 5 MiB or more, there are 10,000 at most, and a part is copied from one object or sent by us:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html. So what is large is copied, and what is small is
fetched and joined; of something large that follows something small, the beginning fills the small up.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from sluice.domain.ports import Piece

_MIB: Final = 1_048_576
# A range can only be copied out of an object that is larger than 5 MiB, which it is if the range itself is.
# https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPartCopy.html
LEAST_BYTES: Final = 5 * _MIB + 1
# What is sent by us goes through memory.
JOINED_BYTES: Final = 8 * _MIB
# S3 copies up to 5 GiB at once, which takes minutes; of less, more is done when the time is over.
COPIED_BYTES: Final = 256 * _MIB
MOST_PARTS: Final = 10_000


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


def plan_parts(pieces: Sequence[Piece]) -> list[PlannedPart]:
    """The parts that make up ``pieces``; always the same for the same pieces. None when there are no bytes."""
    factor = 1
    while len(parts := list(_parts(pieces, factor))) > MOST_PARTS:
        factor *= 2
    return [PlannedPart(number, part) for number, part in enumerate(parts, start=1)]


def _parts(pieces: Sequence[Piece], factor: int) -> Iterator[tuple[Piece, ...]]:
    least, full, most = LEAST_BYTES * factor, JOINED_BYTES * factor, COPIED_BYTES * factor
    joined: list[Piece] = []
    size = 0
    for piece in pieces:
        rest = piece
        while rest.size:
            large = rest.key is not None and rest.size >= least
            if large and not size:
                head, rest = _split(rest, most)
                yield (head,)
                continue
            # Something large waits no longer than until what is before it may stand alone.
            head, rest = _split(rest, max(0, (least if large else full) - size))
            joined += [head] if head.size else []
            size += head.size
            if size >= (least if large else full):
                yield tuple(joined)
                joined, size = [], 0
    if joined:
        yield tuple(joined)


def _split(piece: Piece, size: int) -> tuple[Piece, Piece]:
    """The first ``size`` bytes of a piece, and the others."""
    size = min(size, piece.size)
    head = Piece(piece.key, size, piece.start, piece.literal[:size])
    return head, Piece(piece.key, piece.size - size, piece.start + size, piece.literal[size:])
