"""From a message of the bus to a server that has it, or a message that is kept."""

from __future__ import annotations

import json
from typing import Any

import pytest

from functions.webhook_sender import handler as module
from sluice.domain.webhooks import WebhookAnswer
from sluice.testing.invocations import FakeLambdaContext
from tests.unit.sluice.services.test_deliver_webhook import World


def record(number: int, body: object, *, receives: int = 1) -> dict[str, Any]:
    return {
        "messageId": f"message-{number}",
        "receiptHandle": f"handle-{number}",
        "body": body if isinstance(body, str) else json.dumps(body),
        "attributes": {"ApproximateReceiveCount": str(receives)},
    }


def event_of(resource_id: str) -> dict[str, Any]:
    """As EventBridge delivers it to a queue."""
    return {
        "version": "0",
        "id": "6a7e8feb-b491-4cf7-a9f1-bf3703467718",
        "detail-type": "sluice.batch.completed",
        "source": "sluice",
        "account": "000000000000",
        "time": "2026-11-21T00:00:00Z",
        "region": "us-east-1",
        "resources": [],
        "detail": {
            "schema_version": "1.0",
            "id": "evt_1",
            "type": "sluice.batch.completed",
            "time": "2026-11-21T00:00:00.000Z",
            "environment": "test",
            "key_id": "key_1",
            "mode": "batch",
            "resource_id": resource_id,
            "status": "completed",
            "callback": True,
        },
    }


def test_each_message_is_by_itself(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    world = World(WebhookAnswer(status=204))
    monkeypatch.setattr(module, "service", lambda: world.deliver_webhook)
    records = [record(1, event_of(world.batch.id)), record(2, "nonsense"), record(3, event_of("batch_nobody_knows"))]
    answer = module.handler({"Records": records}, FakeLambdaContext(seconds=60))
    assert answer == {"batchItemFailures": [{"itemIdentifier": "message-2"}]}
    assert world.ids == ["evt_1"]
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    [delivered] = [line for line in lines if line.get("subject") == world.batch.id]
    assert (delivered["event"], delivered["event_id"], delivered["webhook_status"]) == ("webhooks.record", "evt_1", 204)
    [canonical] = [line for line in lines if line.get("event") == "request"]
    assert (canonical["records"], canonical["kept"]) == (3, 1)


@pytest.mark.parametrize("status", [302, 404, 500])
def test_what_no_server_took_is_kept(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    world = World(WebhookAnswer(status=status))
    monkeypatch.setattr(module, "service", lambda: world.deliver_webhook)
    answer = module.handler({"Records": [record(1, event_of(world.batch.id))]}, FakeLambdaContext(seconds=60))
    assert answer == {"batchItemFailures": [{"itemIdentifier": "message-1"}]}
