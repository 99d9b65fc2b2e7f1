"""Calls to the admin routes, which API Gateway authorises by IAM: signed with ordinary AWS credentials."""

from __future__ import annotations

import json
from typing import Any

import urllib3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest

from local.connection import Connection
from local.errors import LocalError

__all__ = ["create_key"]


def create_key(connection: Connection, name: str) -> dict[str, Any]:
    """Create an API key with the given name; the answer holds `id` and, this once only, `key`.

    Raises LocalError when there are no credentials or the platform refuses.
    """
    return _post(connection, "/admin/keys", {"name": name})


def _post(connection: Connection, path: str, body: dict[str, Any]) -> dict[str, Any]:
    url = connection.require("SLUICE_URL") + path
    data = json.dumps(body).encode()
    response = urllib3.request(
        "POST", url, body=data, headers=_signed_headers(connection, url, data), timeout=60, retries=False
    )
    answer = _decode(response.data)
    if response.status >= 300:
        reason = (
            answer.get("error", {}).get("message")
            or answer.get("message")
            or response.data[:200].decode("utf-8", "replace")
        )
        raise LocalError(f"POST {url} answered {response.status}: {reason}", _hint(response.status))
    return answer


def _signed_headers(connection: Connection, url: str, data: bytes) -> dict[str, str]:
    credentials = connection.session().get_credentials()
    if credentials is None:
        raise LocalError("no AWS credentials found", "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    request = AWSRequest("POST", url, data=data, headers={"content-type": "application/json"})
    SigV4Auth(credentials.get_frozen_credentials(), "execute-api", connection.region).add_auth(request)
    return dict(request.headers.items())


def _decode(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _hint(status: int) -> str:
    if status in (401, 403):
        return "these AWS credentials need execute-api:Invoke on the admin routes"
    return "see the log of the function: make logs FUNCTION=admin_keys"
