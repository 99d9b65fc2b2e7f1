import json
import time
from typing import Any

import pytest

from functions.admin_keys import handler as module
from sluice.domain.keys import hash_secret
from sluice.services.manage_keys import ManageKeys
from sluice.testing.invocations import FakeLambdaContext, api_event
from sluice.testing.keys import FakeKeys


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> FakeKeys:
    store = FakeKeys()
    manage = ManageKeys(store)
    monkeypatch.setattr(module, "keys", lambda: manage)
    return store


def call(event: dict[str, Any]) -> tuple[int, Any]:
    response = module.handler(event, FakeLambdaContext())
    return response["statusCode"], json.loads(response["body"])


def create(**fields: object) -> tuple[int, Any]:
    return call(api_event("POST", "/v1/admin/keys", body=fields))


def revoke(key_id: str) -> tuple[int, Any]:
    return call(api_event("DELETE", "/v1/admin/keys/{id}", path_parameters={"id": key_id}))


def test_a_new_key_is_shown_once_and_logged_never(store: FakeKeys, capsys: pytest.CaptureFixture[str]) -> None:
    expires_at = int(time.time()) + 60
    status, body = create(name="app", allowed_models=["auto"], scopes=["chat"], expires_at=expires_at)
    assert status == 201
    assert (
        body.items()
        >= {
            "object": "api_key",
            "name": "app",
            "allowed_models": ["auto"],
            "scopes": ["chat"],
            "expires_at": expires_at,
        }.items()
    )
    assert hash_secret(body["key"]) in store.stored
    output = capsys.readouterr().out
    assert body["key"] not in output
    assert hash_secret(body["key"]) not in output
    assert body["id"] in output


def test_a_key_without_a_name_is_refused(store: FakeKeys) -> None:
    status, body = create(scopes=[])
    assert (status, body["error"]["param"]) == (400, "name")
    assert not store.stored


def test_a_key_cannot_be_born_expired(store: FakeKeys) -> None:
    status, body = create(name="app", expires_at=5)
    assert (status, body["error"]["param"]) == (400, "expires_at")


def test_a_revoked_key_says_since_when(store: FakeKeys) -> None:
    _, created = create(name="app")
    status, body = revoke(created["id"])
    assert (status, body["id"], body["prefix"]) == (200, created["id"], created["prefix"])
    assert body["revoked_at"] == pytest.approx(time.time(), abs=5)
    assert "key" not in body


def test_revoking_what_is_not_there_is_not_found(store: FakeKeys) -> None:
    assert revoke("key_nonsense")[0] == 404
