"""Idempotency-Key: a repeated request is answered once, on every route, whatever happens in between."""

from __future__ import annotations

import json
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from tests.integration.governance import Key, admin, containers, kill, micro, rush, settled
from tests.integration.support import Answer, Platform, eventually

MESSAGES = [{"role": "user", "content": "The heron is grey. Which colour is the heron?"}]
CHAT: dict[str, Any] = {"model": "openai/extractive-v1", "messages": MESSAGES}
ROUTES: dict[str, tuple[str, dict[str, Any]]] = {
    "chat completions": ("/chat/completions", CHAT),
    "a stream": ("/chat/completions", {**CHAT, "stream": True, "stream_options": {"include_usage": True}}),
    "completions": ("/completions", {"model": CHAT["model"], "prompt": MESSAGES[0]["content"]}),
    "chat": ("/chat", {"model": CHAT["model"], "prompt": MESSAGES[0]["content"]}),
    "embeddings": ("/embeddings", {"model": "embed", "input": "a heron"}),
    "classify": ("/classify", {"input": "a grey heron", "labels": ["bird", "fish"]}),
    "score": ("/score", {"features": [1.0] * 50}),
    "batch": ("/async/chat/completions", CHAT),
    "workflow": ("/workflows/chain/executions", {"steps": [{"prompt": MESSAGES[0]["content"]}]}),
}
# The longest life of a sync function and the claim's margin.
CLAIM_ENDS_WITHIN_S = 45
# What a response tells of how the request was handled; the rest is of the connection, and new each time.
OF_THE_REQUEST = ("content-type", "location", "x-sluice-", "x-ratelimit-")


def header(key: str | None = None) -> dict[str, str]:
    return {"idempotency-key": key or uuid.uuid4().hex}


def of_the_request(answer: Answer) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name.startswith(OF_THE_REQUEST)}


def provider_calls(platform: Platform, model: str) -> int:
    """How often the model server was asked for this model, by anybody."""
    answer = platform._http.request("GET", f"{platform.env['SLUICE_MODELS_URL']}/requests?model={model}")
    return int(json.loads(answer.data)["total"])


@dataclass
class Killed:
    """A request whose function was killed while the provider was being asked."""

    key: Key
    headers: dict[str, str]
    at: float


@pytest.fixture(scope="module", autouse=True)
def killed(platform: Platform) -> Killed:
    """Killed first of all, so that the time until the claim ends is spent on the other tests."""
    key, headers = Key.new(platform), header()
    platform.heal()
    platform.fault("extractive-v1", kind="latency", seconds=8)
    with ThreadPoolExecutor(1) as pool:
        doomed = pool.submit(key.call, "POST", "/chat/completions", CHAT, headers=headers)
        eventually(lambda: micro(key.usage()["reserved_usd"]) or None, within_s=30, what="the request is under way")
        assert kill(containers(platform, "chat_completions"))
        assert doomed.result().status == 502
    platform.heal()
    return Killed(key, headers, time.monotonic())


def test_50_identical_requests_at_once_are_one_call_and_one_charge(healthy: Platform) -> None:
    key, headers = Key.new(healthy), header()
    healthy.fault("extractive-v1", kind="latency", seconds=2)
    before = provider_calls(healthy, "extractive-v1")
    answers = rush(key, "/chat/completions", [CHAT] * 50, callers=50, headers=headers)
    healthy.end_faults()
    assert provider_calls(healthy, "extractive-v1") - before == 1
    [entry] = key.log()
    assert entry["status"]["S"] == "completed"

    first = [answer for answer in answers if answer.status == 200 and "idempotent-replayed" not in answer.headers]
    replays = [answer for answer in answers if answer.headers.get("idempotent-replayed") == "true"]
    conflicts = [answer for answer in answers if answer.status == 409]
    assert len(first) == 1
    assert len(replays) + len(conflicts) == 49
    assert {answer.raw for answer in replays} <= {first[0].raw}
    for answer in conflicts:
        assert answer.body["error"]["code"] == "idempotency_in_progress"
        assert answer.headers["x-should-retry"] == "false"
        assert 1 <= int(answer.headers["retry-after"]) <= CLAIM_ENDS_WITHIN_S

    again = key.served("POST", "/chat/completions", CHAT, headers=headers)
    assert (again.status, again.raw) == (200, first[0].raw)
    usage = settled(key, within_s=5)
    assert usage["requests"] == 1
    assert micro(usage["cost_usd"]) == key.logged_cost() == micro(first[0].headers["x-sluice-cost-usd"])


@pytest.mark.parametrize("route", ROUTES)
def test_every_route_replays(healthy: Platform, route: str) -> None:
    path, body = ROUTES[route]
    key, headers = Key.new(healthy), header()
    first, again = (key.served("POST", path, body, headers=headers) for _ in range(2))
    assert first.status in {200, 202}, first.body
    assert (again.status, again.raw) == (first.status, first.raw)
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["x-request-id"] != first.headers["x-request-id"]
    assert of_the_request(again) == of_the_request(first)
    if route not in {"batch", "workflow"}:
        assert len(key.log()) == 1
    if route == "a stream":
        assert first.headers["content-type"].startswith("text/event-stream")
        assert first.raw.rstrip().endswith(b"data: [DONE]")


