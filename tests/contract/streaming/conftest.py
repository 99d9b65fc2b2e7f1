"""The streaming function as Lambda would run it: its own process, started by the wrapper that is deployed.

Around it stand a Runtime API and a provider on loopback, and a real local cloud with the table.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from local import cloud as local_cloud
from local.environment import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY
from local.instance import Instance
from sluice.adapters.dynamodb import Table
from sluice.adapters.dynamodb_keys import DynamoDBKeys
from sluice.domain.audit import AdminAction, AdminVerb
from sluice.domain.keys import SHOWN_CHARACTERS, ApiKey, hash_secret, new_secret
from sluice.testing.invocations import url_event
from tests.contract.state.conftest import Aws, aws, cloud
from tests.contract.streaming.runtime_api import Invocation, RuntimeApi, eventually
from tests.contract.streaming.upstream import Upstream

__all__ = ["aws", "cloud"]

ROOT = Path(__file__).resolve().parents[3]
WRAPPER = ROOT / "layers/sluice/bin/stream"
ASK = [{"role": "user", "content": "Say it."}]
TARGET = {
    "name": {"S": "test/one"},
    "provider": {"S": "openai_compatible"},
    "model": {"S": "one"},
    "operations": {"L": [{"S": "chat"}]},
    "capabilities": {"L": [{"S": "streaming"}, {"S": "json_schema"}]},
    "created": {"N": "1700000000"},
    "price": {"M": {"version": {"S": "2026-01"}, "input_per_mtok": {"S": "3"}, "output_per_mtok": {"S": "15"}}},
}


def wrapped(api: RuntimeApi, output: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """The wrapper, called as Lambda calls it."""
    command = [str(WRAPPER), sys.executable, "/var/runtime/bootstrap.py"]
    with output.open("wb") as log:
        return subprocess.Popen(
            command,
            env={"PATH": os.environ["PATH"], "AWS_LAMBDA_RUNTIME_API": api.address, **environment},
            cwd="/",
            stdout=log,
            stderr=subprocess.STDOUT,
        )


@dataclass
class Function:
    """The running function and everything around it."""

    api: RuntimeApi
    upstream: Upstream
    table: Table
    secret: str
    key_id: str
    output: Path
    process: subprocess.Popen[bytes] = field(init=False)

    def event(self, path: str, body: object, *, headers: dict[str, str] | None = None) -> Any:
        """A request with the key, as a Function URL hands it over."""
        sent = {"content-type": "application/json", "authorization": f"Bearer {self.secret}", **(headers or {})}
        return url_event("POST", path, body=body, headers=sent)

    def chat(self, *, stream: bool = True, headers: dict[str, str] | None = None, **how: Any) -> Invocation:
        """Have it asked for a chat completion; returns at once."""
        body = {"model": "auto", "messages": ASK, "stream": stream, "stream_options": {"include_usage": True}}
        if not stream:
            del body["stream_options"]
        return self.api.invoke(self.event("/v1/chat/completions", body, headers=headers), **how)

    def lines(self, event: str = "request") -> list[dict[str, Any]]:
        """The lines that it has logged about ``event``."""
        logged = [json.loads(line) for line in self.output.read_text().splitlines() if line.startswith("{")]
        return [line for line in logged if line.get("event") == event]

    def summed_up(self, request_id: str) -> dict[str, Any]:
        """The canonical line of one request, once it is there."""

        def found() -> list[dict[str, Any]]:
            return [line for line in self.lines() if line["request_id"] == request_id]

        eventually(found, within_s=20, what=f"a canonical line of {request_id}")
        [line] = found()
        return line

    def settled(self, request_id: str) -> dict[str, Any]:
        """What the request log holds of one request."""
        client: Any = self.table._client
        pages = client.get_paginator("scan").paginate(
            TableName=self.table._name,
            FilterExpression="request_id = :id",
            ExpressionAttributeValues={":id": {"S": request_id}},
        )
        [item] = [item for page in pages for item in page["Items"]]
        return {name: next(iter(value.values())) for name, value in item.items()}

    def memory_mb(self) -> float:
        """The most memory that its process has had."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))) / 1024


@pytest.fixture(scope="session")
def upstream() -> Iterator[Upstream]:
    upstream = Upstream()
    yield upstream
    upstream.close()


@pytest.fixture(scope="session")
def table(aws: Aws, upstream: Upstream) -> Table:
    """A table with one route."""
    table, _ = aws.table()
    dynamodb = aws.client("dynamodb")
    target = {"pk": {"S": "ROUTES"}, "sk": {"S": "TARGET#test/one"}, **TARGET, "base_url": {"S": upstream.url}}
    alias = {
        "pk": {"S": "ROUTES"},
        "sk": {"S": "ALIAS#auto"},
        "name": {"S": "auto"},
        "operation": {"S": "chat"},
        "strategy": {"S": "priority"},
        "targets": {"L": [{"M": {"target": {"S": "test/one"}}}]},
    }
    for item in (target, alias):
        dynamodb.put_item(TableName=table._name, Item=item)
    return table


@pytest.fixture(scope="session")
def environment(cloud: Instance, table: Table) -> dict[str, str]:
    """What Lambda gives the function, and what Terraform does."""
    return {
        "_HANDLER": "functions.chat_stream.handler.handler",
        "LAMBDA_TASK_ROOT": str(ROOT),
        "AWS_ENDPOINT_URL": local_cloud.client(cloud, "dynamodb").meta.endpoint_url,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
        "SLUICE_ENVIRONMENT": "test",
        "SLUICE_SERVICE": "chat_stream",
        "LOG_LEVEL": "INFO",
        "TABLE_NAME": table._name,
        "BUCKET_NAME": "responses",
        "PROVIDER_SECRET_ARN": "arn:aws:secretsmanager:us-east-1:000000000000:secret:providers",
        "REQUEST_LOG_TTL_DAYS": "90",
        "ATTEMPT_TIMEOUT_SECONDS": "20",
        "MAX_ATTEMPTS": "1",
        "MAX_INPUT_BYTES": "100000",
        "KEY_CACHE_SECONDS": "60",
    }


@pytest.fixture(scope="module")
def running(
    environment: dict[str, str], upstream: Upstream, table: Table, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Function]:
    """One process for the tests of a module, as one container serves one invocation after the other."""
    secret = new_secret()
    key = ApiKey(
        id="key_stream",
        key_hash=hash_secret(secret),
        name="streaming",
        prefix=secret[:SHOWN_CHARACTERS],
        created_at=int(time.time()),
    )
    created = AdminAction(
        id="action_1", verb=AdminVerb.KEY_CREATED, actor="tests", subject=key.id, at=time.time(), request_id="request-1"
    )
    DynamoDBKeys(table).create(key, created)
    api = RuntimeApi()
    function = Function(api, upstream, table, secret, key.id, tmp_path_factory.mktemp("stream") / "output")
    function.process = wrapped(api, function.output, environment)
    yield function
    function.process.terminate()
    function.process.wait(10)
    api.close()


@pytest.fixture
def function(running: Function) -> Function:
    """The function, with a provider that has forgotten the test before."""
    running.upstream.reset()
    assert running.process.poll() is None, running.output.read_text()
    return running
