"""Environments of the processes we start: what they need, and nothing of the caller's AWS or Terraform settings."""

from __future__ import annotations

import os
from collections.abc import Mapping

from local.instance import Instance

__all__ = [
    "ACCESS_KEY_ID",
    "MARKER",
    "REGION",
    "SECRET_ACCESS_KEY",
    "aws_environment",
    "base_environment",
    "bypass_proxy_for_loopback",
    "marker",
]

REGION = "us-east-1"
# The local cloud's root credentials. They open nothing but a server bound to 127.0.0.1, so they are no secret.
ACCESS_KEY_ID = "test"
SECRET_ACCESS_KEY = "test"  # noqa: S105  # nosec B105

# Every process we start, and everything it starts in turn, carries this variable. It is how the workers of a
# local cloud that was killed are told from anybody else's processes.
MARKER = "SLUICE_LOCAL_PROCESS"

_KEPT = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "SYSTEMROOT", "LD_LIBRARY_PATH")
_KEPT_TLS = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NIX_SSL_CERT_FILE")


def marker(instance: Instance, process: str) -> str:
    """Value of MARKER for the named process of an instance."""
    return f"{instance.state}#{process}"


def base_environment(instance: Instance, process: str, environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """A small clean environment: search path, home, language, TLS roots and our marker."""
    source = os.environ if environment is None else environment
    kept = {name: source[name] for name in (*_KEPT, *_KEPT_TLS) if name in source}
    return {**kept, "PYTHONUNBUFFERED": "1", MARKER: marker(instance, process)}


def aws_environment(instance: Instance) -> dict[str, str]:
    """AWS settings that lead any SDK or the Terraform provider to the local cloud, and only there."""
    return {
        "AWS_ENDPOINT_URL": instance.cloud_url,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_REGION": REGION,
        # A profile or an endpoint in the user's own files must not mix with the local cloud.
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def bypass_proxy_for_loopback() -> None:
    """Make this process and its children reach 127.0.0.1 directly, even where an HTTP proxy is configured."""
    for name in ("NO_PROXY", "no_proxy"):
        hosts = [host for host in os.environ.get(name, "").split(",") if host]
        os.environ[name] = ",".join(dict.fromkeys([*hosts, "127.0.0.1", "localhost"]))
