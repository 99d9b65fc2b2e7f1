"""The shortened list of endpoints answers as the whole one does, for the services that are kept."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import botocore
import pytest
from botocore.regions import EndpointResolver

from infra.packaging.dependencies import _trim_endpoints

WHOLE = Path(botocore.__file__).parent / "data" / "endpoints.json"
PREFIXES = ["bedrock-runtime", "dynamodb", "events", "kms", "lambda", "runtime.sagemaker", "s3", "secretsmanager"]
PREFIXES += ["sqs", "states", "sts", "xray"]


@pytest.fixture(scope="module")
def resolvers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    trimmed = tmp_path_factory.mktemp("data") / "endpoints.json"
    shutil.copy(WHOLE, trimmed)
    _trim_endpoints(trimmed)
    assert trimmed.stat().st_size < 150_000 < WHOLE.stat().st_size
    return EndpointResolver(json.loads(WHOLE.read_text())), EndpointResolver(json.loads(trimmed.read_text()))


@pytest.mark.parametrize("service", PREFIXES)
def test_every_region_of_the_public_partitions_has_the_same_endpoint(resolvers: tuple[Any, Any], service: str) -> None:
    whole, trimmed = resolvers
    regions = [
        region
        for partition in json.loads(WHOLE.read_text())["partitions"]
        if partition["partition"] in {"aws", "aws-cn", "aws-us-gov"}
        for region in partition["regions"]
    ]
    assert len(regions) > 30
    # One that is newer than this list is found by its name's pattern.
    for region in [*regions, "eu-central-9"]:
        assert trimmed.construct_endpoint(service, region) == whole.construct_endpoint(service, region)
        assert trimmed.get_partition_for_region(region) == whole.get_partition_for_region(region)
