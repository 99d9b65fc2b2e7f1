"""What has to be on the machine already: a Terraform that is new enough. `__main__` checks Python."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass

from local.errors import LocalError

__all__ = ["MINIMUM_TERRAFORM", "Terraform", "find_terraform"]

# The first release whose S3 backend locks without DynamoDB.
MINIMUM_TERRAFORM = (1, 10)
_HOW_TO_GET_IT = (
    "install it: https://developer.hashicorp.com/terraform/install (macOS: brew install hashicorp/tap/terraform)"
)


@dataclass(frozen=True)
class Terraform:
    """The Terraform to use. `platform` is like linux_amd64."""

    path: str
    version: str
    platform: str


def find_terraform(environment: dict[str, str], minimum: tuple[int, int] = MINIMUM_TERRAFORM) -> Terraform:
    """The `terraform` on the search path of `environment`.

    Raises LocalError when it is missing, broken or older than `minimum`.
    """
    needed = f"{minimum[0]}.{minimum[1]}"
    path = shutil.which("terraform", path=environment.get("PATH"))
    if path is None:
        raise LocalError(f"Terraform {needed} or newer is needed and there is none on PATH", _HOW_TO_GET_IT)
    found = _ask(path, environment)
    # Pre-releases look like 1.10.0-beta1.
    numbers = tuple(int(part) for part in found.version.split("-")[0].split(".")[:2])
    if numbers < minimum:
        raise LocalError(f"Terraform {needed} or newer is needed, {path} is {found.version}", _HOW_TO_GET_IT)
    return found


def _ask(path: str, environment: dict[str, str]) -> Terraform:
    try:
        command = [path, "version", "-json"]
        output = subprocess.run(command, env=environment, capture_output=True, timeout=30, check=True).stdout
        answer = json.loads(output)
        return Terraform(path, str(answer["terraform_version"]), str(answer["platform"]))
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError) as error:
        raise LocalError(f"{path} does not run as Terraform should ({error})", _HOW_TO_GET_IT) from error
