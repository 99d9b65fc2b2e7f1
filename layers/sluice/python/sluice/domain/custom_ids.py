"""Which custom ids a file has had so far, in less than 24 bytes of memory for each.

Millions of names do not fit into a function's memory, so of each only a fingerprint of 64 bits is kept. Two names of
the same fingerprint are almost always the same name (of five million different ones, a pair is alike once in a million
files), and whoever must be certain reads again what the first of them was: the :class:`Region` says where that is.
"""

import hashlib
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import Final

import msgspec

# As much of the file as is read again to be certain of one name.
REGION_BYTES: Final = 1_048_576
REGION_NAMES: Final = 1_024
_PRINT_BYTES: Final = 8
_FIRST_SLOTS: Final = 1_024


class Region(msgspec.Struct, frozen=True):
    """The bytes ``start`` to ``end`` (exclusive) of the file: whole lines."""

    start: int
    end: int


class CustomIds:
    """The names of a file, in the order of its lines.

    The fingerprints stand in one array, in that order; a table of hashes beside it holds their places, as Python's own
    dictionaries do it. ``key`` makes the fingerprints another file's differ from this one's, so that nobody can prepare
    names that are alike.
    """

    def __init__(self, key: str, *, fingerprint: Callable[[str], int] | None = None) -> None:
        self._fingerprint = fingerprint or _keyed(key)
        self._prints = array("Q")
        # Places count from 1: a slot of 0 is free. There are always half as many slots again as names, or more.
        self._slots = array("I", bytes(4 * _FIRST_SLOTS))
        # Where regions begin: at which place, and at which byte of the file.
        self._marked_places = array("Q")
        self._marked_bytes = array("Q")

    def __len__(self) -> int:
        return len(self._prints)

    @property
    def memory_bytes(self) -> int:
        """How much memory the names take."""
        arrays = (self._prints, self._slots, self._marked_places, self._marked_bytes)
        return sum(each.itemsize * len(each) for each in arrays)

    def look_alikes(self, name: str, *, at: int) -> list[Region]:
        """Where names of the same fingerprint are; ``at`` is where the line of this one begins."""
        return [self._region(place, at) for place in self._places(self._fingerprint(name))]

    def add(self, name: str, *, at: int) -> None:
        """Remember a name, whose line begins at the byte ``at``."""
        self._mark(at)
        self._insert(self._fingerprint(name))

    def saved(self, *, since: int = 0) -> bytes:
        """The fingerprints behind the first ``since`` ones."""
        return self._prints[since:].tobytes()

    def marks(self) -> tuple[bytes, bytes]:
        """Where regions begin."""
        return self._marked_places.tobytes(), self._marked_bytes.tobytes()

    def restore(self, prints: bytes, marks: tuple[bytes, bytes]) -> None:
        """Add what was :meth:`saved`, and take over its marks."""
        for fingerprint in memoryview(prints).cast("Q"):
            self._insert(fingerprint)
        self._marked_places, self._marked_bytes = array("Q", marks[0]), array("Q", marks[1])

    def _insert(self, fingerprint: int) -> None:
        self._prints.append(fingerprint)
        if len(self._prints) * 3 > len(self._slots) * 2:
            self._grow()
        else:
            self._enter(fingerprint, len(self._prints))

    def _enter(self, fingerprint: int, place: int) -> None:
        slots, most = self._slots, len(self._slots) - 1
        slot = fingerprint & most
        while slots[slot]:
            slot = (slot + 1) & most
        slots[slot] = place

    def _grow(self) -> None:
        # The old slots go before the new ones come: everything that is needed stands in the fingerprints.
        count = 2 * len(self._slots)
        self._slots = array("I")
        self._slots = array("I", bytes(4)) * count
        for place, fingerprint in enumerate(self._prints, start=1):
            self._enter(fingerprint, place)

    def _places(self, fingerprint: int) -> Iterator[int]:
        slots, prints, most = self._slots, self._prints, len(self._slots) - 1
        slot = fingerprint & most
        while place := slots[slot]:
            if prints[place - 1] == fingerprint:
                yield place - 1
            slot = (slot + 1) & most

    def _mark(self, at: int) -> None:
        place = len(self._prints)
        if self._marked_places:
            new = place - self._marked_places[-1] >= REGION_NAMES or at - self._marked_bytes[-1] >= REGION_BYTES
            if not new:
                return
        self._marked_places.append(place)
        self._marked_bytes.append(at)

    def _region(self, place: int, at: int) -> Region:
        mark = bisect_right(self._marked_places, place) - 1
        following = mark + 1
        end = self._marked_bytes[following] if following < len(self._marked_bytes) else at
        return Region(self._marked_bytes[mark], end)


def _keyed(key: str) -> Callable[[str], int]:
    secret = key.encode()

    def fingerprint(name: str) -> int:
        # Half of a surrogate pair, which JSON can spell, is no UTF-8.
        digest = hashlib.blake2b(name.encode(errors="surrogatepass"), digest_size=_PRINT_BYTES, key=secret)
        return int.from_bytes(digest.digest(), "little")

    return fingerprint
