from __future__ import annotations

import json
from typing import Any

import pytest

from functions.webhooks import handler as module
from sluice.domain.webhooks import MOST_SECRETS
from sluice.services.webhook_secrets import ManageWebhookSecrets
from sluice.testing.clock import FakeClock
from sluice.testing.invocations import CALLER, FakeLambdaContext, api_event
from sluice.testing.webhooks import FakeWebhookSecrets

NOW = 1_800_000_000
DAY = 86_400


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    made = FakeClock(NOW)
    service = ManageWebhookSecrets(FakeWebhookSecrets(), clock=made)
    monkeypatch.setattr(module, "secrets", lambda: service)
    return made


def call(
    method: str, body: object = None, *, key_id: str = "key_1", headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    authorizer = {**CALLER, "key_id": key_id}
    event = api_event(method, "/v1/webhooks/secret", body=body, authorizer=authorizer, headers=headers)
    response = module.handler(event, FakeLambdaContext())
    return response["statusCode"], json.loads(response["body"])


def test_a_secret_is_made_and_shown_once(clock: FakeClock, capsys: pytest.CaptureFixture[str]) -> None:
    status, made = call("POST")
    assert status == 201
    assert made == {
        "object": "webhook_secret",
        "secret": made["secret"],
        "prefix": made["secret"][:10],
        "created_at": NOW,
        "retiring": [],
    }
    secret = made.pop("secret")
    assert call("GET") == (200, made)
    assert secret not in capsys.readouterr().out


def test_rotated_it_signs_along_for_as_long_as_is_asked(clock: FakeClock) -> None:
    _, old = call("POST")
    clock.advance(5)
    _, new = call("POST", {"overlap_seconds": 60})
    assert new["secret"] != old["secret"]
    assert new["retiring"] == [{"prefix": old["prefix"], "retires_at": NOW + 65}]
    clock.advance(60)
    assert call("GET")[1]["retiring"] == []
    _, newest = call("POST", {})
    assert newest["retiring"] == [{"prefix": new["prefix"], "retires_at": NOW + 65 + DAY}]


@pytest.mark.parametrize("body", ["x", [], {"overlap_seconds": -1}, {"overlap_seconds": 8 * DAY}, {"overlap": 1}])
def test_a_body_that_is_not_understood_is_refused(clock: FakeClock, body: object) -> None:
    assert call("POST", body)[0] == 400
    assert call("GET")[0] == 404


def test_a_key_sees_its_own_only(clock: FakeClock) -> None:
    call("POST")
    for method in ("GET", "DELETE"):
        status, error = call(method, key_id="key_2")
        assert (status, error["error"]["code"]) == (404, "not_found")


def test_it_can_be_deleted(clock: FakeClock) -> None:
    call("POST")
    assert call("DELETE") == (200, {"object": "webhook_secret", "deleted": True})
    assert call("GET")[0] == 404
    assert call("DELETE")[0] == 404


def test_too_many_at_once_are_refused(clock: FakeClock) -> None:
    for _ in range(MOST_SECRETS):
        assert call("POST")[0] == 201
    status, error = call("POST")
    assert (status, error["error"]["code"]) == (409, "too_many_secrets")


def test_its_answer_is_never_stored_to_be_given_again(clock: FakeClock) -> None:
    status, error = call("POST", headers={"Idempotency-Key": "once"})
    assert (status, error["error"]["code"]) == (400, "idempotency_unsupported")
    assert call("GET")[0] == 404
