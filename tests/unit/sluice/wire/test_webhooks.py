"""What is sent is verified and understood by OpenAI's own client."""

from __future__ import annotations

import json
import time
from typing import Any

import msgspec
import pytest
from openai import InvalidWebhookSignatureError, OpenAI
from openai.types.webhooks import (
    BatchCancelledWebhookEvent,
    BatchCompletedWebhookEvent,
    BatchExpiredWebhookEvent,
    BatchFailedWebhookEvent,
)

from sluice.domain.webhooks import WebhookEvent, WebhookSecret, WebhookSecrets, new_webhook_secret
from sluice.wire.webhooks import WebhookSecretMade, WebhookSecretObject, signed

EVENT = WebhookEvent(
    id="evt_883d877cfe297bdaae2dcf1e052315a7",
    type="sluice.batch.completed",
    time="2026-11-21T00:00:00.500Z",
    key_id="key_1",
    resource_id="batch_1",
)
SECRET = WebhookSecret(secret=new_webhook_secret(), created_at=1)
OTHER = WebhookSecret(secret=new_webhook_secret(), created_at=0, retires_at=2_000_000_000)


@pytest.fixture
def client() -> OpenAI:
    return OpenAI(api_key="unused", base_url="http://127.0.0.1:9/v1")


def test_the_payload_is_openais() -> None:
    message = signed(EVENT, [SECRET], now=1_795_219_203.7)
    assert json.loads(message.body) == {
        "id": EVENT.id,
        "object": "event",
        "created_at": 1_795_219_200,
        "type": "batch.completed",
        "data": {"id": "batch_1"},
    }
    assert message.headers["webhook-id"] == EVENT.id
    assert message.headers["webhook-timestamp"] == "1795219203"
    assert message.headers["content-type"] == "application/json"


def test_the_signature_is_the_one_of_the_standards_own_example() -> None:
    """https://github.com/standard-webhooks/standard-webhooks/blob/main/libraries/python/tests/test_webhooks.py."""
    from sluice.wire.webhooks import _signature

    secret = WebhookSecret(secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", created_at=1)
    content = b'msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{"test": 2432232314}'
    assert _signature(secret, content) == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize(
    ("kind", "type_"),
    [
        ("completed", BatchCompletedWebhookEvent),
        ("failed", BatchFailedWebhookEvent),
        ("cancelled", BatchCancelledWebhookEvent),
        ("expired", BatchExpiredWebhookEvent),
    ],
)
@pytest.mark.parametrize("secret", [SECRET, OTHER])
def test_the_official_client_verifies_it_with_each_secret(
    client: OpenAI, secret: WebhookSecret, kind: str, type_: type[Any]
) -> None:
    event = msgspec.structs.replace(EVENT, type=f"sluice.batch.{kind}")
    message = signed(event, [SECRET, OTHER], now=time.time())
    told = client.webhooks.unwrap(message.body, dict(message.headers), secret=secret.secret)
    assert isinstance(told, type_)
    assert told.data.id == "batch_1"


@pytest.mark.parametrize("tampered", ["body", "webhook-id", "webhook-timestamp", "secret"])
def test_the_official_client_notices_any_change(client: OpenAI, tampered: str) -> None:
    now = time.time()
    message = signed(EVENT, [SECRET], now=now)
    body, headers, secret = message.body, dict(message.headers), SECRET.secret
    if tampered == "body":
        body = body.replace(b"batch_1", b"batch_2")
    elif tampered == "secret":
        secret = OTHER.secret
    else:
        headers[tampered] = str(int(now) - 1)
    with pytest.raises(InvalidWebhookSignatureError):
        client.webhooks.unwrap(body, headers, secret=secret)


def test_an_event_that_openai_does_not_know_is_told_in_the_same_form(client: OpenAI) -> None:
    event = msgspec.structs.replace(EVENT, type="sluice.async.failed", resource_id="async_1")
    message = signed(event, [SECRET], now=time.time())
    told: Any = client.webhooks.unwrap(message.body, dict(message.headers), secret=SECRET.secret)
    assert (told.type, told.data.id) == ("async.failed", "async_1")


def test_a_secret_is_shown_when_it_is_made_and_never_again() -> None:
    secrets = WebhookSecrets(key_id="key_1", version=2, secrets=(SECRET, OTHER))
    made = json.loads(msgspec.json.encode(WebhookSecretMade.showing(secrets)))
    later = json.loads(msgspec.json.encode(WebhookSecretObject.of(secrets)))
    assert made.pop("secret") == SECRET.secret
    assert made == later
    assert later == {
        "object": "webhook_secret",
        "prefix": SECRET.secret[:10],
        "created_at": 1,
        "retiring": [{"prefix": OTHER.secret[:10], "retires_at": 2_000_000_000}],
    }
