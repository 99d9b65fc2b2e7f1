"""What an operator sees of a request: its lines, its metrics, its trace."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.support import Platform, eventually

CANARY = "canary-52ab77"
MESSAGES = [{"role": "user", "content": f"The {CANARY} lamp is green. Which colour has the lamp?"}]


class Daemon:
    """Stands where the X-Ray daemon would: receives segments by UDP."""

    def __init__(self, address: str) -> None:
        host, port = address.rsplit(":", 1)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((host, int(port)))
        self._socket.settimeout(0.2)
        self.segments: list[dict[str, Any]] = []

    def collect(self) -> None:
        """Take in what has arrived; a packet is a header line and a segment."""
        try:
            while True:
                header, document = self._socket.recvfrom(65_535)[0].decode().split("\n", 1)
                assert json.loads(header) == {"format": "json", "version": 1}
                self.segments.append(json.loads(document))
        except TimeoutError:
            return

    def close(self) -> None:
        self._socket.close()

    def names(self, trace_id: str) -> list[str]:
        """The names of every subsegment of a trace, children included."""

        def walk(segment: dict[str, Any]) -> list[str]:
            return [segment["name"], *(name for child in segment.get("subsegments", []) for name in walk(child))]

        return [name for segment in self.segments if segment["trace_id"] == trace_id for name in walk(segment)]


@pytest.fixture
def daemon(platform: Platform) -> Iterator[Daemon]:
    listening = Daemon(platform.env["SLUICE_XRAY_ADDRESS"])
    yield listening
    listening.close()


def canonical_line(platform: Platform, request_id: str) -> dict[str, Any]:
    """The line that sums up a request to chat_completions."""

    def probe() -> dict[str, Any] | None:
        lines = [json.loads(line) for line in platform.logs("chat_completions", containing=request_id)]
        found = next((line for line in lines if "duration_ms" in line), None)
        if not found:
            platform.bring_out_logs()
        return found

    return eventually(probe, within_s=10, what=f"the canonical line of {request_id}")


def chat(platform: Platform, model: str) -> str:
    request_id = f"seen-{time.time_ns()}"
    body = {"model": model, "messages": MESSAGES}
    assert platform.call("POST", "/chat/completions", body, headers={"x-request-id": request_id}).status == 200
    return request_id


def test_one_canonical_line_tells_the_whole_request(platform: Platform) -> None:
    request_id = chat(platform, "openai/extractive-v1")
    line = canonical_line(platform, request_id)
    assert (line["method"], line["route"], line["status"]) == ("POST", "/v1/chat/completions", 200)
    assert line["target"] == "openai/extractive-v1"
    assert line["request_id"] == request_id
    assert line["key_id"].startswith("key_")
    assert line["input_tokens"] > 0
    assert float(line["cost_micro_usd"]) > 0
    assert line["duration_ms"] > 0
    assert line["function"] == "chat_completions"
    assert line["trace_id"].startswith("1-")
    parsed = [json.loads(text) for text in platform.logs("chat_completions", containing=request_id)]
    assert sum("duration_ms" in entry for entry in parsed) == 1


def test_metrics_are_emitted_with_low_cardinality(platform: Platform) -> None:
    request_id = chat(platform, "bedrock/extractive-v1")
    canonical_line(platform, request_id)
    metrics = [json.loads(line) for line in platform.logs("chat_completions", containing="CloudWatchMetrics")]
    mine = [line for line in metrics if line.get("request_id") == request_id]
    dimensions = {tuple(sorted(line["_aws"]["CloudWatchMetrics"][0]["Dimensions"][0])) for line in mine}
    assert dimensions == {("Function",), ("Operation", "Target")}
    by_target = next(line for line in mine if "Target" in line)
    assert by_target["Target"] == "bedrock/extractive-v1"
    assert by_target["InputTokens"] > 0


@pytest.mark.parametrize(
    ("model", "provider"),
    [("bedrock/extractive-v1", "bedrock-runtime"), ("openai/extractive-v1", "openai/extractive-v1")],
)
def test_every_aws_and_provider_call_is_a_subsegment(
    platform: Platform, daemon: Daemon, model: str, provider: str
) -> None:
    line = canonical_line(platform, chat(platform, model))

    def complete() -> list[str] | None:
        daemon.collect()
        names = [name.lower() for name in daemon.names(line["trace_id"])]
        return names if {"dynamodb"} <= set(names) and any(provider in name for name in names) else None

    names = eventually(complete, within_s=10, what=f"the trace of {line['request_id']}")
    assert names
    for segment in daemon.segments:
        assert segment.get("parent_id"), "a subsegment without a parent would be lost"
        assert CANARY not in json.dumps(segment)


def test_the_prompt_is_in_no_log_line_of_any_function(platform: Platform) -> None:
    chat(platform, "auto")
    refused = platform.call(
        "POST", "/chat/completions", {"model": "auto", "messages": [{"role": CANARY, "content": CANARY}]}
    )
    assert refused.status == 400
    for name in platform.aws("logs").describe_log_groups()["logGroups"]:
        pages = platform.aws("logs").get_paginator("filter_log_events").paginate(logGroupName=name["logGroupName"])
        assert not [event for page in pages for event in page["events"] if CANARY in event["message"]]


def test_the_dashboard_shows_every_mode(platform: Platform) -> None:
    cloudwatch = platform.aws("cloudwatch")
    [entry] = cloudwatch.list_dashboards()["DashboardEntries"]
    body = cloudwatch.get_dashboard(DashboardName=entry["DashboardName"])["DashboardBody"]
    assert json.loads(body)["widgets"]
    for watched in ("sluice-local-chat-completions", "sluice-local-async", "sluice-local-chain", "Sluice/local"):
        assert watched in body
