from collections.abc import Iterator
from typing import TYPE_CHECKING

import boto3
import pytest
from botocore.stub import Stubber

from sluice.adapters.s3_objects import S3Objects
from sluice.domain.errors import ConfigurationError, NotFoundError, SluiceError, StateError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@pytest.fixture
def client() -> "S3Client":
    return boto3.client("s3", region_name="us-east-1")


@pytest.fixture
def stub(client: "S3Client") -> Iterator[Stubber]:
    with Stubber(client) as stub:
        yield stub
        stub.assert_no_pending_responses()


@pytest.mark.parametrize(
    ("code", "denied_is_missing", "kind"),
    [
        ("NoSuchKey", False, NotFoundError),
        ("NoSuchKey", True, NotFoundError),
        ("AccessDenied", False, ConfigurationError),
        ("AccessDenied", True, NotFoundError),
        ("NoSuchBucket", True, ConfigurationError),
        ("KMS.DisabledException", True, ConfigurationError),
        ("SlowDown", True, StateError),
    ],
)
def test_what_s3_says_of_an_object_that_it_does_not_give(
    client: "S3Client", stub: Stubber, code: str, denied_is_missing: bool, kind: type[SluiceError]
) -> None:
    stub.add_client_error("get_object", code)
    with pytest.raises(kind):
        S3Objects(client, "bucket", denied_is_missing=denied_is_missing).get("key")


@pytest.mark.parametrize("denied_is_missing", [True, False])
def test_a_permission_to_write_that_is_missing_is_never_passed_over(
    client: "S3Client", stub: Stubber, denied_is_missing: bool
) -> None:
    stub.add_client_error("put_object", "AccessDenied")
    with pytest.raises(ConfigurationError):
        S3Objects(client, "bucket", denied_is_missing=denied_is_missing).put("key", b"body")


@pytest.mark.parametrize("content_type", ["application/json", "application/zlib"])
def test_an_object_says_what_it_is(client: "S3Client", stub: Stubber, content_type: str) -> None:
    sent = {"Bucket": "bucket", "Key": "key", "Body": b"body", "ContentType": content_type}
    stub.add_response("put_object", {}, sent)
    S3Objects(client, "bucket", content_type=content_type).put("key", b"body")
