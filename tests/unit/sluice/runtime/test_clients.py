from collections.abc import Iterator

import pytest
from botocore.validate import ParamValidationDecorator

from sluice.runtime.clients import client


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    client.cache_clear()
    yield
    client.cache_clear()


def test_a_client_is_made_once() -> None:
    assert client("dynamodb") is client("dynamodb")
    assert client("dynamodb") is not client("secretsmanager")


def test_what_is_the_same_in_every_call_is_not_made_anew() -> None:
    config = client("dynamodb").meta.config
    assert config._supplied_user_agent == config.user_agent
    assert config.user_agent.startswith("Botocore/")


def test_parameters_are_checked_where_callers_values_get_into_them() -> None:
    checked = {service: client(service)._serializer for service in ("dynamodb", "bedrock-runtime", "s3")}
    validating = {service for service, each in checked.items() if isinstance(each, ParamValidationDecorator)}
    assert validating == {"bedrock-runtime", "s3"}


def test_a_client_gives_up_soon_and_repeats_a_little() -> None:
    config = client("dynamodb").meta.config
    assert (config.connect_timeout, config.read_timeout) == (2.0, 5.0)
    assert config.retries == {"mode": "standard", "total_max_attempts": 3}


def test_a_client_for_providers_waits_as_long_as_it_is_told_and_never_repeats() -> None:
    config = client("bedrock-runtime", read_timeout_s=0.5, max_attempts=1).meta.config
    assert (config.connect_timeout, config.read_timeout) == (0.5, 0.5)
    assert config.retries["total_max_attempts"] == 1


@pytest.mark.parametrize(("endpoint", "style"), [("http://localhost:4566", "path"), (None, "virtual")])
def test_buckets_are_addressed_by_path_where_they_share_a_host(
    monkeypatch: pytest.MonkeyPatch, endpoint: str | None, style: str
) -> None:
    if endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    assert (client("s3").meta.config.s3 or {}).get("addressing_style") == style


def test_buckets_are_known_to_others_under_another_address() -> None:
    assert client("s3", endpoint_url="http://localhost:4566").meta.endpoint_url == "http://localhost:4566"
    assert client("s3", endpoint_url="http://localhost:4566") is not client("s3")


def test_what_is_signed_for_others_leads_to_the_region_of_the_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    url = client("s3").generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": "key"})
    assert url.startswith("https://bucket.s3.eu-central-1.amazonaws.com/key?")


def test_what_is_signed_for_others_is_signed_as_kms_wants_it() -> None:
    assert client("s3").meta.config.signature_version == "s3v4"


def test_no_checksum_is_asked_for_that_each_part_would_have_to_repeat() -> None:
    assert client("s3").meta.config.request_checksum_calculation == "when_required"
