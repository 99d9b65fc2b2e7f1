"""Objects read in pieces, in memory and in S3."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sluice.adapters.s3_objects import S3Objects
from sluice.adapters.s3_ranges import S3Ranges
from sluice.domain.errors import NotFoundError
from sluice.domain.ports import ObjectStore, RangeStore
from sluice.testing.objects import FakeObjects
from sluice.testing.ranges import FakeRanges
from tests.contract.state.conftest import Aws

CONTENT = bytes(range(256)) * 10_000


class Stores:
    def __init__(self, objects: ObjectStore, ranges: RangeStore) -> None:
        self.objects = objects
        self.ranges = ranges


@pytest.fixture(params=["fake", "real"])
def stores(request: pytest.FixtureRequest) -> Stores:
    if request.param == "fake":
        objects = FakeObjects()
        return Stores(objects, FakeRanges(objects, block_bytes=1_000_000))
    aws: Aws = request.getfixturevalue("aws")
    bucket = aws.bucket()
    return Stores(S3Objects(aws.client("s3"), bucket), S3Ranges(aws.client("s3"), bucket, block_bytes=1_000_000))


def test_an_object_has_a_size(stores: Stores) -> None:
    for content in (b"", b"x", CONTENT):
        stores.objects.put("a/key", content)
        assert stores.ranges.size("a/key") == len(content)


@pytest.mark.parametrize(
    ("start", "end"), [(0, 1), (0, 0), (5, 5), (255, 1_000_001), (0, len(CONTENT)), (10, len(CONTENT) + 100)]
)
def test_a_range_is_just_these_bytes(stores: Stores, start: int, end: int) -> None:
    stores.objects.put("key", CONTENT)
    assert stores.ranges.read_range("key", start, end) == CONTENT[start:end]


@pytest.mark.parametrize("start", [0, 1, 1_500_000, len(CONTENT) - 1, len(CONTENT)])
def test_a_stream_begins_where_it_is_asked_to(stores: Stores, start: int) -> None:
    stores.objects.put("key", CONTENT)
    assert b"".join(stores.ranges.stream("key", start=start)) == CONTENT[start:]


def test_nothing_comes_of_an_empty_object(stores: Stores) -> None:
    stores.objects.put("key", b"")
    assert list(stores.ranges.stream("key")) == []


@pytest.mark.parametrize(
    "read",
    [
        lambda ranges: ranges.size("never"),
        lambda ranges: ranges.read_range("never", 0, 10),
        lambda ranges: list(ranges.stream("never")),
    ],
    ids=["size", "range", "stream"],
)
def test_what_is_not_there_is_not_found(stores: Stores, read: Callable[[RangeStore], object]) -> None:
    with pytest.raises(NotFoundError):
        read(stores.ranges)
