"""The batch worker's function, from event to answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from functions.batch_worker import handler as worker_module
from sluice.domain.errors import ContentFilteredError, ProviderUnavailableError
from sluice.services.consume import Consumer
from sluice.services.run_chunks import RunChunks
from sluice.testing.invocations import FakeLambdaContext
from tests.unit.sluice.services.chunks import BATCH_ID, World, chat_line

CANARY = "canary-that-must-not-be-logged"


def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World([chat_line(f"line-{number}", f"{CANARY} {number}") for number in range(3)])
    consumer = Consumer(
        queue=made.chunks, reasons=made.reasons, queue_name="chunks", max_receive_count=3, retry_base_s=1.0
    )
    monkeypatch.setattr(worker_module, "service", lambda: RunChunks(consumer, made.run_chunk))
    return made


def invoke(*bodies: str) -> Any:
    records = [
        {
            "messageId": f"message-{number}",
            "receiptHandle": f"receipt-{number}",
            "body": body,
            "attributes": {"ApproximateReceiveCount": "1"},
        }
        for number, body in enumerate(bodies)
    ]
    return worker_module.handler({"Records": records}, FakeLambdaContext(seconds=20))


def test_a_message_is_worked_off_and_what_cannot_be_read_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    made = world(monkeypatch)
    pointer = json.dumps({"batch_id": BATCH_ID, "chunk": 0})
    strange = [json.dumps({"batch_id": "batch_1", "chunk": 0}), json.dumps({"batch_id": BATCH_ID, "chunk": -1}), "x"]
    answer = invoke(pointer, *strange)
    assert answer == {"batchItemFailures": [{"itemIdentifier": f"message-{number}"} for number in (1, 2, 3)]}
    assert made.batch.completed == 3


@pytest.mark.parametrize("error", [None, ProviderUnavailableError, ContentFilteredError, ValueError])
def test_no_path_through_the_code_logs_a_prompt(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Any
) -> None:
    made = world(monkeypatch)

    def before(text: str, where: Any) -> None:
        if error is ValueError:
            raise ValueError(text)
        if error is not None and text.endswith("1"):
            raise error("It failed.", target=where.name)

    made.model.before = before
    for _ in range(4):
        invoke(json.dumps({"batch_id": BATCH_ID, "chunk": 0}))
    assert made.batch.completed + made.batch.failed == 3
    output = capsys.readouterr()
    assert CANARY not in output.out + output.err


def test_one_canonical_line_tells_what_came_of_the_chunk(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world(monkeypatch)
    invoke(json.dumps({"batch_id": BATCH_ID, "chunk": 0}))
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    [record] = [line for line in lines if line.get("event") == "chunks.record"]
    assert record["subject"] == f"{BATCH_ID}/0"
    assert (record["completed"], record["failed"], record["missing"], record["ended"]) == (3, 0, 0, True)
    assert record["acknowledged"]
