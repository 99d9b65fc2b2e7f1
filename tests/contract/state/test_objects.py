"""What an object store does, in memory and in S3."""

from __future__ import annotations

import pytest

from sluice.adapters.s3_objects import S3Objects
from sluice.domain.errors import ConfigurationError, NotFoundError
from sluice.domain.ports import ObjectStore
from sluice.testing.objects import FakeObjects
from tests.contract.state.conftest import Aws


@pytest.fixture(params=["fake", "real"])
def objects(request: pytest.FixtureRequest) -> ObjectStore:
    if request.param == "fake":
        return FakeObjects()
    aws: Aws = request.getfixturevalue("aws")
    return S3Objects(aws.client("s3"), aws.bucket())


@pytest.mark.parametrize("body", [b"", b"{}", "größer".encode(), bytes(range(256)) * 4096])
def test_what_was_put_is_got(objects: ObjectStore, body: bytes) -> None:
    objects.put("a/b/c.json", body)
    assert objects.get("a/b/c.json") == body


def test_a_later_body_replaces_an_earlier_one(objects: ObjectStore) -> None:
    objects.put("key", b"one")
    objects.put("key", b"two")
    assert objects.get("key") == b"two"


def test_what_was_never_put_is_not_found(objects: ObjectStore) -> None:
    with pytest.raises(NotFoundError):
        objects.get("never")


def test_a_bucket_that_is_not_there_needs_an_operator(aws: Aws) -> None:
    with pytest.raises(ConfigurationError):
        S3Objects(aws.client("s3"), "no-such-bucket-anywhere").put("key", b"body")
