"""Reading objects in pieces, over connections that break."""

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import IncompleteReadError, ReadTimeoutError, ResponseStreamingError
from botocore.stub import Stubber

from sluice.adapters.s3_ranges import MOST_BREAKS, S3Ranges
from sluice.domain.errors import ConfigurationError, NotFoundError, SluiceError, StateError

CONTENT = bytes(range(256)) * 4
BREAKS: list[Exception] = [
    IncompleteReadError(actual_bytes=1, expected_bytes=2),
    ReadTimeoutError(endpoint_url="url"),
    ResponseStreamingError(error=OSError()),
]


class Body:
    """A body that breaks after so many bytes, unless that is behind its end."""

    def __init__(self, content: bytes, *, breaks_after: int, error: Exception) -> None:
        self._content = content
        self._left = breaks_after
        self._error = error
        self.closed = False

    def read(self, size: int) -> bytes:
        if self._content and self._left <= 0:
            raise self._error
        piece = self._content[: min(size, self._left)]
        self._content, self._left = self._content[len(piece) :], self._left - len(piece)
        return piece

    def close(self) -> None:
        self.closed = True


class Client:
    """An S3 client whose connections each last for so many bytes."""

    def __init__(self, *lasting: int, error: Exception = BREAKS[0]) -> None:
        self._lasting = list(lasting)
        self._error = error
        self.ranges: list[str] = []
        self.bodies: list[Body] = []

    def get_object(self, **asked: str) -> dict[str, Any]:
        self.ranges.append(asked["Range"])
        first, _, last = asked["Range"].removeprefix("bytes=").partition("-")
        content = CONTENT[int(first) : int(last) + 1 if last else None]
        lasting = self._lasting.pop(0) if self._lasting else len(CONTENT)
        self.bodies.append(Body(content, breaks_after=lasting, error=self._error))
        return {"Body": self.bodies[-1]}


def ranges(client: Any) -> S3Ranges:
    return S3Ranges(client, "bucket", block_bytes=100)


@pytest.mark.parametrize("error", BREAKS, ids=lambda error: type(error).__name__)
def test_a_connection_that_breaks_is_made_again_where_it_broke(error: Exception) -> None:
    client = Client(150, 0, 0, 300, error=error)
    assert b"".join(ranges(client).stream("key", start=10)) == CONTENT[10:]
    assert client.ranges == [f"bytes={start}-" for start in (10, 160, 160, 160, 460)]
    assert all(body.closed for body in client.bodies)


def test_a_range_is_whole_however_often_its_connection_breaks() -> None:
    client = Client(30, 30, 30, 30)
    assert ranges(client).read_range("key", 100, 300) == CONTENT[100:300]
    assert client.ranges[:2] == ["bytes=100-299", "bytes=130-299"]


class BreaksAtTheEnd(Body):
    """A body whose connection breaks when every byte has come."""

    def read(self, size: int) -> bytes:
        piece = super().read(size)
        if not piece:
            raise self._error
        return piece


def test_a_range_whose_connection_breaks_behind_its_last_byte_is_whole() -> None:
    bodies = [BreaksAtTheEnd(CONTENT[100:300], breaks_after=len(CONTENT), error=BREAKS[0])]

    class Once:
        def get_object(self, **_: str) -> dict[str, Any]:
            # S3 takes no notice of a range that ends before it begins.
            return {"Body": bodies.pop() if bodies else Body(CONTENT, breaks_after=len(CONTENT), error=BREAKS[0])}

    assert ranges(Once()).read_range("key", 100, 300) == CONTENT[100:300]


def test_connections_that_bring_nothing_are_not_made_for_ever() -> None:
    client = Client(*[0] * 100)
    with pytest.raises(StateError):
        list(ranges(client).stream("key"))
    assert len(client.ranges) == MOST_BREAKS + 1


def test_blocks_are_no_larger_than_wanted() -> None:
    assert {len(block) for block in ranges(Client()).stream("key")} == {100, len(CONTENT) % 100}


def test_who_stops_reading_leaves_no_connection_open() -> None:
    client = Client()
    blocks: Any = ranges(client).stream("key")
    next(blocks)
    blocks.close()
    assert client.bodies[0].closed


@pytest.fixture
def stub() -> Iterator[Stubber]:
    with Stubber(boto3.client("s3", region_name="us-east-1")) as stub:
        yield stub
        stub.assert_no_pending_responses()


@pytest.mark.parametrize(
    ("code", "kind"),
    [("NoSuchKey", NotFoundError), ("AccessDenied", ConfigurationError), ("SlowDown", StateError)],
)
def test_what_s3_says_of_an_object_that_it_does_not_give(stub: Stubber, code: str, kind: type[SluiceError]) -> None:
    store = ranges(stub.client)
    for read in (lambda: store.read_range("key", 0, 1), lambda: list(store.stream("key"))):
        stub.add_client_error("get_object", code)
        with pytest.raises(kind):
            read()


@pytest.mark.parametrize(("code", "kind"), [("404", NotFoundError), ("403", ConfigurationError), ("503", StateError)])
def test_an_answer_without_words_means_the_same(stub: Stubber, code: str, kind: type[SluiceError]) -> None:
    stub.add_client_error("head_object", code)
    with pytest.raises(kind):
        ranges(stub.client).size("key")
