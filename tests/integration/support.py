"""The applied platform, seen the way its users and its operators see it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

import boto3
import pytest
import urllib3
from openai import OpenAI

ROOT = Path(__file__).resolve().parents[2]
STATE = ROOT / ".local" / "test"
# circuit_cache_seconds of infra/environments/local.tfvars: how long a container goes by what it read of a target.
CIRCUIT_CACHE_S = 0.1
T = TypeVar("T")


def local(*verb: str, timeout_s: int = 900) -> subprocess.CompletedProcess[str]:
    """Run the local cloud's own command line against the ``test`` instance."""
    command = [sys.executable, "-m", "local", "--instance", "test", *verb]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout_s, check=False)


def eventually(probe: Callable[[], T | None], *, within_s: float, what: str, every_s: float = 0.25) -> T:
    """The first truthy answer of ``probe``; fails with ``what`` when there is none in time."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if found := probe():
            return found
        time.sleep(every_s)
    pytest.fail(f"not within {within_s:.0f} s: {what}")


@dataclass(frozen=True)
class Answer:
    """An HTTP answer: status, lower-cased headers, the body as it came, and parsed when it is JSON."""

    status: int
    headers: dict[str, str]
    body: Any
    raw: bytes = b""


class Platform:
    """The applied platform, seen the way its users see it."""

    def __init__(self, env: dict[str, str]) -> None:
        """``env`` holds the lines of the instance's ``env`` file."""
        self.env = env
        self._http = urllib3.PoolManager(retries=False, timeout=60, maxsize=64)
        self._openai: dict[tuple[str, bool], OpenAI] = {}
        self._making = Lock()

    @property
    def url(self) -> str:
        """The base address of the API, ending in ``/v1``."""
        return self.env["SLUICE_URL"]

    @property
    def key(self) -> str:
        """An API key."""
        return self.env["SLUICE_API_KEY"]

    @cached_property
    def key_id(self) -> str:
        """Its id."""
        [item] = self.items(f"KEY#{hashlib.sha256(self.key.encode()).hexdigest()}")
        return str(item["id"]["S"])

    @cached_property
    def session(self) -> boto3.Session:
        """The operator's AWS session."""
        return boto3.Session(
            aws_access_key_id=self.env["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.env["AWS_SECRET_ACCESS_KEY"],
            region_name=self.env["AWS_DEFAULT_REGION"],
        )

    def aws(self, service: str) -> Any:
        """An AWS client with the operator's credentials."""
        make: Any = self.session.client  # the stubs know a client by its literal name only
        return make(service, endpoint_url=self.env["AWS_ENDPOINT_URL"])

    def openai(self, *, key: str | None = None, strict: bool = True) -> OpenAI:
        """The official client, with every answer checked against its own types and no retries to hide a failure.

        One for each key, closed at the end: nobody would close a new one for each call.
        """
        asked = key or self.key, strict
        with self._making:
            if asked not in self._openai:
                self._openai[asked] = OpenAI(
                    base_url=self.env["OPENAI_BASE_URL"],
                    api_key=asked[0],
                    max_retries=0,
                    _strict_response_validation=strict,
                )
            return self._openai[asked]

    def close(self) -> None:
        """Close what is connected to the platform."""
        self._http.clear()
        for client in self._openai.values():
            client.close()

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """One request; ``body`` is sent as JSON unless it is bytes. ``key=""`` sends none."""
        sent = {"content-type": "application/json"} | (headers or {})
        bearer = self.key if key is None else key
        if bearer:
            sent["authorization"] = f"Bearer {bearer}"
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        answer = self._http.request(method, self.url + path, body=data, headers=sent)
        received = {name.lower(): value for name, value in answer.headers.items()}
        is_json = answer.data and "json" in received.get("content-type", "json")
        return Answer(answer.status, received, json.loads(answer.data) if is_json else None, answer.data)

    def fault(self, model: str, **spec: object) -> None:
        """Tell the local model server to misbehave for ``model``; :meth:`heal` ends it."""
        url = f"{self.env['SLUICE_MODELS_URL']}/faults/{model}"
        answer = self._http.request(
            "PUT", url, body=json.dumps(spec).encode(), headers={"content-type": "application/json"}
        )
        assert answer.status < 300, answer.data

    def end_faults(self) -> None:
        """End every injected fault; circuits that it has opened stay as they are."""
        assert self._http.request("DELETE", f"{self.env['SLUICE_MODELS_URL']}/faults").status < 300

    def heal(self) -> None:
        """End every injected fault, and have everybody forget what it taught them of the targets."""
        self.end_faults()
        targets = [item["name"]["S"] for item in self.items("ROUTES") if item["sk"]["S"].startswith("TARGET#")]
        keys = [(f"{kind}#{name}", sk) for name in targets for kind, sk in (("CIRCUIT", "STATE"), ("HEALTH", "EWMA"))]
        table, name = self.table, self.env["SLUICE_TABLE"]
        deleted = [
            table.delete_item(TableName=name, Key={"pk": {"S": pk}, "sk": {"S": sk}}, ReturnValues="ALL_OLD")
            for pk, sk in keys
        ]
        if any("Attributes" in answer for answer in deleted):
            time.sleep(CIRCUIT_CACHE_S + 0.05)

    @cached_property
    def table(self) -> Any:
        """A DynamoDB client with the operator's credentials."""
        return self.aws("dynamodb")

    def items(self, partition: str) -> list[dict[str, Any]]:
        """Every item of one partition of the table, as DynamoDB's typed JSON."""
        answer = self.table.query(
            TableName=self.env["SLUICE_TABLE"],
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": {"S": partition}},
            ConsistentRead=True,
        )
        return list(answer["Items"])

    def stop(self, execution_id: str) -> None:
        """Stop a workflow execution, as an operator would in Step Functions."""
        machine = self.env["SLUICE_STATE_MACHINE_ARN"]
        arn = f"{machine.replace(':stateMachine:', ':execution:')}:{execution_id}"
        self.aws("stepfunctions").stop_execution(executionArn=arn)

    def logs(self, function: str, *, containing: str = "", since_ms: int = 0) -> list[str]:
        """The log lines of a function that contain a text."""
        group = f"/aws/lambda/{self.function_name(function)}"
        pages = self.aws("logs").get_paginator("filter_log_events").paginate(logGroupName=group, startTime=since_ms)
        lines = [event["message"] for page in pages for event in page["events"]]
        return [line for line in lines if containing in line]

    def bring_out_logs(self) -> None:
        """Make the local cloud tell what it still holds back of the last log of chat_completions.

        It takes a call's log to have ended when it hears nothing for 5 ms. On a busy machine that is too soon, and the
        rest is told with the function's next call.
        """
        self.call("POST", "/chat/completions", b"{")

    @staticmethod
    def function_name(function: str) -> str:
        """The deployed name of a function's folder."""
        return f"sluice-local-{function.replace('_', '-')}"


def readable(value: object) -> str:
    """Bytes of the table as text: what they hold when they are no more than compressed."""
    assert isinstance(value, bytes)
    with contextlib.suppress(zlib.error):
        return zlib.decompress(value).decode("latin-1")
    return value.decode("latin-1")
