"""Objects of an S3 bucket, put together out of others inside S3."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue
from threading import BoundedSemaphore
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from sluice.adapters import aws
from sluice.adapters.s3_parts import FETCHED_BYTES, LIMITS, PartLimits, PlannedObject, PlannedPart, plan_objects
from sluice.adapters.s3_ranges import S3Ranges
from sluice.domain.deadline import Deadline
from sluice.domain.errors import ConfigurationError, NotFoundError, SluiceError
from sluice.domain.ports import Piece
from sluice.telemetry import tracing

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

SERVICE: Final = "The object store"
# How the parts are planned is part of what is begun: an upload that was planned otherwise is not gone on with.
PLAN: Final = "2."
AT_ONCE: Final = 8
# What is fetched goes through memory, however many threads there are: each part twice, in its pieces and as a whole.
HELD_BYTES: Final = 134_217_728
_NO_UPLOAD: Final = "NoSuchUpload"


class S3Composer:
    """Implements :class:`~sluice.domain.ports.Composer` by multipart uploads.

    What was begun is noted by the number of the object (there are several where one has too many parts, the last of
    them being the one that is wanted) and its upload. An upload that nobody goes on with, and the objects in between,
    are cleared away by the bucket's lifecycle. Memory: ``HELD_BYTES``, of all calls together, and literal pieces.
    """

    def __init__(self, client: "S3Client", bucket: str, *, limits: PartLimits = LIMITS) -> None:
        self._client = client
        self._bucket = bucket
        self._limits = limits
        self._ranges = S3Ranges(client, bucket)
        self._fetching = BoundedSemaphore(HELD_BYTES // (2 * FETCHED_BYTES))

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
        [*intermediates, whole] = plan_objects(key, pieces, self._limits)
        if len(whole.parts) <= 1 and not any(part.copied for part in whole.parts):
            body = self._gathered(whole.parts[0].pieces if whole.parts else (), look)
            self._call("put_object", Key=key, Body=body, ContentType=content_type)
            return True
        for number, planned in enumerate([*intermediates, whole]):
            if planned is not whole and self._is_there(planned):
                continue
            mark = f"{PLAN}{number}."
            if not self._made(planned, mark, content_type, begun, on_begun, deadline, look):
                return False
        return True

    def _made(
        self,
        planned: PlannedObject,
        mark: str,
        content_type: str,
        begun: str | None,
        on_begun: Callable[[str], None],
        deadline: Deadline,
        look: Callable[[], None],
    ) -> bool:
        """Make one object, or go on with it where ``begun`` has its ``mark``; whether it is done."""
        upload = begun.removeprefix(mark) if begun and begun.startswith(mark) else None
        tags = self._tags(planned, upload) if upload else None
        if tags is None and upload and self._is_there(planned):
            return True
        if tags is None or upload is None:
            answer = self._call("create_multipart_upload", Key=planned.key, ContentType=content_type)
            upload, tags = str(answer["UploadId"]), {}
            on_begun(mark + upload)
        missing = [part for part in planned.parts if part.number not in tags]
        tags |= self._transfer(planned.key, upload, missing, deadline, look)
        return len(tags) == len(planned.parts) and self._complete(planned, upload, tags)

    def _tags(self, planned: PlannedObject, upload: str) -> dict[int, str] | None:
        """The entity tags of the parts that are there, by number; ``None`` if there is no such upload any more."""
        sizes = {part.number: part.size for part in planned.parts}
        try:
            listed = list(self._listed(planned.key, upload))
        except _NoUploadError:
            return None
        return {part["PartNumber"]: part["ETag"] for part in listed if sizes.get(part["PartNumber"]) == part["Size"]}

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
            with self._fetching:
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

    def _complete(self, planned: PlannedObject, upload: str, tags: dict[int, str]) -> bool:
        listed = [{"PartNumber": number, "ETag": tag} for number, tag in sorted(tags.items())]
        try:
            self._call("complete_multipart_upload", Key=planned.key, UploadId=upload, MultipartUpload={"Parts": listed})
        except _NoUploadError as exc:
            # The answer to an earlier call was lost, or another has been faster.
            if not self._is_there(planned):
                raise aws.translate(exc.error, SERVICE) from exc.error
        return True

    def _gathered(self, pieces: Sequence[Piece], look: Callable[[], None]) -> bytes:
        """The bytes of these pieces. There may be thousands of a few bytes, so they are fetched several at once."""
        if not pieces:
            return b""
        fetch = tracing.carried(lambda piece: self._content(piece, look))
        with self._fetching, ThreadPoolExecutor(max_workers=min(AT_ONCE, len(pieces))) as pool:
            return b"".join(pool.map(fetch, pieces))

    def _content(self, piece: Piece, look: Callable[[], None]) -> bytes:
        if piece.key is None:
            return piece.literal
        look()
        return self._ranges.read_range(piece.key, piece.start, piece.start + piece.size)

    def _is_there(self, planned: PlannedObject) -> bool:
        try:
            return self._ranges.size(planned.key) == planned.size
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
