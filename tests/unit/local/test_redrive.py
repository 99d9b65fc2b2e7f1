from __future__ import annotations

import time
from email.utils import formatdate
from typing import Any

import pytest

from local.redrive import redrive

DLQ, QUEUE = "http://sqs/dlq", "http://sqs/queue"


class Queues:
    """Two queues that answer as SQS does; a message taken out of the first is invisible until released."""

    def __init__(self, *messages: dict[str, Any]) -> None:
        self.dead = [{"ReceiptHandle": str(number), **message} for number, message in enumerate(messages)]
        self.hidden: set[str] = set()
        self.sent: list[dict[str, Any]] = []
        self.crash_before_delete = False

    def get_queue_attributes(self, **_: Any) -> dict[str, Any]:
        return {"ResponseMetadata": {"HTTPHeaders": {"date": formatdate(usegmt=True)}}}

    def receive_message(self, *, QueueUrl: str, MaxNumberOfMessages: int, **_: Any) -> dict[str, Any]:  # noqa: N803
        assert QueueUrl == DLQ
        visible = [message for message in self.dead if message["ReceiptHandle"] not in self.hidden]
        self.hidden |= {message["ReceiptHandle"] for message in visible[:MaxNumberOfMessages]}
        return {"Messages": [dict(message) for message in visible[:MaxNumberOfMessages]]} if visible else {}

    def send_message(self, *, QueueUrl: str, **message: Any) -> None:  # noqa: N803
        assert QueueUrl == QUEUE
        self.sent.append(message)

    def delete_message(self, *, QueueUrl: str, ReceiptHandle: str) -> None:  # noqa: N803
        assert QueueUrl == DLQ
        if self.crash_before_delete:
            raise ConnectionError
        self.dead = [message for message in self.dead if message["ReceiptHandle"] != ReceiptHandle]

    def change_message_visibility(self, *, ReceiptHandle: str, **_: Any) -> None:  # noqa: N803
        self.hidden.discard(ReceiptHandle)


def message(body: str, *, age_seconds: float = 600, **extra: Any) -> dict[str, Any]:
    sent = str(int((time.time() - age_seconds) * 1000))
    return {"Body": body, "Attributes": {"SentTimestamp": sent, **extra.pop("Attributes", {})}, **extra}


def test_every_message_goes_back_unchanged_and_leaves_the_dead_letters() -> None:
    attributes = {"kind": {"DataType": "String", "StringValue": "x"}}
    queues = Queues(
        *(message(f"body {number}") for number in range(23)),
        message("traced", MessageAttributes=attributes, Attributes={"AWSTraceHeader": "Root=1"}),
    )
    assert redrive(queues, DLQ, QUEUE) == 24
    assert queues.dead == []
    assert [sent["MessageBody"] for sent in queues.sent] == [*(f"body {number}" for number in range(23)), "traced"]
    assert queues.sent[-1]["MessageAttributes"] == attributes
    assert queues.sent[-1]["MessageSystemAttributes"]["AWSTraceHeader"]["StringValue"] == "Root=1"
    assert queues.sent[0] == {"MessageBody": "body 0"}


def test_nothing_to_move_moves_nothing() -> None:
    assert redrive(Queues(), DLQ, QUEUE) == 0


def test_a_crash_never_loses_a_message() -> None:
    queues = Queues(message("precious"))
    queues.crash_before_delete = True
    with pytest.raises(ConnectionError):
        redrive(queues, DLQ, QUEUE)
    assert [dead["Body"] for dead in queues.dead] == ["precious"]
    assert [sent["MessageBody"] for sent in queues.sent] == ["precious"]


def test_what_fails_again_meanwhile_is_left_alone_so_that_it_ends() -> None:
    queues = Queues(message("old"), message("failed again", age_seconds=-5))
    assert redrive(queues, DLQ, QUEUE) == 1
    assert [dead["Body"] for dead in queues.dead] == ["failed again"]
    assert queues.hidden.isdisjoint(dead["ReceiptHandle"] for dead in queues.dead)
