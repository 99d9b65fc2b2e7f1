"""Keys with limits, and what the platform knows of them: as its administrators, its callers and its table tell it."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

import psutil
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest

from local import cloud
from local.instance import Instance
from local.processes import Record
from tests.integration.support import ROOT, Answer, Platform, eventually

MICRO = 1_000_000
LOG_SHARDS = 8
# Every secret that was shown during this run, for the tests that look for them where they must not be.
EVERY_SECRET: list[str] = []


def admin(
    platform: Platform,
    method: str,
    path: str,
    body: object = None,
    *,
    headers: dict[str, str] | None = None,
    query: dict[str, str] | None = None,
) -> Answer:
    """A call of an admin route, signed with the operator's credentials."""
    url = f"{platform.url}/admin{path}" + (f"?{urlencode(query)}" if query else "")
    data = b"" if body is None else json.dumps(body).encode()
    request = AWSRequest(method, url, data=data, headers={"content-type": "application/json"} | (headers or {}))
    credentials = platform.session.get_credentials()
    assert credentials is not None
    SigV4Auth(credentials.get_frozen_credentials(), "execute-api", platform.env["AWS_DEFAULT_REGION"]).add_auth(request)
    answer = platform._http.request(method, url, body=data or None, headers=dict(request.headers.items()))
    received = {name.lower(): value for name, value in answer.headers.items()}
    parsed = json.loads(answer.data) if answer.data else None
    if isinstance(parsed, dict) and "key" in parsed:
        EVERY_SECRET.append(parsed["key"])
    return Answer(answer.status, received, parsed, answer.data)


@dataclass(frozen=True)
class Key:
    """An API key of a test's own."""

    platform: Platform
    id: str
    secret: str = field(repr=False)

    @classmethod
    def new(cls, platform: Platform, **fields: object) -> Key:
        """A key with these limits, as ``POST /admin/keys`` takes them."""
        answer = admin(platform, "POST", "/keys", {"name": "integration", **fields})
        assert answer.status == 201, answer.body
        return cls(platform, answer.body["id"], answer.body["key"])

    def call(self, method: str, path: str, body: object = None, *, headers: dict[str, str] | None = None) -> Answer:
        """One request with this key."""
        return self.platform.call(method, path, body, key=self.secret, headers=headers)

    def served(self, method: str, path: str, body: object = None, *, headers: dict[str, str] | None = None) -> Answer:
        """One request, repeated while the local cloud has no worker for it: what Sluice itself answered."""
        deadline = time.monotonic() + 120
        while True:
            answer = self.call(method, path, body, headers=headers)
            if not is_out_of_capacity(answer) or time.monotonic() > deadline:
                return answer
            time.sleep(0.2)

    def usage(self) -> dict[str, Any]:
        """What ``GET /usage`` says."""
        answer = self.served("GET", "/usage")
        assert answer.status == 200, answer.body
        return dict(answer.body)

    def log(self) -> list[dict[str, Any]]:
        """The entries of the request log, of yesterday too, as DynamoDB's typed JSON."""
        days = {time.strftime("%Y%m%d", time.gmtime(time.time() - ago)) for ago in (0, 86_400)}
        return [
            item
            for day in sorted(days)
            for shard in range(LOG_SHARDS)
            for item in self.platform.items(f"REQ#{self.id}#{day}#{shard}")
        ]

    def logged_cost(self) -> Decimal:
        """The sum of the request log, in micro-dollars."""
        return sum((Decimal(item["cost_micro_usd"]["N"]) for item in self.log() if "cost_micro_usd" in item), Decimal())


def is_out_of_capacity(answer: Answer) -> bool:
    """Whether the local cloud had no worker left for the function, or for the authorizer before it.

    Sluice itself is never asked then, so none of its own errors says so.
    """
    error = (answer.body or {}).get("error") if isinstance(answer.body, dict) else None
    if answer.status == 429:
        return not isinstance(error, dict)
    return answer.status == 500 and isinstance(error, dict) and error.get("code") == "authorizer_error"


def micro(usd: str) -> Decimal:
    """Dollars as micro-dollars."""
    return Decimal(usd) * MICRO


def dollars(micro_usd: Decimal) -> str:
    """Micro-dollars as the decimal string that the API takes."""
    return f"{micro_usd / MICRO:f}"


def rush(
    key: Key, path: str, bodies: Sequence[object], *, callers: int, headers: dict[str, str] | None = None
) -> list[Answer]:
    """Send ``bodies`` from so many callers at once, each caller one after the other; the answers in the same order."""
    with ThreadPoolExecutor(callers) as pool:
        return list(pool.map(lambda body: key.served("POST", path, body, headers=headers), bodies))


def settled(key: Key, *, within_s: float) -> dict[str, Any]:
    """The usage of a key once nothing of it is reserved any more."""

    def probe() -> dict[str, Any] | None:
        usage = key.usage()
        return usage if micro(usage["reserved_usd"]) == 0 else None

    return eventually(probe, within_s=within_s, what=f"nothing of {key.id} is reserved")


# ---- The processes behind the functions ----


def containers(platform: Platform, function: str) -> set[psutil.Process]:
    """The processes that are a function's containers: children of the local cloud."""
    record = Record.load(Instance.named("test", ROOT, os.environ), cloud.NAME)
    process = record.process() if record else None
    assert process is not None
    name = platform.function_name(function)
    return {child for child in process.children(recursive=True) if _function_of(child) == name}


def kill(processes: set[psutil.Process]) -> int:
    """Kill these at once, as a container is that runs out of memory, and see them dead; how many were still there."""
    killed = set()
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
            killed.add(process)
    # The local cloud would hand the next request to one that is only about to die.
    eventually(lambda: all(_is_dead(process) for process in killed) or None, within_s=10, what="all of them are dead")
    return len(killed)


def _is_dead(process: psutil.Process) -> bool:
    """Whether nothing of it is left but its exit code."""
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def _function_of(process: psutil.Process) -> str | None:
    try:
        return process.environ().get("AWS_LAMBDA_FUNCTION_NAME")
    except psutil.Error:
        return None
