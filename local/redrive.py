"""Moves messages from a dead-letter queue back to the queue they fell out of.

Receive, send, delete: a crash in between delivers a message twice, which an idempotent consumer does not notice, and
never loses one. (AWS has StartMessageMoveTask for this; the local cloud does not, and one way serves both.)
"""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import Any

__all__ = ["redrive"]

_BATCH = 10
_VISIBILITY_SECONDS = 60
_WAIT_SECONDS = 1


def redrive(sqs: Any, dead_letters: str, queue: str) -> int:
    """Move what is in `dead_letters` (queue URL) to `queue` (queue URL), bodies and attributes unchanged.

    Returns how many messages were moved. Those that fail again and come back meanwhile stay where they are.
    """
    started_ms = _clock_of_queue(sqs, dead_letters)
    moved = 0
    while messages := _receive(sqs, dead_letters):
        for message in messages:
            if int(message["Attributes"]["SentTimestamp"]) >= started_ms:
                _release(sqs, dead_letters, messages)
                return moved
            _move(sqs, message, dead_letters, queue)
            moved += 1
            message["moved"] = True
    return moved


def _clock_of_queue(sqs: Any, url: str) -> float:
    """The time at the queue's side, in epoch milliseconds, so that a wrong clock here does no harm."""
    answer = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])
    date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    # An HTTP date has whole seconds, rounded down; the next one is certainly not before this call.
    return (parsedate_to_datetime(date).timestamp() + 1) * 1000 if date else float("inf")


def _receive(sqs: Any, url: str) -> list[dict[str, Any]]:
    answer = sqs.receive_message(
        QueueUrl=url,
        MaxNumberOfMessages=_BATCH,
        MessageAttributeNames=["All"],
        AttributeNames=["All"],
        VisibilityTimeout=_VISIBILITY_SECONDS,
        WaitTimeSeconds=_WAIT_SECONDS,
    )
    return list(answer.get("Messages", []))


def _move(sqs: Any, message: dict[str, Any], dead_letters: str, queue: str) -> None:
    trace = message["Attributes"].get("AWSTraceHeader")
    extra: dict[str, Any] = {}
    if attributes := message.get("MessageAttributes"):
        extra["MessageAttributes"] = attributes
    if trace:
        extra["MessageSystemAttributes"] = {"AWSTraceHeader": {"DataType": "String", "StringValue": trace}}
    sqs.send_message(QueueUrl=queue, MessageBody=message["Body"], **extra)
    sqs.delete_message(QueueUrl=dead_letters, ReceiptHandle=message["ReceiptHandle"])


def _release(sqs: Any, url: str, messages: list[dict[str, Any]]) -> None:
    """Make the messages that stay visible again at once."""
    for message in messages:
        if not message.get("moved"):
            sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0)
