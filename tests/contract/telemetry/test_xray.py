"""What leaves a function for X-Ray, seen from where the daemon would be: real packets of a real invocation."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.contract.local_models.support import CHAT, Server, running

ROOT = Path(__file__).resolve().parents[3]
TRACE = "1-5759e988-bd862e3fe1be46a994272793"
PARENT = "53995c3f42cd8ad8"
CANARY = "canary-that-must-not-be-traced"

# A function as Lambda runs it, with its environment set before anything of ours is imported.
FUNCTION = """
import json, os, sys
from functions.chat_completions import handler as module
from sluice.adapters.bedrock import Bedrock
from sluice.adapters.dynamodb import Table
from sluice.adapters.dynamodb_request_log import DynamoDBRequestLog
from sluice.adapters.openai_compatible import OpenAICompatible
from sluice.domain.routing import Target
from sluice.runtime.clients import client
from sluice.runtime.http import status_of
from sluice.services.infer import Inference, RetryPolicy
from sluice.testing.invocations import CALLER, FakeLambdaContext, api_event
from sluice.testing.ledger import FakeLedger
from sluice.testing.routes import BOTH, FakeRoutes, alias
from sluice.testing.target_states import healthy

plan = json.load(sys.stdin)

class Secrets:
    def field(self, name): return "local-models-key"
    def forget(self): pass

bedrock = Target(name="bedrock/one", provider="bedrock", model=plan["model"], operations=BOTH)
embed = Target(name="bedrock/embed", provider="bedrock", model="wordllama-256", operations=BOTH)
other = Target(name="openai/two", provider="openai_compatible", model="extractive-v1", operations=BOTH,
               base_url=plan["url"] + "/openai/v1", secret_field="local")
inference = Inference(
    routes=FakeRoutes(bedrock, other, embed, alias("auto", "bedrock/one", "openai/two")),
    providers={
        "bedrock": Bedrock(lambda s: client("bedrock-runtime", read_timeout_s=s, max_attempts=1), longest_timeout_s=20),
        "openai_compatible": OpenAICompatible(Secrets()),
    },
    request_log=DynamoDBRequestLog(Table(client("dynamodb", max_attempts=1), "table"), ttl_days=1),
    ledger=FakeLedger(),
    watch=healthy(),
    policy=RetryPolicy(max_attempts=1),
    http_status=status_of,
)
module.inference = lambda: inference
if plan.get("embed"):
    from functions.embeddings import handler as module
    module.inference = lambda: inference
for header in plan["headers"]:
    os.environ.pop("_X_AMZN_TRACE_ID", None)
    if header:
        os.environ["_X_AMZN_TRACE_ID"] = header
    body = plan.get("embed") or {"model": "auto", "messages": [{"role": "user", "content": plan["prompt"]}]}
    response = module.handler(api_event("POST", "/v1/x", body=body, authorizer=CALLER), FakeLambdaContext())
    assert response["statusCode"] == 200, response
"""


# How often the trace header is parsed for two invocations of one call each.
PARSED = """
import os
from aws_xray_sdk.core.models.trace_header import TraceHeader
from sluice.telemetry.xray import XRay
parse, parsed = TraceHeader.from_header_str, []
TraceHeader.from_header_str = classmethod(lambda _, header: parsed.append(header) or parse(header))
for parent in ("a" * 16, "b" * 16):
    os.environ["_X_AMZN_TRACE_ID"] = f"Root=1-5759e988-bd862e3fe1be46a994272793;Parent={parent};Sampled=1"
    XRay.begin()
    with XRay.subsegment("one"):
        assert XRay.current().parent_id == parent
print(len(parsed))
"""


@dataclass
class World:
    """The daemon's socket, a model server, and a DynamoDB that refuses (which the request survives)."""

    daemon: socket.socket
    server: Server
    segments: list[dict[str, Any]] = field(default_factory=list)
    output: str = ""

    def run(self, *headers: str, **plan: object) -> None:
        """Run the function once per trace header, and collect what it sent."""
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "layers/sluice/python"))),
            "LAMBDA_TASK_ROOT": str(ROOT),
            "SLUICE_ENVIRONMENT": "test",
            "SLUICE_SERVICE": "chat_completions",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": self.server.url,
            # The model server knows nothing of DynamoDB, so the log cannot be written.
            "AWS_ENDPOINT_URL_DYNAMODB": self.server.url,
            "AWS_XRAY_DAEMON_ADDRESS": f"127.0.0.1:{self.daemon.getsockname()[1]}",
            "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
        }
        given = {"url": self.server.url, "model": CHAT, "prompt": f"Hello {CANARY}.", "headers": headers, **plan}
        done = subprocess.run(
            [sys.executable, "-c", FUNCTION],
            input=json.dumps(given),
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        self.output = done.stdout + done.stderr
        self._collect()

    def _collect(self) -> None:
        while True:
            try:
                packet = self.daemon.recvfrom(65_535)[0].decode()
            except BlockingIOError:
                return
            header, document = packet.split("\n", 1)
            assert json.loads(header) == {"format": "json", "version": 1}
            assert CANARY not in document
            self.segments.append(json.loads(document))

    def named(self, name: str) -> list[dict[str, Any]]:
        return [segment for segment in self.segments if segment["name"] == name]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("xray") / "state") as server:
        yield server


