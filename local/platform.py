"""The platform on the local cloud: its packages, its resources, its first key and its connection details."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import urllib3
from botocore.exceptions import BotoCoreError, ClientError

from local import admin, cloud, connection
from local.console import phase, say
from local.errors import LocalError
from local.instance import Instance
from local.processes import answers, log_file, tail
from local.smoke import key_works
from local.state import Applied, applying, fingerprint
from local.terraform import Driver

__all__ = ["connect", "driver", "ensure_applied", "is_answering", "package"]

# The local model server's OpenAI protocol wants this key, so the provider secret is really read and really used.
_PROVIDER_SECRET = {"local": "local-models-key"}
_KEY_NAME = "local"


def driver(instance: Instance) -> Driver:
    """Terraform with the variables of a local platform."""
    return Driver(
        instance,
        {
            "models_url": instance.models_url,
            "bedrock_endpoint_url": instance.models_url,
            "sagemaker_endpoint_url": instance.models_url,
            "presign_endpoint_url": instance.links_url,
        },
    )


def package(instance: Instance) -> None:
    """Build the zips of all functions and layers; what has not changed is not built again."""
    log = log_file(instance, "package")
    log.parent.mkdir(parents=True, exist_ok=True)
    with phase("Packages") as step, log.open("w", encoding="utf-8") as output:
        command = [sys.executable, "-m", "infra.packaging.build", "--target", "local"]
        code = subprocess.run(command, cwd=instance.root, stdout=output, stderr=output, check=False).returncode
        if code != 0:
            raise LocalError(f"packaging failed (exit {code})", f"all output: {log}", tail(log, 10))
        step.result = f"{len(_packages(instance))} zips"


def _packages(instance: Instance) -> list[Path]:
    return sorted((instance.root / "build" / "local").rglob("*.zip"))


def ensure_applied(instance: Instance, terraform: Driver, cloud_run: str) -> Applied:
    """Apply the Terraform root, unless the same was applied to this very run of the cloud and still answers."""
    digest = fingerprint(instance.infra, _packages(instance), terraform.variables)
    applied = Applied.load(instance)
    if applied and (applied.fingerprint, applied.cloud_run) == (digest, cloud_run) and is_answering(instance, applied):
        say("  ok  Terraform: nothing changed since the last apply")
        return applied
    with phase("Terraform init") as step:
        cloud.ensure_state_bucket(instance)
        step.result = "done" if terraform.initialise() else "already done"
    with phase("Terraform apply") as step, applying(instance):
        run = terraform.apply(step.progress)
        step.result = run.summary
        applied = Applied(digest, cloud_run, run.outputs)
        applied.save(instance)
    return applied


def is_answering(instance: Instance, applied: Applied) -> bool:
    """True when the API's health route says 200. The first call after a start may take seconds."""
    url = connection.local_values(instance, applied.outputs)["SLUICE_URL"]
    return answers(f"{url}/health", timeout_seconds=30)


def connect(instance: Instance, applied: Applied) -> dict[str, str]:
    """Give the provider secret its value, get an API key and write the `env` file; returns what is in it."""
    values = connection.local_values(instance, applied.outputs)
    try:
        _ensure_provider_secret(instance, values["SLUICE_PROVIDER_SECRET_ARN"])
        key = _api_key(instance, values)
    except (ClientError, BotoCoreError, urllib3.exceptions.HTTPError) as error:
        raise LocalError(f"the platform does not answer as it should: {error}", "see `make logs`") from error
    values |= {"SLUICE_API_KEY": key, "OPENAI_API_KEY": key}
    connection.write_values(instance, values)
    return values


def _ensure_provider_secret(instance: Instance, arn: str) -> None:
    secrets = cloud.client(instance, "secretsmanager")
    try:
        # MiniStack gives a new secret an empty first version, where AWS has none at all.
        if secrets.get_secret_value(SecretId=arn).get("SecretString"):
            return
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceNotFoundException":
            raise
    secrets.put_secret_value(SecretId=arn, SecretString=json.dumps(_PROVIDER_SECRET))


def _api_key(instance: Instance, values: dict[str, str]) -> str:
    with phase("API key") as step:
        saved = connection.read_values(instance.environment_file).get("SLUICE_API_KEY", "")
        if saved and key_works(values["SLUICE_URL"], saved):
            step.result = "the saved one still works"
            return saved
        created = admin.create_key(connection.Connection(values, "Terraform's outputs", instance), _KEY_NAME)
        step.result = f"created {created['id']}"
        return str(created["key"])