def test_a_large_answer_replays_from_the_bucket(healthy: Platform) -> None:
    key, headers = Key.new(healthy), header()
    body = {"model": "embed", "input": [f"heron number {number}" for number in range(40)]}
    first, again = (key.served("POST", "/embeddings", body, headers=headers) for _ in range(2))
    assert len(first.raw) > 50_000
    assert again.raw == first.raw
    assert again.headers["idempotent-replayed"] == "true"
    bucket = {"Bucket": healthy.env["SLUICE_BUCKET"], "Prefix": f"responses/{key.id}/"}
    assert healthy.aws("s3").list_objects_v2(**bucket)["KeyCount"] == 1


def test_quoted_and_bare_are_the_same(healthy: Platform) -> None:
    key = Key.new(healthy)
    first = key.served("POST", "/chat/completions", CHAT, headers=header('"a-key"'))
    again = key.served("POST", "/chat/completions", CHAT, headers=header("a-key"))
    assert first.status == 200
    assert again.headers["idempotent-replayed"] == "true"
    assert again.raw == first.raw


@pytest.mark.parametrize(
    ("path", "body"),
    [("/chat/completions", {**CHAT, "temperature": 0.5}), ("/chat", ROUTES["chat"][1])],
    ids=["another body", "another route"],
)
def test_another_request_under_the_same_key_is_refused(healthy: Platform, path: str, body: object) -> None:
    key, headers = Key.new(healthy), header()
    assert key.served("POST", "/chat/completions", CHAT, headers=headers).status == 200
    refused = key.served("POST", path, body, headers=headers)
    assert refused.status == 422
    assert refused.body["error"]["code"] == "idempotency_key_reused"
    assert len(key.log()) == 1


def test_while_the_first_is_at_work_the_second_is_told_so(healthy: Platform) -> None:
    key, headers = Key.new(healthy), header()
    healthy.fault("extractive-v1", kind="latency", seconds=4)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(key.served, "POST", "/chat/completions", CHAT, headers=headers)
        eventually(lambda: micro(key.usage()["reserved_usd"]) or None, within_s=30, what="the first is at work")
        second = key.served("POST", "/chat/completions", CHAT, headers=headers)
        assert second.status == 409
        assert second.body["error"]["code"] == "idempotency_in_progress"
        assert first.result().status == 200


@pytest.mark.parametrize(
    ("fault", "body", "status"),
    [
        ({"kind": "error", "status": 500}, CHAT, 502),
        ({"kind": "cut_stream", "after_tokens": 1}, ROUTES["a stream"][1], 200),
    ],
    ids=["an error", "a stream that broke off"],
)
def test_what_failed_can_be_repeated(
    healthy: Platform, fault: dict[str, Any], body: dict[str, Any], status: int
) -> None:
    key, headers = Key.new(healthy), header()
    healthy.fault("extractive-v1", **fault)
    failed = key.served("POST", "/chat/completions", body, headers=headers)
    assert failed.status == status
    assert b"error" in failed.raw
    healthy.heal()
    again = key.served("POST", "/chat/completions", body, headers=headers)
    assert again.status == 200
    assert b"error" not in again.raw
    assert "idempotent-replayed" not in again.headers
    assert key.served("POST", "/chat/completions", body, headers=headers).headers["idempotent-replayed"] == "true"


def test_two_keys_never_share_a_record(healthy: Platform) -> None:
    headers = header("the-same-for-both")
    answers = [Key.new(healthy).served("POST", "/chat/completions", CHAT, headers=headers) for _ in range(2)]
    assert [answer.status for answer in answers] == [200, 200]
    assert all("idempotent-replayed" not in answer.headers for answer in answers)
    assert answers[0].body["id"] != answers[1].body["id"]


@pytest.mark.parametrize(
    "wrong", ["", " ", "two words", "x" * 256, '"never closed', "ümlaut".encode().decode("latin-1")]
)
def test_what_is_no_key_is_refused(healthy: Platform, wrong: str) -> None:
    refused = Key.new(healthy).served("POST", "/chat/completions", CHAT, headers={"idempotency-key": wrong})
    assert refused.status == 400
    assert refused.body["error"]["code"] == "invalid_idempotency_key"


def test_administrators_are_told_that_there_is_none(platform: Platform) -> None:
    refused = admin(platform, "POST", "/keys", {"name": "twice"}, headers=header())
    assert refused.status == 400
    assert refused.body["error"]["code"] == "idempotency_unsupported"


def test_a_killed_function_blocks_nobody_for_long(healthy: Platform, killed: Killed) -> None:
    left = CLAIM_ENDS_WITHIN_S - (time.monotonic() - killed.at)
    answer = killed.key.served("POST", "/chat/completions", CHAT, headers=killed.headers)
    if left > 0 and answer.status == 409:
        time.sleep(min(left, int(answer.headers["retry-after"])))
        answer = killed.key.served("POST", "/chat/completions", CHAT, headers=killed.headers)
    assert answer.status == 200, answer.body
    assert "idempotent-replayed" not in answer.headers
