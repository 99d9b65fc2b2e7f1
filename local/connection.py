"""Connection details of a running platform: the `env` file of an instance, or the caller's own environment."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3

from local import cloud
from local.environment import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY
from local.errors import LocalError
from local.files import write_atomically
from local.instance import Instance

__all__ = ["Connection", "local_values", "read_values", "resolve", "write_values"]

# Terraform output and variable, for every name that a test or a user of the platform needs.
_OUTPUTS = (
    ("table_name", "SLUICE_TABLE"),
    ("bucket_name", "SLUICE_BUCKET"),
    ("event_dlq_url", "SLUICE_EVENT_DLQ_URL"),
    ("event_bus_name", "SLUICE_EVENT_BUS"),
    ("state_machine_arn", "SLUICE_STATE_MACHINE_ARN"),
    ("provider_secret_arn", "SLUICE_PROVIDER_SECRET_ARN"),
    ("kms_key_arn", "SLUICE_KMS_KEY_ARN"),
    ("completion_topic_arn", "SLUICE_COMPLETION_TOPIC_ARN"),
)
# Outputs with one entry for each queue, and the variable that is made of the queue's name.
_QUEUES = (
    ("queue_urls", "SLUICE_{}_QUEUE_URL"),
    ("dlq_urls", "SLUICE_{}_DLQ_URL"),
)


@dataclass(frozen=True)
class Connection:
    """How to reach one platform. `instance` is None for one that only the caller's environment describes."""

    values: Mapping[str, str]
    source: str
    instance: Instance | None

    def require(self, name: str) -> str:
        """The named value. Raises LocalError, saying where it was looked for, when there is none."""
        if value := self.values.get(name):
            return value
        raise LocalError(f"{name} is not set in {self.source}", f"set {name}, or start a local platform: make up")

    def session(self) -> boto3.session.Session:
        """AWS credentials: the local cloud's, or the caller's own by the usual chain (environment, profile, role)."""
        return cloud.session() if self.instance else boto3.session.Session()

    def client(self, service: str) -> Any:
        """A boto3 client of the platform's account."""
        if self.instance:
            return cloud.client(self.instance, service)
        boto: Any = self.session()
        return boto.client(service)

    @property
    def region(self) -> str:
        """AWS region of the API: as in its host name, else the session's."""
        host = urlsplit(self.require("SLUICE_URL")).hostname or ""
        found = re.fullmatch(r"[a-z0-9-]+\.execute-api\.([a-z0-9-]+)\.amazonaws\.com(\.cn)?", host)
        return found[1] if found else self.session().region_name or REGION


def local_values(instance: Instance, outputs: Mapping[str, Any]) -> dict[str, str]:
    """The variables of a local platform, API key excepted, from Terraform's outputs.

    Raises LocalError when the root lacks an output that says where the API is.
    """
    try:
        url = f"{instance.cloud_url}/restapis/{outputs['api_id']}/{outputs['stage_name']}/_user_request_/v1"
    except KeyError as missing:
        raise LocalError(f"the Terraform root has no output {missing}", "see infra/outputs.tf") from missing
    values = {
        "SLUICE_URL": url,
        "OPENAI_BASE_URL": url,
        "SLUICE_MCP_URL": f"{url}/mcp",
        **_stream_url(instance, outputs),
        "AWS_ENDPOINT_URL": instance.cloud_url,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
        "AWS_DEFAULT_REGION": REGION,
        "SLUICE_MODELS_URL": instance.models_url,
        "SLUICE_XRAY_ADDRESS": instance.xray_address,
    }
    values |= {name: str(outputs[output]) for output, name in _OUTPUTS if outputs.get(output)}
    for output, name in _QUEUES:
        values |= {name.format(queue.upper()): str(url) for queue, url in outputs.get(output, {}).items()}
    return values


def _stream_url(instance: Instance, outputs: Mapping[str, Any]) -> dict[str, str]:
    # Function URLs are told apart by their host; the local cloud takes the first label of it in the path as well.
    parts = urlsplit(str(outputs.get("stream_url", "")))
    url_id = (parts.hostname or "").partition(".")[0]
    return {"SLUICE_STREAM_URL": f"{instance.cloud_url}/_aws/lambda-url/{url_id}{parts.path}"} if url_id else {}


def write_values(instance: Instance, values: Mapping[str, str]) -> None:
    """Write the `env` file in one step, readable by its owner only. Readable by a shell and line by line."""
    lines = [f"{name}={shlex.quote(value)}\n" for name, value in values.items()]
    write_atomically(instance.environment_file, "".join(lines))


def read_values(path: Path) -> dict[str, str]:
    """The variables in an `env` file; none when it is missing. Lines that are no assignment are skipped."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    return dict(pair for pair in map(_assignment, lines) if pair)


def _assignment(line: str) -> tuple[str, str] | None:
    name, equals, text = line.partition("=")
    if not equals or not re.fullmatch(r"[A-Z][A-Z0-9_]*", name):
        return None
    try:
        return name, "".join(shlex.split(text))
    except ValueError:
        return None


def resolve(instance: Instance, environment: Mapping[str, str]) -> Connection:
    """The platform that a command is about: SLUICE_URL of the environment, else the instance's own `env` file.

    An instance chosen by name is meant whatever the environment says. Raises LocalError when there is neither.
    """
    values = read_values(instance.environment_file)
    url = environment.get("SLUICE_URL", "")
    if instance.name == "default" and url and url != values.get("SLUICE_URL"):
        return Connection(environment, "the environment", None)
    if not values:
        raise LocalError(
            f"no platform to talk to: SLUICE_URL is not set and {instance.environment_file} does not exist",
            f"start a local one: {instance.up_command}",
        )
    return Connection(values, str(instance.environment_file), instance)
