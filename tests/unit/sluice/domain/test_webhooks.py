from __future__ import annotations

import base64
import json
import re

import msgspec
import pytest

from sluice.domain.webhooks import (
    WebhookAnswer,
    WebhookPointer,
    WebhookSecret,
    WebhookSecrets,
    new_webhook_secret,
    secret_bytes,
)

DETAIL = {
    "schema_version": "1.0",
    "id": "evt_1",
    "type": "sluice.batch.completed",
    "time": "2026-11-21T00:00:00.000Z",
    "environment": "prod",
    "key_id": "key_1",
    "mode": "batch",
    "resource_id": "batch_1",
    "status": "completed",
}


def test_a_secret_is_one_of_the_standard_and_never_the_same() -> None:
    one, other = new_webhook_secret(), new_webhook_secret()
    assert one != other
    assert re.fullmatch(r"whsec_[A-Za-z0-9+/]{43}=", one)
    assert secret_bytes(one) == base64.b64decode(one[6:])
    assert len(secret_bytes(one)) == 32


def test_of_a_secret_only_its_beginning_is_shown() -> None:
    assert WebhookSecret(secret="whsec_abcdefgh", created_at=1).prefix == "whsec_abcd"


def test_a_retired_secret_signs_no_more() -> None:
    current = WebhookSecret(secret="whsec_b", created_at=5)
    before = WebhookSecret(secret="whsec_a", created_at=1, retires_at=10)
    secrets = WebhookSecrets(key_id="key_1", version=2, secrets=(current, before))
    assert secrets.live_at(9.9) == (current, before)
    assert secrets.live_at(10) == (current,)
    assert secrets.current == current


def test_a_message_of_the_bus_is_a_pointer_and_so_is_the_one_that_replaces_it() -> None:
    event = {"version": "0", "id": "x", "source": "sluice", "detail-type": DETAIL["type"], "detail": DETAIL}
    pointer = msgspec.json.decode(json.dumps(event), type=WebhookPointer)
    assert (pointer.detail.id, pointer.detail.resource_id, pointer.receives) == ("evt_1", "batch_1", 0)
    later = msgspec.structs.replace(pointer, receives=3)
    assert msgspec.json.decode(msgspec.json.encode(later), type=WebhookPointer) == later


@pytest.mark.parametrize("body", ["{}", '{"detail": {}}', "x", '{"detail": {"id": 1}}'])
def test_anything_else_is_none(body: str) -> None:
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(body, type=WebhookPointer)


@pytest.mark.parametrize(("status", "taken"), [(199, False), (200, True), (204, True), (299, True), (302, False)])
def test_only_success_means_that_a_message_was_taken(status: int, taken: bool) -> None:
    assert WebhookAnswer(status=status).is_taken is taken
