"""Objects of an S3 bucket, put together out of others inside S3."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from sluice.adapters import aws
from sluice.adapters.s3_parts import PlannedPart, plan_parts
from sluice.adapters.s3_ranges import S3Ranges
from sluice.domain.deadline import Deadline
from sluice.domain.errors import ConfigurationError, NotFoundError, SluiceError
from sluice.domain.ports import Piece
from sluice.telemetry import tracing

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

SERVICE: Final = "The object store"
# How the parts are planned is part of what is begun: an upload that was planned otherwise is not gone on with.
PLAN: Final = "1."
# What is fetched goes through memory, a part for each.
AT_ONCE: Final = 8
_NO_UPLOAD: Final = "NoSuchUpload"


class S3Composer:
    """Implements :class:`~sluice.domain.ports.Composer` by multipart uploads.

    An upload that nobody goes on with is cleared away by the bucket's lifecycle. Memory: what ``AT_ONCE`` parts take
    whose pieces are too small to be copied, 8 MiB each (more of a file that would have too many parts then).
    """

    def __init__(self, client: "S3Client", bucket: str) -> None:
        self._client = client
        self._bucket = bucket
        self._ranges = S3Ranges(client, bucket)

    def compose(
        self,
        key: str,
        pieces: Sequence[Piece],
        *,
        content_type: str,
        begun: str | None,
        on_begun: Callable[[str], None],
        deadline: Deadline,
        look: Callable[[], None] = lambda: None,
    ) -> bool:
        parts = plan_parts(pieces)
        if len(parts) <= 1 and not any(part.copied for part in parts):
            body = self._gathered(parts[0].pieces if parts else (), look)
            self._call("put_object", Key=key, Body=body, ContentType=content_type)
            return True
        size = sum(part.size for part in parts)
        upload = begun.removeprefix(PLAN) if begun and begun.startswith(PLAN) else None
        tags = self._tags(key, upload, parts) if upload else None
        if tags is None and upload and self._is_there(key, size):
            return True
        if tags is None or upload is None:
            answer = self._call("create_multipart_upload", Key=key, ContentType=content_type)
            upload, tags = str(answer["UploadId"]), {}
            on_begun(PLAN + upload)
        missing = [part for part in parts if part.number not in tags]
        tags |= self._transfer(key, upload, missing, deadline, look)
        return len(tags) == len(parts) and self._complete(key, upload, tags, size)

    def _tags(self, key: str, upload: str, parts: Sequence[PlannedPart]) -> dict[int, str] | None:
        """The entity tags of the parts that are there, by number; ``None`` if there is no such upload any more."""
        planned = {part.number: part.size for part in parts}
        try:
            listed = list(self._listed(key, upload))
        except _NoUploadError:
            return None
        return {part["PartNumber"]: part["ETag"] for part in listed if planned.get(part["PartNumber"]) == part["Size"]}

    def _listed(self, key: str, upload: str) -> Iterator[Any]:
        marker = 0
        while True:
            answer = self._call("list_parts", Key=key, UploadId=upload, PartNumberMarker=marker)
            yield from answer.get("Parts", [])
            if not answer.get("IsTruncated"):
                return
            marker = int(answer["NextPartNumberMarker"])

    def _transfer(
        self, key: str, upload: str, parts: Sequence[PlannedPart], deadline: Deadline, look: Callable[[], None]
    ) -> dict[int, str]:
        """Make these parts, several at once: the entity tags of those that were made in time, by number."""
        tags: dict[int, str] = {}
        missing: SimpleQueue[PlannedPart] = SimpleQueue()
        for part in parts:
            missing.put(part)

        def work() -> None:
            while not deadline.expired:
                try:
                    part = missing.get_nowait()
                except Empty:
                    return
                try:
                    tags[part.number] = self._make(key, upload, part, look)
                except BaseException:
                    # The others have nothing to go on for.
                    _drain(missing)
                    raise

        with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
            running = [pool.submit(tracing.carried(work)) for _ in range(min(AT_ONCE, len(parts)))]
        for future in running:
            future.result()
        return tags

    def _make(self, key: str, upload: str, part: PlannedPart, look: Callable[[], None]) -> str:
        if (piece := part.copied) is None:
            body = b"".join(self._content(piece, look) for piece in part.pieces)
            answer = self._call("upload_part", Key=key, UploadId=upload, PartNumber=part.number, Body=body)
            return str(answer["ETag"])
        look()
        answer = self._call(
            "upload_part_copy",
            Key=key,
            UploadId=upload,
            PartNumber=part.number,
            CopySource={"Bucket": self._bucket, "Key": piece.key},
            CopySourceRange=f"bytes={piece.start}-{piece.start + piece.size - 1}",
        )
        return str(answer["CopyPartResult"]["ETag"])

    def _complete(self, key: str, upload: str, tags: dict[int, str], size: int) -> bool:
        listed = [{"PartNumber": number, "ETag": tag} for number, tag in sorted(tags.items())]
        try:
            self._call("complete_multipart_upload", Key=key, UploadId=upload, MultipartUpload={"Parts": listed})
        except _NoUploadError as exc:
            # The answer to an earlier call was lost, or another has been faster.
            if not self._is_there(key, size):
                raise aws.translate(exc.error, SERVICE) from exc.error
        return True

    def _gathered(self, pieces: Sequence[Piece], look: Callable[[], None]) -> bytes:
        """The bytes of these pieces. There may be thousands of a few bytes, so they are fetched several at once."""
        if not pieces:
            return b""
        fetch = tracing.carried(lambda piece: self._content(piece, look))
        with ThreadPoolExecutor(max_workers=min(AT_ONCE, len(pieces))) as pool:
            return b"".join(pool.map(fetch, pieces))

    def _content(self, piece: Piece, look: Callable[[], None]) -> bytes:
        if piece.key is None:
            return piece.literal
        look()
        return self._ranges.read_range(piece.key, piece.start, piece.start + piece.size)

    def _is_there(self, key: str, size: int) -> bool:
        try:
            return self._ranges.size(key) == size
        except (NotFoundError, ConfigurationError):
            # To those who may not list the bucket, S3 says that access is denied.
            return False

    def _call(self, operation: str, **parameters: Any) -> Any:
        try:
            return getattr(self._client, operation)(Bucket=self._bucket, **parameters)
        except (ClientError, BotoCoreError) as exc:
            raise _translated(exc) from exc


class _NoUploadError(Exception):
    """The upload was completed or cleared away."""

    def __init__(self, error: ClientError | BotoCoreError) -> None:
        super().__init__(_NO_UPLOAD)
        self.error = error


def _translated(error: ClientError | BotoCoreError) -> SluiceError | _NoUploadError:
    code = aws.code_of(error)
    if code == _NO_UPLOAD:
        return _NoUploadError(error)
    if code == "NoSuchKey":
        return NotFoundError("There is no such object.")
    return aws.translate(error, SERVICE)


def _drain(parts: SimpleQueue[PlannedPart]) -> None:
    while not parts.empty():
        try:
            parts.get_nowait()
        except Empty:
            return
