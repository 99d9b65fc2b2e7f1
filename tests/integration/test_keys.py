"""The life of a key: made, listed, changed, rotated, revoked; what it opens, and who is told."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

import pytest

from tests.integration.governance import Key, admin
from tests.integration.support import Platform, eventually, local
from tests.integration.test_events import Subscriber, bus

__all__ = ["bus"]

REVOKED_WITHIN_S = 60
ENDED = {"completed", "failed"}
CHAT = {"model": "cheap", "messages": [{"role": "user", "content": "The door is red. Which colour?"}]}
STEPS = {"steps": [{"prompt": "The door is red. Which colour?"}]}
ROUTES = {
    "inference": ("POST", "/embeddings", {"model": "embed", "input": "x"}),
    "batch": ("POST", "/async/chat/completions", CHAT),
    "workflow": ("POST", "/workflows/chain/executions", STEPS),
}
ADMIN_ROUTES = [
    ("POST", "/keys"),
    ("GET", "/keys"),
    ("GET", "/keys/key_1"),
    ("PATCH", "/keys/key_1"),
    ("DELETE", "/keys/key_1"),
    ("POST", "/keys/key_1/rotate"),
    ("GET", "/usage"),
    ("GET", "/circuits"),
    ("POST", "/queues/async/redrive"),
]


def opens(platform: Platform, secret: str) -> bool:
    """Whether the secret is let in at all."""
    answer = Key(platform, "", secret).served("GET", "/models")
    assert answer.status in {200, 401}
    return answer.status == 200


def shut(platform: Platform, secret: str) -> float:
    """Seconds until the secret is let in no more, which is never longer than it may be."""
    started = time.monotonic()
    eventually(lambda: not opens(platform, secret) or None, within_s=REVOKED_WITHIN_S, what="the secret is shut out")
    return time.monotonic() - started


def audit(platform: Platform, subject: str) -> list[dict[str, Any]]:
    """What administrators did to a key or a queue, in order."""
    day = time.strftime("%Y%m%d", time.gmtime())
    return [item for item in platform.items(f"AUDIT#{day}") if item["subject"]["S"] == subject]


def test_a_key_is_made_with_everything_it_may_have_and_shown_once(platform: Platform) -> None:
    fields = {
        "name": "everything",
        "scopes": ["batch", "inference"],
        "allowed_models": ["cheap", "embed"],
        "rpm": 600,
        "tpm": 100_000,
        "monthly_budget_usd": "12.5",
        "total_budget_usd": "100",
        "expires_at": int(time.time()) + 3600,
    }
    made = admin(platform, "POST", "/keys", fields)
    assert made.status == 201, made.body
    secret = made.body["key"]
    assert secret.startswith(made.body["prefix"])
    shown = admin(platform, "GET", f"/keys/{made.body['id']}")
    assert {name: shown.body[name] for name in fields} == fields
    assert shown.body["status"] == "active"
    assert secret not in shown.raw.decode()
    assert opens(platform, secret)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"scopes": ["everything"]}, "inference"),
        ({"rpn": 5}, "rpn"),
        ({"rpm": 0}, "rpm"),
        ({"monthly_budget_usd": "-1"}, "monthly_budget_usd"),
        ({"total_budget_usd": 5}, "total_budget_usd"),
    ],
)
def test_a_wrong_wish_is_refused_and_named(platform: Platform, fields: dict[str, object], named: str) -> None:
    refused = admin(platform, "POST", "/keys", {"name": "wrong", **fields})
    assert refused.status == 400
    assert named in json.dumps(refused.body["error"])


def test_keys_are_listed_page_by_page(platform: Platform) -> None:
    made = {Key.new(platform).id for _ in range(3)}

    def listed() -> list[str] | None:
        found: list[str] = []
        query: dict[str, str] = {"limit": "2"}
        while True:
            page = admin(platform, "GET", "/keys", query=query)
            assert page.status == 200, page.body
            assert len(page.body["data"]) <= 2
            found += [key["id"] for key in page.body["data"]]
            assert "sk-sluice-" + "x" * 39 not in page.raw.decode()
            if not page.body["has_more"]:
                return found if made <= set(found) else None
            query["after"] = page.body["next_after"]

    found = eventually(listed, within_s=30, what="the new keys are listed")
    assert found == sorted(set(found))


def test_a_change_is_in_force_within_a_minute(platform: Platform) -> None:
    key = Key.new(platform, allowed_models=["embed"])
    assert key.served("POST", "/chat/completions", CHAT).status == 403
    changed = admin(platform, "PATCH", f"/keys/{key.id}", {"allowed_models": None, "rpm": 700, "name": "renamed"})
    assert changed.status == 200, changed.body
    assert (changed.body["allowed_models"], changed.body["rpm"], changed.body["name"]) == (None, 700, "renamed")
    answer = eventually(
        lambda: found if (found := key.served("POST", "/chat/completions", CHAT)).status == 200 else None,
        within_s=60,
        what="the change is in force",
    )
    assert answer.headers["x-ratelimit-limit-requests"] == "700"


def test_a_ledger_cannot_be_split_later(platform: Platform) -> None:
    key = Key.new(platform, rpm=100)
    assert admin(platform, "PATCH", f"/keys/{key.id}", {"rpm": 15_000}).status == 200
    refused = admin(platform, "PATCH", f"/keys/{key.id}", {"rpm": 15_001})
    assert refused.status == 400
    assert "new key" in refused.body["error"]["message"]


def test_two_secrets_work_while_a_key_is_rotated(platform: Platform) -> None:
    key = Key.new(platform, rpm=1000)
    rotated = admin(platform, "POST", f"/keys/{key.id}/rotate", {"overlap_seconds": 4})
    retires_at = time.time() + 4
    assert rotated.status in {200, 201}, rotated.body
    new = rotated.body["key"]
    assert rotated.body["id"] == key.id
    assert new != key.secret
    assert opens(platform, new)
    # Not after that, whatever an authorizer remembers; until shortly before it for certain.
    while time.time() < retires_at - 1.5:
        assert opens(platform, key.secret)
    time.sleep(max(0.0, retires_at + 1.0 - time.time()))
    assert not opens(platform, key.secret)
    assert opens(platform, new)
    one, other = Key(platform, key.id, new), key.served("GET", "/usage").status
    assert other == 401
    assert one.usage()["limits"]["rpm"] == 1000


def test_a_rotation_without_overlap_shuts_the_old_secret_out(platform: Platform) -> None:
    key = Key.new(platform)
    assert opens(platform, key.secret)
    new = admin(platform, "POST", f"/keys/{key.id}/rotate", {"overlap_seconds": 0}).body["key"]
    assert shut(platform, key.secret) <= REVOKED_WITHIN_S
    assert opens(platform, new)


def test_a_revoked_key_stops_within_a_minute_with_all_its_secrets(platform: Platform) -> None:
    key = Key.new(platform)
    new = admin(platform, "POST", f"/keys/{key.id}/rotate", {"overlap_seconds": 600}).body["key"]
    assert opens(platform, key.secret)
    assert opens(platform, new)
    revoked = admin(platform, "DELETE", f"/keys/{key.id}")
    assert revoked.status == 200
    for secret in (key.secret, new):
        assert shut(platform, secret) <= REVOKED_WITHIN_S
    assert admin(platform, "GET", f"/keys/{key.id}").body["status"] == "revoked"
    assert admin(platform, "DELETE", f"/keys/{key.id}").body["revoked_at"] == revoked.body["revoked_at"]
    assert admin(platform, "POST", f"/keys/{key.id}/rotate", {}).status >= 400


def test_work_of_a_revoked_key_is_not_done(healthy: Platform) -> None:
    """It was accepted while the key was good, and is worked on when it no longer is."""
    key = Key.new(healthy)
    lambdas = healthy.aws("lambda")
    [mapping] = lambdas.list_event_source_mappings(FunctionName=f"{healthy.function_name('async_worker')}:live")[
        "EventSourceMappings"
    ]
    lambdas.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
    try:
        job = key.served("POST", "/async/chat/completions", CHAT).body["id"]
        assert admin(healthy, "DELETE", f"/keys/{key.id}").status == 200
    finally:
        lambdas.update_event_source_mapping(UUID=mapping["UUID"], Enabled=True)
    item = eventually(
        lambda: next((one for one in healthy.items(f"ASYNC#{job}") if one["status"]["S"] in ENDED), None),
        within_s=60,
        what="the job has ended",
    )
    assert item["status"]["S"] == "failed"
    assert key.log() == []


def test_an_expired_key_opens_nothing(platform: Platform) -> None:
    key = Key.new(platform, expires_at=int(time.time()) + 4)
    assert opens(platform, key.secret)
    time.sleep(5)
    assert not opens(platform, key.secret)
    assert admin(platform, "GET", f"/keys/{key.id}").body["status"] == "expired"


@pytest.mark.parametrize("scope", ROUTES)
def test_a_scope_opens_its_own_routes_only(platform: Platform, scope: str) -> None:
    key = Key.new(platform, scopes=[scope])
    for name, (method, path, body) in ROUTES.items():
        answer = key.served(method, path, body)
        if name == scope:
            assert answer.status in {200, 202}, answer.body
        else:
            assert answer.status == 403
            assert answer.body["error"]["code"] == "insufficient_scope"
            assert name in answer.body["error"]["message"]
    assert key.served("GET", "/models").status == 200
    assert key.served("GET", "/usage").status == 200


def test_every_change_is_recorded_with_who_made_it_and_announced(platform: Platform, bus: Subscriber) -> None:
    key = Key.new(platform, rpm=5)
    admin(platform, "PATCH", f"/keys/{key.id}", {"rpm": 6})
    rotated = admin(platform, "POST", f"/keys/{key.id}/rotate", {})
    admin(platform, "DELETE", f"/keys/{key.id}")
    records = audit(platform, key.id)
    assert [record["verb"]["S"] for record in records] == ["key.created", "key.updated", "key.rotated", "key.revoked"]
    assert all(record["actor"]["S"].startswith("arn:aws:iam::") for record in records)
    assert "6" in json.dumps(records[1]["changes"])
    for verb in ("created", "updated", "rotated", "revoked"):
        event = bus.wait_for(key.id, f"sluice.key.{verb}")
        assert event["detail"]["mode"] == "admin"
        assert event["detail"]["actor"] == records[0]["actor"]["S"]
        for secret in (key.secret, rotated.body["key"]):
            assert secret not in json.dumps(event)


def test_a_redrive_moves_dead_letters_and_is_recorded(platform: Platform, bus: Subscriber) -> None:
    sqs = platform.aws("sqs")
    # Never sent by Sluice: the worker cannot read it, and says so.
    sqs.send_message(QueueUrl=platform.env["SLUICE_ASYNC_DLQ_URL"], MessageBody=json.dumps({"id": uuid.uuid4().hex}))
    before = len(audit(platform, "async"))
    moved = admin(platform, "POST", "/queues/async/redrive")
    assert moved.status == 200, moved.body
    assert moved.body["moved"] >= 1
    assert len(audit(platform, "async")) == before + 1
    assert bus.wait_for("async", "sluice.queue.redriven")["detail"]["key_id"] == "-"
    assert admin(platform, "POST", "/queues/nothing/redrive").status == 404


def test_circuits_are_shown(healthy: Platform) -> None:
    healthy.fault("extractive-v1", kind="error", status=500, protocol="openai")
    key = Key.new(healthy)
    for _ in range(6):
        key.served("POST", "/chat/completions", {**CHAT, "model": "openai/extractive-v1"})
    rows = {row["target"]: row for row in admin(healthy, "GET", "/circuits").body["data"]}
    assert rows["openai/extractive-v1"]["state"] != "closed"
    assert rows["bedrock/extractive-v1"]["state"] == "closed"


@pytest.mark.parametrize(("method", "path"), ADMIN_ROUTES)
def test_admin_routes_are_for_the_operator_only(platform: Platform, method: str, path: str) -> None:
    for key in ("", None):
        answer = platform.call(method, f"/admin{path}", {"name": "thief"}, key=key)
        assert answer.status in {401, 403, 404}
        assert set(answer.body) == {"error"}


def test_the_command_line_does_all_of_it() -> None:
    """`make` hands on to these; nobody has to write a signature by hand."""
    made = local("key", "by-hand")
    assert made.returncode == 0, made.stderr
    for verb in ("keys", "usage", "circuits"):
        shown = local(verb)
        assert shown.returncode == 0, shown.stdout + shown.stderr
        assert shown.stdout.strip()
    assert "by-hand" in local("keys").stdout
