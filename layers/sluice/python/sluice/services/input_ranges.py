"""The input files of batches, read in pieces: what was deleted is told from what may not be read."""

from collections.abc import Callable, Iterator
from typing import TypeVar

from sluice.domain.errors import ConfigurationError, NotFoundError
from sluice.domain.files import FILES_FOLDER
from sluice.domain.ports import FileStore, RangeStore

T = TypeVar("T")


class InputRanges:
    """Implements :class:`~sluice.domain.ports.RangeStore` for objects of files.

    S3 tells only those who may list a bucket, which no function may, that an object is not there; to others it says
    that access is denied. Whether it was deleted is asked of the table then, so that a permission that is missing never
    passes for a file that is.
    """

    def __init__(self, ranges: RangeStore, files: FileStore) -> None:
        self._ranges = ranges
        self._files = files

    def size(self, key: str) -> int:
        return self._told(key, lambda: self._ranges.size(key))

    def read_range(self, key: str, start: int, end: int) -> bytes:
        return self._told(key, lambda: self._ranges.read_range(key, start, end))

    def stream(self, key: str, *, start: int = 0) -> Iterator[bytes]:
        blocks = self._told(key, lambda: self._ranges.stream(key, start=start))
        while (block := self._told(key, lambda: next(blocks, None))) is not None:
            yield block

    def _told(self, key: str, read: Callable[[], T]) -> T:
        try:
            return read()
        except ConfigurationError as error:
            if self._is_there(key):
                raise
            raise NotFoundError("The file has been deleted, or has expired.") from error

    def _is_there(self, key: str) -> bool:
        key_id, _, file_id = key.removeprefix(FILES_FOLDER).partition("/")
        return self._files.get(key_id, file_id) is not None
