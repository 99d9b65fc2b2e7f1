"""How targets are chosen, through the public API: strategies, headers that override them, and what is told about it."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import Any

import pytest

from tests.integration.support import Answer, Platform

BEDROCK, OPENAI = "bedrock/extractive-v1", "openai/extractive-v1"
BRISK_US, BRISK_EU = "bedrock/extractive-v1-brisk", "openai/extractive-v1-brisk"


def ask(platform: Platform, model: str, headers: dict[str, str] | None = None, **fields: Any) -> Answer:
    body = {"model": model, "messages": [{"role": "user", "content": "The museum opens at nine. When?"}], **fields}
    return platform.call("POST", "/chat/completions", body, headers=headers)


def answered_by(platform: Platform, model: str, headers: dict[str, str] | None = None) -> str:
    answer = ask(platform, model, headers)
    assert answer.status == 200, answer.body
    assert answer.body["model"] == answer.headers["x-sluice-target"]
    return answer.headers["x-sluice-target"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/chat/completions", {"model": "auto", "messages": [{"role": "user", "content": "Hello there."}]}),
        ("/chat/completions", {"model": "auto", "messages": [{"role": "user", "content": "Hello."}], "stream": True}),
        ("/completions", {"model": "auto", "prompt": "Hello there."}),
        ("/chat", {"prompt": "Hello there."}),
        ("/embeddings", {"model": "embed", "input": "hello"}),
        ("/classify", {"input": "I want my money back", "labels": ["refund", "praise"]}),
        ("/score", {"features": [0.5] * 50}),
    ],
)
def test_every_sync_route_says_how_it_was_answered(healthy: Platform, path: str, body: dict[str, Any]) -> None:
    answer = healthy.call("POST", path, body)
    assert answer.status == 200, answer.body
    headers = answer.headers
    assert "/" in headers["x-sluice-target"]
    assert (headers["x-sluice-attempts"], headers["x-sluice-fallbacks"]) == ("1", "0")
    assert headers["x-sluice-cache"] == "bypass"
    assert 0 <= float(headers["x-sluice-overhead-ms"]) < 10_000
    # Of a model that is billed by the hour nobody can say what one call costs.
    if headers["x-sluice-target"] == "sagemaker/lead-scorer":
        assert "x-sluice-cost-usd" not in headers
    else:
        assert Decimal(headers["x-sluice-cost-usd"]) > 0


def test_priority_asks_the_first(healthy: Platform) -> None:
    assert answered_by(healthy, "auto") == BEDROCK
    assert answered_by(healthy, "fast") == OPENAI


def test_round_robin_takes_turns(healthy: Platform) -> None:
    seen = Counter(answered_by(healthy, "turns") for _ in range(8))
    # Each container counts for itself; one after the other, requests nearly always meet the same one.
    assert set(seen) == {BEDROCK, OPENAI}
    assert abs(seen[BEDROCK] - seen[OPENAI]) <= 2


def test_weights_share_out_the_requests(healthy: Platform) -> None:
    seen = Counter(answered_by(healthy, "weighted") for _ in range(30))
    # 3 to 1: fewer than 12 of 30 happens once in ten million runs.
    assert seen[BEDROCK] >= 12
    assert seen[BEDROCK] + seen[OPENAI] == 30


def test_cost_takes_the_cheaper(healthy: Platform) -> None:
    assert {answered_by(healthy, "thrifty") for _ in range(3)} == {OPENAI}


def test_latency_takes_the_quicker_once_both_are_known(healthy: Platform) -> None:
    healthy.fault("extractive-v1", kind="latency", seconds=0.4, protocol="bedrock")
    for _ in range(4):
        answered_by(healthy, "nimble")
    assert {answered_by(healthy, "nimble") for _ in range(6)} == {OPENAI}


def test_headers_override_the_route(healthy: Platform) -> None:
    assert answered_by(healthy, "auto", {"x-sluice-target": OPENAI}) == OPENAI
    assert answered_by(healthy, "auto", {"x-sluice-strategy": "cost"}) == OPENAI
    assert answered_by(healthy, "brisk", {"x-sluice-region": "eu"}) == BRISK_EU
    assert answered_by(healthy, "brisk-openai", {"x-sluice-region": "us-east-1"}) == BRISK_US


@pytest.mark.parametrize(
    ("header", "value", "status", "code"),
    [
        ("x-sluice-target", "nobody/nothing", 404, "target_not_found"),
        ("x-sluice-target", "bedrock/wordllama-256", 400, "unsupported_operation"),
        ("x-sluice-strategy", "best", 400, "invalid_strategy"),
        ("x-sluice-region", "moon-1", 400, "no_target_in_region"),
    ],
)
def test_a_header_that_makes_no_sense_is_named(
    healthy: Platform, header: str, value: str, status: int, code: str
) -> None:
    answer = ask(healthy, "auto", {header: value})
    assert answer.status == status
    assert (answer.body["error"]["code"], answer.body["error"]["param"]) == (code, header)


def test_what_is_longer_than_any_context_is_refused_without_a_call(healthy: Platform) -> None:
    body = {"model": "auto", "messages": [{"role": "user", "content": "word " * 20_000}]}
    answer = healthy.call("POST", "/chat/completions", body)
    assert (answer.status, answer.body["error"]["code"]) == (400, "context_length_exceeded")
