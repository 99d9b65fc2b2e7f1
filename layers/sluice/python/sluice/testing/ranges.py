"""Ranges of objects in memory."""

from collections.abc import Iterator

from sluice.domain.errors import SluiceError
from sluice.testing.objects import FakeObjects


class FakeRanges:
    """Implements :class:`~sluice.domain.ports.RangeStore` over the ``objects`` of a fake object store.

    ``failing`` is raised by every call while it is set, and by a stream that is being read. ``asked`` has the key, the
    start and the end (``None``: up to the end of the object) of all that was read.
    """

    def __init__(self, objects: FakeObjects | None = None, *, block_bytes: int = 64) -> None:
        self.objects = objects or FakeObjects()
        self.failing: SluiceError | None = None
        self.asked: list[tuple[str, int, int | None]] = []
        self._block_bytes = block_bytes

    def size(self, key: str) -> int:
        return len(self._content(key))

    def read_range(self, key: str, start: int, end: int) -> bytes:
        self.asked.append((key, start, end))
        return self._content(key)[start:end]

    def stream(self, key: str, *, start: int = 0) -> Iterator[bytes]:
        self.asked.append((key, start, None))
        return self._blocks(key, start)

    def _blocks(self, key: str, start: int) -> Iterator[bytes]:
        for position in range(start, len(self._content(key)), self._block_bytes):
            yield self._content(key)[position : position + self._block_bytes]

    def _content(self, key: str) -> bytes:
        if self.failing is not None:
            raise self.failing
        return self.objects.get(key)