@pytest.fixture
def world(server: Server) -> Iterator[World]:
    server.call("DELETE", "/faults")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as daemon:
        daemon.bind(("127.0.0.1", 0))
        daemon.setblocking(False)
        yield World(daemon, server)


def header(trace: str = TRACE, parent: str = PARENT, sampled: int = 1) -> str:
    return f"Root={trace};Parent={parent};Sampled={sampled}"


def test_every_aws_call_is_a_subsegment_below_lambdas_own_segment(world: World) -> None:
    world.run(header())
    assert {segment["name"] for segment in world.segments} == {"bedrock-runtime", "dynamodb"}
    for segment in world.segments:
        assert (segment["trace_id"], segment["parent_id"], segment["type"]) == (TRACE, PARENT, "subsegment")
        assert (segment["namespace"], segment["end_time"] >= segment["start_time"]) == ("aws", True)
    [bedrock] = world.named("bedrock-runtime")
    assert bedrock["aws"]["operation"] == "Converse"
    [dynamodb] = world.named("dynamodb")
    assert dynamodb["aws"]["operation"] == "PutItem"
    assert dynamodb["fault"]


def test_a_call_that_is_not_aws_is_a_subsegment_too(world: World) -> None:
    world.server.fault(CHAT, kind="error", status=500, protocol="bedrock")
    world.run(header())
    [failed] = world.named("bedrock-runtime")
    assert failed["fault"]
    [provider] = world.named("openai/two")
    assert (provider["namespace"], provider["annotations"]) == ("remote", {"provider": "openai_compatible"})
    assert provider["http"]["response"]["status"] == 200


def test_an_exceptions_text_is_not_traced(world: World) -> None:
    world.server.fault(CHAT, kind="error", status=500, protocol="bedrock")
    world.run(header())
    [failed] = world.named("bedrock-runtime")
    [exception] = failed["cause"]["exceptions"]
    assert exception["type"]
    assert not exception.get("message")


def test_calls_made_side_by_side_hang_below_the_same_parent(world: World) -> None:
    texts = [f"text {number}" for number in range(20)]
    world.run(header(), embed={"model": "bedrock/embed", "input": texts})
    calls = world.named("bedrock-runtime")
    assert len(calls) == 20
    assert {(call["trace_id"], call["parent_id"]) for call in calls} == {(TRACE, PARENT)}


def test_each_invocation_has_its_own_parent_even_in_the_same_trace(world: World) -> None:
    """Step Functions runs several tasks of one trace in one warm function."""
    other = "a" * 16
    world.run(header(), header(parent=other))
    assert [segment["parent_id"] for segment in world.named("bedrock-runtime")] == [PARENT, other]


def test_the_header_of_an_invocation_is_parsed_once() -> None:
    environment = {"LAMBDA_TASK_ROOT": str(ROOT), "PYTHONPATH": str(ROOT / "layers/sluice/python")}
    done = subprocess.run(
        [sys.executable, "-c", PARSED], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "2"


@pytest.mark.parametrize("headers", [("",), (header(sampled=0),), ("", header(sampled=0), "")])
def test_what_is_not_traced_sends_nothing_and_complains_of_nothing(world: World, headers: tuple[str, ...]) -> None:
    world.run(*headers)
    assert world.segments == []
    assert "segment" not in world.output.lower()


def test_the_trace_id_is_in_every_log_line(world: World) -> None:
    world.run(header())
    lines = [json.loads(line) for line in world.output.splitlines()]
    logged = [line for line in lines if "event" in line]
    assert {line["trace_id"] for line in logged} == {TRACE}
    assert any(line["event"] == "ledger_write_failed" for line in logged)
    assert CANARY not in world.output
