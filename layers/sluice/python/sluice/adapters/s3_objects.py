"""Bodies in an S3 bucket. Encryption is the bucket's default, so no call can forget it."""

from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from sluice.adapters import aws
from sluice.domain.errors import NotFoundError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class S3Objects:
    """Implements :class:`~sluice.domain.ports.ObjectStore`.

    ``denied_is_missing``: S3 tells only those who may list the bucket, which no function may, that an object is not
    there; to others it says that access is denied. To be set where objects may be gone while somebody still knows their
    keys, and where writing would show a permission that is really missing.
    https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html
    """

    def __init__(
        self,
        client: "S3Client",
        bucket: str,
        *,
        content_type: str = "application/json",
        denied_is_missing: bool = False,
    ) -> None:
        self._client = client
        self._bucket = bucket
        self._content_type = content_type
        self._missing = {"NoSuchKey", "AccessDenied"} if denied_is_missing else {"NoSuchKey"}

    def put(self, key: str, body: bytes) -> None:
        try:
            self._client.put_object(Bucket=self._bucket, Key=key, Body=body, ContentType=self._content_type)
        except (ClientError, BotoCoreError) as exc:
            raise aws.translate(exc, "The object store") from exc

    def get(self, key: str) -> bytes:
        try:
            return self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read()
        except (ClientError, BotoCoreError) as exc:
            if aws.code_of(exc) in self._missing:
                raise NotFoundError("There is no such object.") from exc
            raise aws.translate(exc, "The object store") from exc
