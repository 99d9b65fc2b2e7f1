"""Objects of an S3 bucket that are read in pieces."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, IncompleteReadError
from urllib3.exceptions import HTTPError

from sluice.adapters import aws
from sluice.domain.errors import ConfigurationError, NotFoundError, SluiceError, StateError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

SERVICE: Final = "The object store"
BLOCK_BYTES: Final = 1_048_576
# A connection that breaks without a single byte, so many times in a row, is more than an accident.
MOST_BREAKS: Final = 3
# An answer to HEAD has no body to say it in words.
_MISSING: Final = frozenset({"NoSuchKey", "404"})
_DENIED: Final = frozenset({"403"})
# There is nothing at or behind the place that was asked for.
_BEHIND_THE_END: Final = "InvalidRange"
# How a body breaks off: by botocore's count of its bytes, or underneath.
_BROKEN: Final = (IncompleteReadError, HTTPClientError, HTTPError, OSError)


class S3Ranges:
    """Implements :class:`~sluice.domain.ports.RangeStore`.

    Whoever may not list the bucket is told that access is denied where an object is missing, and gets a
    :class:`~sluice.domain.errors.ConfigurationError` for both.
    https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html
    """

    def __init__(self, client: "S3Client", bucket: str, *, block_bytes: int = BLOCK_BYTES) -> None:
        self._client = client
        self._bucket = bucket
        self._block_bytes = block_bytes

    def size(self, key: str) -> int:
        answer = _called(lambda: self._client.head_object(Bucket=self._bucket, Key=key))
        return int(answer["ContentLength"])

    def read_range(self, key: str, start: int, end: int) -> bytes:
        return b"".join(self._blocks(key, start, end)) if start < end else b""

    def stream(self, key: str, *, start: int = 0) -> Iterator[bytes]:
        return self._blocks(key, start, None)

    def _blocks(self, key: str, start: int, end: int | None) -> Iterator[bytes]:
        """The bytes from ``start`` on, over as many connections as it takes."""
        position, breaks = start, 0
        while True:
            try:
                for block in self._connection(key, position, end):
                    position, breaks = position + len(block), 0
                    yield block
                return
            except _BROKEN as error:
                breaks += 1
                if breaks > MOST_BREAKS:
                    raise StateError(f"{SERVICE} is not available at the moment. Try again.") from error
            if end is not None and position >= end:
                # It broke when everything was there. To a range of nothing S3 answers with the whole object.
                return

    def _connection(self, key: str, start: int, end: int | None) -> Iterator[bytes]:
        wanted = f"bytes={start}-{'' if end is None else end - 1}"
        try:
            answer = _called(lambda: self._client.get_object(Bucket=self._bucket, Key=key, Range=wanted))
        except _NothingThereError:
            return
        body = answer["Body"]
        try:
            while block := body.read(self._block_bytes):
                yield block
        finally:
            # Whoever stops reading leaves a connection that is of no use to the next call.
            body.close()


class _NothingThereError(Exception):
    """The range begins behind the object's end."""


def _called(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except (ClientError, BotoCoreError) as exc:
        code = aws.code_of(exc)
        if code == _BEHIND_THE_END:
            raise _NothingThereError from exc
        raise _translated(exc, code) from exc


def _translated(error: ClientError | BotoCoreError, code: str) -> SluiceError:
    if code in _MISSING:
        return NotFoundError("There is no such object.")
    if code in _DENIED:
        return ConfigurationError(f"{SERVICE} refused a call of Sluice's own: {code}.")
    return aws.translate(error, SERVICE)
