from __future__ import annotations

import json
import time
from typing import Any

import pytest

from functions.admin_keys import handler as module
from sluice.domain.audit import AdminVerb
from sluice.domain.keys import hash_secret
from sluice.services.manage_keys import ManageKeys
from sluice.testing.invocations import ADMINISTRATOR, FakeLambdaContext, api_event
from sluice.testing.keys import FakeKeys


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> FakeKeys:
    store = FakeKeys()
    manage = ManageKeys(store)
    monkeypatch.setattr(module, "keys", lambda: manage)
    return store


def call(method: str, path: str = "", *, key_id: str | None = None, **event: Any) -> tuple[int, Any]:
    event.setdefault("actor", ADMINISTRATOR)
    parameters = None if key_id is None else {"id": key_id}
    made = api_event(method, f"/v1/admin/keys{path}", path_parameters=parameters, **event)
    response = module.handler(made, FakeLambdaContext())
    return response["statusCode"], json.loads(response["body"])


def create(**fields: object) -> tuple[int, Any]:
    return call("POST", body=fields)


def get(key_id: str) -> tuple[int, Any]:
    return call("GET", "/{id}", key_id=key_id)


def update(key_id: str, **fields: object) -> tuple[int, Any]:
    return call("PATCH", "/{id}", key_id=key_id, body=fields)


def rotate(key_id: str, body: object = None) -> tuple[int, Any]:
    return call("POST", "/{id}/rotate", key_id=key_id, body=body)


def revoke(key_id: str) -> tuple[int, Any]:
    return call("DELETE", "/{id}", key_id=key_id)


def test_a_new_key_is_shown_once_and_logged_never(store: FakeKeys, capsys: pytest.CaptureFixture[str]) -> None:
    expires_at = int(time.time()) + 60
    asked = {
        "name": "app",
        "allowed_models": ["auto"],
        "scopes": ["inference"],
        "rpm": 60,
        "tpm": 1_000,
        "monthly_budget_usd": "12.5",
        "total_budget_usd": "100",
        "expires_at": expires_at,
    }
    status, body = create(**asked)
    assert status == 201
    assert body.items() >= {"object": "api_key", "status": "active", **asked}.items()
    assert hash_secret(body["key"]) in store.stored
    output = capsys.readouterr().out
    assert body["key"] not in output
    assert hash_secret(body["key"]) not in output
    assert body["id"] in output
    assert "key" not in get(body["id"])[1]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"scopes": ["batch"]}, "name"),
        ({"name": "app", "expires_at": 5}, "expires_at"),
        ({"name": "app", "scopes": ["chat"]}, "scopes[0]"),
        ({"name": "app", "monthly_budget_usd": "much"}, "monthly_budget_usd"),
        ({"name": "app", "rpmm": 5}, None),
    ],
)
def test_a_key_that_cannot_be_is_refused(store: FakeKeys, fields: dict[str, Any], param: str | None) -> None:
    status, body = create(**fields)
    assert (status, body["error"]["param"]) == (400, param)
    assert not store.stored


def test_a_key_is_shown_as_it_was_created(store: FakeKeys) -> None:
    _, created = create(name="app", tpm=9)
    status, shown = get(created["id"])
    assert status == 200
    assert shown == {field: value for field, value in created.items() if field != "key"}


def test_keys_are_listed_in_pages(store: FakeKeys) -> None:
    made = sorted(create(name=f"key {number}")[1]["id"] for number in range(5))
    status, first = call("GET", query={"limit": "3"})
    assert (status, first["object"], first["has_more"]) == (200, "list", True)
    _, rest = call("GET", query={"limit": "3", "after": first["next_after"]})
    assert [key["id"] for key in first["data"] + rest["data"]] == made
    assert (rest["has_more"], rest["next_after"]) == (False, None)
    assert not any("key" in key for key in first["data"])


def test_a_page_length_that_is_none_is_refused(store: FakeKeys) -> None:
    status, body = call("GET", query={"limit": "many"})
    assert (status, body["error"]["param"]) == (400, "limit")


