"""Webhooks: told once it is over, signed so that the official client knows it, repeated until somebody listens."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from openai import InvalidWebhookSignatureError
from openai.types.webhooks import BatchCompletedWebhookEvent

from tests.integration.batches import begun, ended, jsonl, question, queued, request
from tests.integration.governance import Key, admin
from tests.integration.support import Platform, eventually, local

# `webhook_attempts` of the local platform.
ATTEMPTS = 5


@dataclass
class Receiver:
    """A server of the caller's, which answers with the statuses that it is told, in turn; then with 204."""

    statuses: list[int] = field(default_factory=list)
    received: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    told = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            told.received.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(told.statuses.pop(0) if told.statuses else 204)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (its name in the standard library)
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    told.url = f"http://127.0.0.1:{server.server_port}/hook"
    yield told
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def key(platform: Platform) -> Key:
    return Key.new(platform)


@pytest.fixture
def secret(key: Key) -> str:
    answer = key.call("POST", "/webhooks/secret")
    assert answer.status in (200, 201), answer.body
    return str(answer.body["secret"])


def batch_of(event: object) -> str:
    assert isinstance(event, BatchCompletedWebhookEvent)
    return event.data.id


def first(receiver: Receiver, number: int = 1) -> list[tuple[dict[str, str], bytes]]:
    eventually(lambda: len(receiver.received) >= number or None, within_s=60, what=f"{number} webhooks have come")
    return receiver.received


def test_a_batch_that_is_over_is_told_and_the_official_client_trusts_it(
    platform: Platform, key: Key, secret: str, receiver: Receiver
) -> None:
    client = platform.openai(key=key.secret)
    batch = begun(client, jsonl([request("one", question(1))]), callback_url=receiver.url)
    ended(client, batch.id)
    headers, body = first(receiver)[0]
    event = client.webhooks.unwrap(body, headers, secret=secret)
    assert isinstance(event, BatchCompletedWebhookEvent)
    assert event.object == "event"
    assert batch_of(event) == batch.id
    with pytest.raises(InvalidWebhookSignatureError):
        client.webhooks.unwrap(body + b" ", headers, secret=secret)


def test_a_webhook_comes_again_until_it_is_taken_and_always_under_the_same_id(
    platform: Platform, key: Key, secret: str, receiver: Receiver
) -> None:
    receiver.statuses = [500, 503]
    headers = {"x-sluice-callback-url": receiver.url}
    job = key.call("POST", "/async/chat/completions", question(3), headers=headers)
    assert job.status == 202, job.body
    received = first(receiver, 3)
    assert len({headers["webhook-id"] for headers, _ in received}) == 1
    assert all(job.body["id"].encode() in body for _, body in received)
    assert secret not in str(received)


def test_a_webhook_that_nobody_took_is_sent_again_by_a_redrive(
    platform: Platform, key: Key, secret: str, receiver: Receiver
) -> None:
    receiver.statuses = [500] * ATTEMPTS
    headers = {"x-sluice-callback-url": receiver.url}
    job = key.call("POST", "/async/chat/completions", question(3), headers=headers).body
    first(receiver, ATTEMPTS)

    def letter() -> dict[str, Any] | None:
        told = admin(platform, "GET", "/queues/webhooks/dead-letters").body["data"]
        return next((one for one in told if one["subject"] == job["id"]), None)

    assert eventually(letter, within_s=60, what="its dead letter")["code"].startswith("webhook_")
    eventually(lambda: queued(platform, "webhooks_dlq") or None, within_s=60, what="the message is in the DLQ")
    redriven = local("redrive", "webhooks")
    assert redriven.returncode == 0, redriven.stderr
    received = first(receiver, ATTEMPTS + 1)
    assert len({headers["webhook-id"] for headers, _ in received}) == 1
    assert eventually(lambda: letter() is None or None, within_s=30, what="it is no dead letter any more")


def test_no_callback_without_a_secret_to_sign_it(key: Key, receiver: Receiver) -> None:
    headers = {"x-sluice-callback-url": receiver.url}
    answer = key.call("POST", "/async/chat/completions", question(3), headers=headers)
    assert (answer.status, answer.body["error"]["code"]) == (400, "webhook_secret_missing")


def test_a_new_secret_and_the_old_one_both_sign(platform: Platform, key: Key, secret: str, receiver: Receiver) -> None:
    newer = str(key.call("POST", "/webhooks/secret").body["secret"])
    assert newer != secret
    client = platform.openai(key=key.secret)
    batch = begun(client, jsonl([request("one", question(1))]), callback_url=receiver.url)
    ended(client, batch.id)
    headers, body = first(receiver)[0]
    for each in (newer, secret):
        assert batch_of(client.webhooks.unwrap(body, headers, secret=each)) == batch.id
    told = key.call("GET", "/webhooks/secret").body
    assert newer not in str(told)
    assert secret not in str(told)
