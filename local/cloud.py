"""The local AWS: one MiniStack process on 127.0.0.1, with IAM enforced, started empty every time."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import ClientError

from local.environment import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY, aws_environment, base_environment
from local.errors import LocalError
from local.instance import Instance
from local.processes import Spec

__all__ = ["NAME", "STATE_BUCKET", "client", "empty_temporary_folder", "ensure_state_bucket", "session", "spec"]

NAME = "cloud"
STATE_BUCKET = "sluice-terraform-state"
_SERVER = Path(__file__).with_name("patient_ministack.py")


def spec(instance: Instance, python: Path) -> Spec:
    """How to start MiniStack for an instance with the given interpreter."""
    return Spec(
        name=NAME,
        title="the local cloud",
        # Without the script's folder on the path, whose modules are not MiniStack's.
        command=(str(python), "-P", str(_SERVER)),
        environment=_environment(instance),
        folder=instance.state,
        port=instance.ports.cloud,
        port_variable=instance.port_variables.cloud,
        ready_url=f"{instance.cloud_url}/_ministack/ready",
        deadline_seconds=60,
    )


def _environment(instance: Instance) -> dict[str, str]:
    """MiniStack's environment. Functions inherit all of it, so it holds nothing that AWS would not give them."""
    aws = aws_environment(instance)
    # MiniStack hands each function its endpoint itself.
    del aws["AWS_ENDPOINT_URL"]
    return {
        **base_environment(instance, NAME),
        **aws,
        "AUTH": "true",
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(instance.ports.cloud),
        "TMPDIR": str(instance.temporary),
        "STATE_DIR": str(instance.temporary / "state"),
        "S3_DATA_DIR": str(instance.temporary / "s3"),
        "PERSIST_STATE": "0",
        "LAMBDA_EXECUTOR": "local",
        "LAMBDA_ACCOUNT_CONCURRENCY": os.environ.get("SLUICE_LAMBDA_CONCURRENCY") or str(_concurrency()),
        # Listeners on fixed ports that we have no use for.
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
        "AWS_XRAY_DAEMON_ADDRESS": instance.xray_address,
    }


def _concurrency() -> int:
    """Concurrent Lambda invocations, each a process of some 60 MB: enough for the tests, bearable for a laptop."""
    return max(16, min(64, 4 * (os.cpu_count() or 1)))


def empty_temporary_folder(instance: Instance) -> None:
    """Empty the folder that the previous run unpacked its functions and layers into."""
    shutil.rmtree(instance.temporary, ignore_errors=True)
    instance.temporary.mkdir(parents=True)


def session() -> boto3.session.Session:
    """A boto3 session as the local cloud's root user, blind to the caller's own profile and AWS files."""
    unset = (None, None, None, None)
    no_file = (None, None, os.devnull, None)
    # An AWS_PROFILE that is missing from the user's files would otherwise fail every call, credentials or not.
    core = botocore.session.Session(
        session_vars={"profile": unset, "config_file": no_file, "credentials_file": no_file}
    )
    return boto3.session.Session(
        aws_access_key_id=ACCESS_KEY_ID,
        aws_secret_access_key=SECRET_ACCESS_KEY,
        region_name=REGION,
        botocore_session=core,
    )


def client(instance: Instance, service: str) -> Any:
    """A boto3 client of the instance's local cloud."""
    config = Config(
        retries={"max_attempts": 3}, connect_timeout=5, read_timeout=30, s3={"addressing_style": "path"}, proxies={}
    )
    boto: Any = session()
    return boto.client(service, endpoint_url=instance.cloud_url, config=config)


def ensure_state_bucket(instance: Instance) -> None:
    """Create the bucket of Terraform's state in the local cloud unless it is there.

    State that lives in the cloud it describes dies with it and so is never stale.
    """
    s3 = client(instance, "s3")
    try:
        s3.head_bucket(Bucket=STATE_BUCKET)
    except ClientError as error:
        if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") != 404:
            raise LocalError(f"the local cloud refused to show its state bucket: {error}") from error
        s3.create_bucket(Bucket=STATE_BUCKET)
