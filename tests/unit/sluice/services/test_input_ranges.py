"""A file that was deleted, and one that may not be read."""

from collections.abc import Callable

import pytest

from sluice.domain.errors import ConfigurationError, NotFoundError, StateError
from sluice.domain.files import FilePurpose, StoredFile, object_key_of
from sluice.domain.ports import RangeStore
from sluice.services.input_ranges import InputRanges
from sluice.testing.files import FakeFiles
from sluice.testing.ranges import FakeRanges

KEY = object_key_of("key_1", "file_1")
FILE = StoredFile(
    id="file_1",
    key_id="key_1",
    filename="input.jsonl",
    bytes=300,
    purpose=FilePurpose.BATCH,
    created_at=0,
    expires_at=1 << 40,
    object_key=KEY,
)
READS: list[Callable[[RangeStore], object]] = [
    lambda ranges: ranges.size(KEY),
    lambda ranges: ranges.read_range(KEY, 0, 10),
    lambda ranges: list(ranges.stream(KEY)),
]


@pytest.fixture
def ranges() -> FakeRanges:
    fake = FakeRanges()
    fake.objects.put(KEY, b"x" * 300)
    return fake


def test_what_is_there_is_read(ranges: FakeRanges) -> None:
    reader = InputRanges(ranges, FakeFiles())
    assert (reader.size(KEY), reader.read_range(KEY, 1, 3)) == (300, b"xx")
    assert b"".join(reader.stream(KEY, start=100)) == b"x" * 200


@pytest.mark.parametrize("read", READS)
def test_access_denied_to_a_file_that_was_deleted_is_not_found(
    ranges: FakeRanges, read: Callable[[RangeStore], object]
) -> None:
    ranges.failing = ConfigurationError("denied")
    with pytest.raises(NotFoundError):
        read(InputRanges(ranges, FakeFiles()))


@pytest.mark.parametrize("read", READS)
def test_access_denied_to_a_file_that_is_there_is_the_operators_to_mend(
    ranges: FakeRanges, read: Callable[[RangeStore], object]
) -> None:
    ranges.failing = ConfigurationError("denied")
    files = FakeFiles()
    files.create(FILE)
    with pytest.raises(ConfigurationError):
        read(InputRanges(ranges, files))


def test_a_file_that_is_deleted_while_it_is_read_is_not_found(ranges: FakeRanges) -> None:
    blocks = InputRanges(ranges, FakeFiles()).stream(KEY)
    next(blocks)
    ranges.failing = ConfigurationError("denied")
    with pytest.raises(NotFoundError):
        next(blocks)


def test_when_nobody_can_tell_it_is_tried_again(ranges: FakeRanges) -> None:
    ranges.failing = ConfigurationError("denied")
    files = FakeFiles()
    files.failing = StateError("unavailable")
    with pytest.raises(StateError):
        InputRanges(ranges, files).size(KEY)