def test_a_key_is_changed_in_what_is_named(store: FakeKeys) -> None:
    _, created = create(name="app", rpm=60, total_budget_usd="5")
    status, changed = update(created["id"], rpm=None, tpm=7, name="renamed")
    assert (status, changed["rpm"], changed["tpm"], changed["name"]) == (200, None, 7, "renamed")
    assert changed["total_budget_usd"] == "5"
    assert get(created["id"])[1] == changed


def test_a_key_cannot_outgrow_its_ledger(store: FakeKeys) -> None:
    _, created = create(name="app", rpm=60)
    status, body = update(created["id"], rpm=15_001)
    assert (status, body["error"]["param"]) == (400, "rpm")
    assert "Create a new key" in body["error"]["message"]


@pytest.mark.parametrize(("sent", "seconds"), [(None, 86_400), ({}, 86_400), ({"overlap_seconds": 60}, 60)])
def test_a_rotated_key_has_a_new_secret_and_the_old_one_for_a_while(
    store: FakeKeys, capsys: pytest.CaptureFixture[str], sent: object, seconds: int
) -> None:
    _, created = create(name="app")
    capsys.readouterr()
    status, rotated = rotate(created["id"], sent)
    assert (status, rotated["id"]) == (201, created["id"])
    assert rotated["key"] != created["key"]
    assert rotated["key"].startswith(rotated["prefix"])
    [retiring] = rotated["retiring"]
    assert retiring["prefix"] == created["prefix"]
    assert retiring["retires_at"] == pytest.approx(time.time() + seconds, abs=5)
    output = capsys.readouterr().out
    assert not any(secret in output for secret in (rotated["key"], hash_secret(rotated["key"])))


def test_a_revoked_key_says_since_when(store: FakeKeys) -> None:
    _, created = create(name="app")
    status, body = revoke(created["id"])
    assert (status, body["id"], body["prefix"], body["status"]) == (200, created["id"], created["prefix"], "revoked")
    assert body["revoked_at"] == pytest.approx(time.time(), abs=5)
    assert "key" not in body
    assert rotate(created["id"])[0] == 409
    assert update(created["id"], rpm=5)[1]["error"]["code"] == "key_revoked"


@pytest.mark.parametrize("call_it", [get, revoke, rotate, update])
def test_what_is_not_there_is_not_found(store: FakeKeys, call_it: Any) -> None:
    assert call_it("key_nonsense")[0] == 404


def test_every_change_says_who_made_it_in_the_log_and_in_its_record(
    store: FakeKeys, capsys: pytest.CaptureFixture[str]
) -> None:
    _, created = create(name="app")
    update(created["id"], rpm=5)
    rotate(created["id"])
    revoke(created["id"])
    assert [action.verb for action in store.actions] == [
        AdminVerb.KEY_CREATED,
        AdminVerb.KEY_UPDATED,
        AdminVerb.KEY_ROTATED,
        AdminVerb.KEY_REVOKED,
    ]
    assert {(action.actor, action.subject, action.request_id) for action in store.actions} == {
        (ADMINISTRATOR, created["id"], "gateway-request-1")
    }
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    canonical = [line for line in lines if line.get("event") == "request"]
    assert len(canonical) == 4
    for line, verb in zip(canonical, ("created", "updated", "rotated", "revoked"), strict=True):
        assert (line["actor"], line[f"{verb}_key_id"]) == (ADMINISTRATOR, created["id"])


@pytest.mark.parametrize("path", ["", "/{id}/rotate"])
def test_a_post_cannot_be_made_idempotent(store: FakeKeys, path: str) -> None:
    _, created = create(name="app")
    status, body = call(
        "POST", path, key_id=created["id"], body={"name": "x"}, headers={"Idempotency-Key": "once-and-only"}
    )
    assert (status, body["error"]["code"]) == (400, "idempotency_unsupported")
    assert len(store.stored) == 1


def test_a_route_that_is_deployed_without_iam_does_nothing(store: FakeKeys) -> None:
    status, _ = call("POST", body={"name": "thief"}, actor=None)
    assert status == 500
    assert not store.stored
