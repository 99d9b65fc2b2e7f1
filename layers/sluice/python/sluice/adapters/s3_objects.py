"""Bodies in an S3 bucket. Encryption is the bucket's default, so no call can forget it."""

from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from sluice.adapters import aws
from sluice.domain.errors import NotFoundError, SluiceError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class S3Objects:
    """Implements :class:`~sluice.domain.ports.ObjectStore`."""

    def __init__(self, client: "S3Client", bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    def put(self, key: str, body: bytes) -> None:
        try:
            self._client.put_object(Bucket=self._bucket, Key=key, Body=body, ContentType="application/json")
        except (ClientError, BotoCoreError) as exc:
            raise _translate(exc) from exc

    def get(self, key: str) -> bytes:
        try:
            return self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read()
        except (ClientError, BotoCoreError) as exc:
            raise _translate(exc) from exc


def _translate(error: ClientError | BotoCoreError) -> SluiceError:
    if aws.code_of(error) == "NoSuchKey":
        return NotFoundError("There is no such object.")
    return aws.translate(error, "The object store")
