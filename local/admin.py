"""Calls to the admin routes, which API Gateway authorises by IAM: signed with ordinary AWS credentials."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

import urllib3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest

from local.connection import Connection
from local.errors import LocalError

__all__ = [
    "circuits",
    "create_key",
    "dead_letters",
    "list_keys",
    "queues",
    "redrive",
    "revoke_key",
    "rotate_key",
    "update_key",
    "usage",
]

# Above what API Gateway gives a function.
_TIMEOUT_SECONDS = 60
_PAGE = 100


def create_key(connection: Connection, name: str, settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Create an API key with the given name and settings (fields of the request's body).

    The answer holds `id` and, this once only, `key`. Like all functions here it raises LocalError when there are no
    credentials or the platform refuses.
    """
    return _call(connection, "POST", "/admin/keys", body={"name": name, **(settings or {})})


def list_keys(connection: Connection) -> list[dict[str, Any]]:
    """Every key, without secrets."""
    found: list[dict[str, Any]] = []
    query = {"limit": str(_PAGE)}
    while True:
        page = _call(connection, "GET", "/admin/keys", query=query)
        found += page["data"]
        if not page["has_more"]:
            return found
        query["after"] = page["next_after"]


def update_key(connection: Connection, key_id: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Change some of a key's settings; `None` takes a restriction away."""
    return _call(connection, "PATCH", f"/admin/keys/{quote(key_id, safe='')}", body=changes)


def rotate_key(connection: Connection, key_id: str, overlap_seconds: int | None) -> dict[str, Any]:
    """Give a key a new secret: `key` of the answer, this once only. Those before it last `overlap_seconds` more."""
    body = {} if overlap_seconds is None else {"overlap_seconds": overlap_seconds}
    return _call(connection, "POST", f"/admin/keys/{quote(key_id, safe='')}/rotate", body=body)


def revoke_key(connection: Connection, key_id: str) -> dict[str, Any]:
    """Revoke a key with all its secrets, for good."""
    return _call(connection, "DELETE", f"/admin/keys/{quote(key_id, safe='')}")


def usage(connection: Connection, query: Mapping[str, str]) -> dict[str, Any]:
    """What was used, by the groups and in the days that the query names."""
    return _call(connection, "GET", "/admin/usage", query=query)


def circuits(connection: Connection) -> list[dict[str, Any]]:
    """How every target is doing."""
    found: list[dict[str, Any]] = _call(connection, "GET", "/admin/circuits")["data"]
    return found


def queues(connection: Connection) -> list[dict[str, Any]]:
    """Every queue, and about how many messages it and its dead-letter queue hold."""
    found: list[dict[str, Any]] = _call(connection, "GET", "/admin/queues")["data"]
    return found


def dead_letters(connection: Connection, queue: str, limit: int) -> dict[str, Any]:
    """The newest reasons for a queue's dead letters, and about how many dead letters there are."""
    path = f"/admin/queues/{quote(queue, safe='')}/dead-letters"
    return _call(connection, "GET", path, query={"limit": str(limit)})


def redrive(connection: Connection, queue: str) -> int:
    """Move all dead letters of the queue back to it; how many that were.

    What fails again and comes back meanwhile stays where it is.
    """
    path = f"/admin/queues/{quote(queue, safe='')}/redrive"
    body: dict[str, int] = {}
    moved = 0
    while True:
        answer = _call(connection, "POST", path, body=body)
        moved += int(answer["moved"])
        if answer["done"]:
            return moved
        if not answer["moved"]:
            raise LocalError(
                f"the queue {queue} still has dead letters, but none could be moved ({moved} were before)",
                "run the same command again; if it stays so: make logs FUNCTION=admin_redrive",
            )
        body = {"before_ms": answer["before_ms"]}


def _call(
    connection: Connection,
    method: str,
    path: str,
    *,
    query: Mapping[str, str] | None = None,
    body: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    url = connection.require("SLUICE_URL") + path + (f"?{urlencode(query)}" if query else "")
    data = b"" if body is None else json.dumps(body).encode()
    try:
        response = urllib3.request(
            method,
            url,
            body=data or None,
            headers=_signed_headers(connection, method, url, data),
            timeout=_TIMEOUT_SECONDS,
            retries=False,
        )
    except urllib3.exceptions.HTTPError as error:
        raise LocalError(f"{method} {url} got no answer: {error}", "is the platform up? make status") from error
    answer = _decode(response.data)
    if response.status >= 300:
        reason = (
            answer.get("error", {}).get("message")
            or answer.get("message")
            or response.data[:200].decode("utf-8", "replace")
        )
        raise LocalError(f"{method} {url} answered {response.status}: {reason}", _hint(response.status, path))
    return answer


def _signed_headers(connection: Connection, method: str, url: str, data: bytes) -> dict[str, str]:
    credentials = connection.session().get_credentials()
    if credentials is None:
        raise LocalError("no AWS credentials found", "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    request = AWSRequest(method, url, data=data, headers={"content-type": "application/json"})
    SigV4Auth(credentials.get_frozen_credentials(), "execute-api", connection.region).add_auth(request)
    return dict(request.headers.items())


def _decode(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _hint(status: int, path: str) -> str:
    if status in (401, 403):
        return "these AWS credentials need execute-api:Invoke on the admin routes"
    if status == 404:
        return "`make keys` lists the keys" if "/keys/" in path else ""
    if status < 500:
        return ""
    area = path.split("/")[2]
    function = area if area != "queues" else "redrive" if path.endswith("/redrive") else "dead_letters"
    return f"see the log of the function: make logs FUNCTION=admin_{function}"
