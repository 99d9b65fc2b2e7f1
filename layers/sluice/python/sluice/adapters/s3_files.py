"""What is in callers' files, in an S3 bucket, and signed URLs that lead straight to it."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import quote

from botocore.exceptions import BotoCoreError, ClientError

from sluice.adapters import aws
from sluice.domain.errors import NotFoundError, SluiceError
from sluice.domain.files import PresignedPart, StoredFile

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

SERVICE: Final = "The object store"
# The function may not list the bucket, so for a missing object S3 says that access is denied. These keys are known from
# the table, and the bucket's lifecycle may have been faster than their item's end.
# https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html
_MISSING: Final = frozenset({"NoSuchKey", "AccessDenied", "403", "404"})
_OVER: Final = frozenset({"NoSuchUpload"})

T = TypeVar("T")


class S3Files:
    """Implements :class:`~sluice.domain.ports.FileContents`.

    URLs are signed by ``signer``, with whose address they begin, and good for ``url_s`` seconds.
    """

    def __init__(self, client: "S3Client", bucket: str, *, signer: "S3Client", url_s: int) -> None:
        self._client = client
        self._bucket = bucket
        self._signer = signer
        self._url_s = url_s

    def put(self, key: str, body: bytes, *, content_type: str) -> None:
        _called(lambda: self._client.put_object(Bucket=self._bucket, Key=key, Body=body, ContentType=content_type))

    def get(self, key: str) -> bytes:
        return _called(lambda: self._read(key), missing=_MISSING)

    def size(self, key: str) -> int:
        answer = _called(lambda: self._client.head_object(Bucket=self._bucket, Key=key), missing=_MISSING)
        return int(answer["ContentLength"])

    def delete(self, key: str) -> None:
        _called(lambda: self._client.delete_object(Bucket=self._bucket, Key=key))

    def download_url(self, file: StoredFile) -> str:
        # Whatever a caller has put there, a browser is to save it and not to show it.
        named = f"attachment; filename*=UTF-8''{quote(file.filename, safe='')}"
        return self._signed(
            "get_object",
            Key=file.object_key,
            ResponseContentDisposition=named,
            ResponseContentType="application/octet-stream",
        )

    def begin_parts(self, key: str, *, content_type: str) -> str:
        answer = _called(
            lambda: self._client.create_multipart_upload(Bucket=self._bucket, Key=key, ContentType=content_type)
        )
        return answer["UploadId"]

    def part_urls(self, key: str, multipart_id: str, sizes: Sequence[int]) -> Sequence[str]:
        # The length is signed along: else each URL would be good for 5 GB.
        return [
            self._signed("upload_part", Key=key, UploadId=multipart_id, PartNumber=number, ContentLength=size)
            for number, size in enumerate(sizes, start=1)
        ]

    def parts(self, key: str, multipart_id: str) -> Sequence[PresignedPart]:
        pages = self._client.get_paginator("list_parts").paginate(Bucket=self._bucket, Key=key, UploadId=multipart_id)
        found = _called(lambda: [part for page in pages for part in page.get("Parts", [])], missing=_OVER)
        return [PresignedPart(number=part["PartNumber"], bytes=part["Size"], tag=part["ETag"]) for part in found]

    def join_parts(self, key: str, multipart_id: str, parts: Sequence[PresignedPart]) -> None:
        listed: Any = {"Parts": [{"PartNumber": part.number, "ETag": part.tag} for part in parts]}
        _called(
            lambda: self._client.complete_multipart_upload(
                Bucket=self._bucket, Key=key, UploadId=multipart_id, MultipartUpload=listed
            ),
            missing=_OVER,
        )

    def abort_parts(self, key: str, multipart_id: str) -> None:
        try:
            _called(
                lambda: self._client.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=multipart_id),
                missing=_OVER,
            )
        except NotFoundError:
            return

    def _read(self, key: str) -> bytes:
        return self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read()

    def _signed(self, operation: str, **parameters: object) -> str:
        url = _called(
            lambda: self._signer.generate_presigned_url(
                operation, Params={"Bucket": self._bucket, **parameters}, ExpiresIn=self._url_s
            )
        )
        return str(url)


def _called(call: Callable[[], T], *, missing: frozenset[str] = frozenset()) -> T:
    try:
        return call()
    except (ClientError, BotoCoreError) as exc:
        raise _translated(exc, missing) from exc


def _translated(error: ClientError | BotoCoreError, missing: frozenset[str]) -> SluiceError:
    if aws.code_of(error) in missing:
        return NotFoundError("There is no such object.")
    return aws.translate(error, SERVICE)
