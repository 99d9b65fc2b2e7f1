"""Prompts, answers, features and keys are in no log, no item and no trace, whichever route and whatever happens."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from local.cloud import STATE_BUCKET
from tests.integration import test_idempotency
from tests.integration.governance import EVERY_SECRET, Key, admin
from tests.integration.support import Platform, eventually, readable
from tests.integration.test_observability import Daemon

CANARY = "canary-0d9f4e"
CANARY_NUMBER = 731.7317317
MESSAGES = [{"role": "user", "content": f"The {CANARY} lamp is green. Which colour has the lamp?"}]
ROUTES: dict[str, tuple[str, dict[str, Any]]] = {
    "chat completions": ("/chat/completions", {"model": "auto", "messages": MESSAGES}),
    "a stream": ("/chat/completions", {"model": "auto", "messages": MESSAGES, "stream": True}),
    "a schema": (
        "/chat/completions",
        {
            "model": "auto",
            "messages": MESSAGES,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "lamp", "schema": {"required": [CANARY], "properties": {CANARY: {}}}},
            },
        },
    ),
    "completions": ("/completions", {"model": "auto", "prompt": MESSAGES[0]["content"], "echo": True}),
    "chat": ("/chat", {"model": "auto", "prompt": MESSAGES[0]["content"]}),
    "embeddings": ("/embeddings", {"model": "embed", "input": CANARY}),
    "classify": ("/classify", {"input": CANARY, "labels": [CANARY, "other"]}),
    "classify by chat": ("/classify", {"model": "ask-label", "input": CANARY, "labels": [CANARY, "other"]}),
    "score": ("/score", {"features": [CANARY_NUMBER] * 50}),
    "a field that is wrong": ("/chat/completions", {"model": "auto", "messages": CANARY}),
    "a row that is wrong": ("/score", {"features": [CANARY_NUMBER] * 49}),
}
FAULTS: list[dict[str, Any]] = [
    {},
    {"kind": "error", "status": 500},
    {"kind": "garbage"},
    {"kind": "cut_stream", "after_tokens": 1},
    {"kind": "prose"},
]


@pytest.fixture
def daemon(platform: Platform) -> Iterator[Daemon]:
    listening = Daemon(platform.env["SLUICE_XRAY_ADDRESS"])
    yield listening
    listening.close()


def test_nothing_that_callers_say_is_logged_recorded_or_traced(healthy: Platform, daemon: Daemon) -> None:
    last = ""
    for fault in FAULTS:
        for model in ("extractive-v1", "wordllama-256", "lead-scorer") if fault else ():
            if fault["kind"] in {"error", "garbage"} or model == "extractive-v1":
                healthy.fault(model, **fault)
        for path, body in ROUTES.values():
            last = f"secret-{time.time_ns()}"
            request(healthy, path, body, last)
            daemon.collect()
        healthy.heal()
    eventually(lambda: healthy.logs("score", containing=last), within_s=20, what="the last request's log line")
    daemon.collect()
    assert daemon.segments
    assert untold(json.dumps(daemon.segments))
    for group in healthy.aws("logs").describe_log_groups()["logGroups"]:
        pages = healthy.aws("logs").get_paginator("filter_log_events").paginate(logGroupName=group["logGroupName"])
        assert all(untold(event["message"]) for page in pages for event in page["events"])
    pages = healthy.aws("dynamodb").get_paginator("scan").paginate(TableName=healthy.env["SLUICE_TABLE"])
    assert all(untold(json.dumps(page["Items"], default=readable)) for page in pages)


def test_no_key_is_logged_stored_traced_or_told(healthy: Platform, daemon: Daemon) -> None:
    """Neither API keys, whatever was done with them in this run, nor Idempotency-Keys, which may tell of a purpose."""
    key, purpose = Key.new(healthy, rpm=2, total_budget_usd="1"), f"purpose-{uuid.uuid4().hex}"
    secrets = [*EVERY_SECRET, admin(healthy, "POST", f"/keys/{key.id}/rotate", {}).body["key"], healthy.key]
    answers = [
        key.served("POST", path, body, headers={"idempotency-key": purpose, "x-sluice-cache": "on"})
        for path, body in test_idempotency.ROUTES.values()
        for _ in range(2)
    ]
    answers += [healthy.call("GET", "/models", key=key.secret + "x"), admin(healthy, "DELETE", f"/keys/{key.id}")]
    last = f"secret-{time.time_ns()}"
    request(healthy, "/embeddings", {"model": "embed", "input": "x"}, last)
    eventually(lambda: healthy.logs("embeddings", containing=last), within_s=20, what="the last request's log line")
    daemon.collect()

    untellable = [purpose, *(secret.removeprefix("sk-sluice-") for secret in secrets)]

    def assert_untold(text: str) -> None:
        assert not [word for word in untellable if word in text]

    assert daemon.segments
    assert_untold(json.dumps(daemon.segments))
    for answer in answers:
        assert_untold(answer.raw.decode() + json.dumps(answer.headers))
    for group in healthy.aws("logs").describe_log_groups()["logGroups"]:
        pages = healthy.aws("logs").get_paginator("filter_log_events").paginate(logGroupName=group["logGroupName"])
        assert_untold("".join(event["message"] for page in pages for event in page["events"]))
    pages = healthy.aws("dynamodb").get_paginator("scan").paginate(TableName=healthy.env["SLUICE_TABLE"])
    assert_untold(json.dumps([page["Items"] for page in pages], default=readable))
    for bucket in (healthy.env["SLUICE_BUCKET"], STATE_BUCKET):
        assert_untold("".join(objects(healthy, bucket)))


def objects(platform: Platform, bucket: str) -> Iterator[str]:
    """The content of every object of a bucket."""
    s3 = platform.aws("s3")
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    for name in [found["Key"] for page in pages for found in page.get("Contents", [])]:
        yield readable(s3.get_object(Bucket=bucket, Key=name)["Body"].read())


def untold(text: str) -> bool:
    return CANARY not in text and str(CANARY_NUMBER) not in text


def request(platform: Platform, path: str, body: dict[str, Any], request_id: str) -> None:
    answer = platform._http.request(
        "POST",
        platform.url + path,
        body=json.dumps(body).encode(),
        headers={
            "content-type": "application/json",
            "authorization": f"Bearer {platform.key}",
            "x-request-id": request_id,
        },
    )
    assert answer.status in {200, 400, 429, 502, 503, 504}, answer.data
