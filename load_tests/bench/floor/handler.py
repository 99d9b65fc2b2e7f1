"""The least a handler can do that makes the same calls: bare boto3 and urllib3, and nothing else.

No checks, no routing, no retries of its own, no log, no trace, no metrics, no errors in anybody's shape. Which calls
those are was seen at the stand-in while the platform's own handler ran, and lies beside this file: ``calls.json`` holds
those of a container's first request and those of every other one, each with its parameters as boto3 takes them.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import urllib3
from botocore import xform_name

_CALLS: dict[str, list[dict[str, Any]]] = json.loads(Path(__file__).with_name("calls.json").read_text())
_SERVICES = {call["service"] for calls in _CALLS.values() for call in calls} - {"provider"}
_CLIENTS: dict[str, Any] = {service: boto3.client(service) for service in _SERVICES}
_POOL = urllib3.PoolManager()
_PROVIDER = os.environ.get("FLOOR_PROVIDER_URL", "")
_HEADERS = {"content-type": "application/json", "authorization": f"Bearer {os.environ.get('FLOOR_PROVIDER_KEY', '')}"}


def _bound(call: dict[str, Any]) -> tuple[Callable[..., Any] | None, dict[str, Any]]:
    if call["service"] == "provider":
        return None, {}
    return getattr(_CLIENTS[call["service"]], xform_name(call["operation"])), call["parameters"]


_FIRST, _EACH = ([_bound(call) for call in _CALLS[which]] for which in ("first", "each"))
_pending = [_FIRST]


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Pass the request on to the provider, its answer back, and make every call on the way."""
    request = json.loads(event["body"])
    text = ""
    for call, parameters in _pending.pop() if _pending else _EACH:
        if call is None:
            answer = _POOL.request(
                "POST", _PROVIDER, body=json.dumps({**request, "model": "bench-model"}), headers=_HEADERS
            )
            text = answer.data.decode()
        else:
            call(**parameters)
    return {"statusCode": 200, "headers": {"content-type": "application/json"}, "body": text, "isBase64Encoded": False}
