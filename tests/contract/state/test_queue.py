"""What a job queue does, in memory and in SQS, seen by a consumer."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from sluice.adapters.sqs_queue import LARGEST_BATCH, SqsQueue
from sluice.domain.deliveries import Delivery, Unreadable
from sluice.domain.errors import ConfigurationError, StateError
from sluice.domain.ids import new_id
from sluice.domain.jobs import JobPointer
from sluice.domain.ports import WorkQueue
from sluice.testing.queues import FakeQueue
from sluice.wire.records import deliveries
from tests.contract.state.conftest import Aws

MAX_RECEIVE_COUNT = 3


@dataclass
class Both:
    """A queue from both ends."""

    queue: WorkQueue[JobPointer]
    receive: Callable[[], list[Delivery[JobPointer] | Unreadable]]
    dead: Callable[[], list[str]]


@pytest.fixture(params=["fake", "real"])
def both(request: pytest.FixtureRequest) -> Both:
    if request.param == "fake":
        fake = FakeQueue(JobPointer, max_receive_count=MAX_RECEIVE_COUNT)
        return Both(fake, fake.receive, lambda: [body.decode() for body in fake.dead_letters])
    aws: Aws = request.getfixturevalue("aws")
    sqs = aws.client("sqs")
    url, dead_url = aws.queue(max_receive_count=MAX_RECEIVE_COUNT)

    def receive() -> list[Delivery[JobPointer] | Unreadable]:
        """As Lambda's event source mapping would hand them over."""
        answer = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, AttributeNames=["All"])
        records = [
            {
                "messageId": message["MessageId"],
                "receiptHandle": message["ReceiptHandle"],
                "body": message["Body"],
                "attributes": message["Attributes"],
            }
            for message in answer.get("Messages", [])
        ]
        return deliveries({"Records": records}, msgspec.json.Decoder(JobPointer).decode)

    def dead() -> list[str]:
        answer = sqs.receive_message(QueueUrl=dead_url, MaxNumberOfMessages=10)
        return [message["Body"] for message in answer.get("Messages", [])]

    return Both(SqsQueue[JobPointer](sqs, url), receive, dead)


def test_what_was_sent_is_received_once(both: Both) -> None:
    pointer = JobPointer(id=new_id("async"))
    both.queue.send(pointer)
    [delivery] = both.receive()
    assert isinstance(delivery, Delivery)
    assert (delivery.pointer, delivery.receive_count) == (pointer, 1)
    assert both.receive() == []


@pytest.mark.parametrize("count", [0, 1, LARGEST_BATCH, 2 * LARGEST_BATCH + 1])
def test_many_are_sent_at_once(both: Both, count: int) -> None:
    pointers = [JobPointer(id=new_id("async")) for _ in range(count)]
    both.queue.send_many(pointers)
    found: list[str] = []
    while batch := both.receive():
        found += [delivery.pointer.id for delivery in batch if isinstance(delivery, Delivery)]
    assert sorted(found) == sorted(pointer.id for pointer in pointers)


def test_many_may_be_delayed(both: Both) -> None:
    both.queue.send_many([JobPointer(id=new_id("async")) for _ in range(3)], delay_s=2)
    assert both.receive() == []
    time.sleep(2.2)
    assert len(both.receive()) == 3


def test_a_delayed_message_is_not_there_yet(both: Both) -> None:
    both.queue.send(JobPointer(id=new_id("async")), delay_s=2)
    assert both.receive() == []
    time.sleep(2.2)
    assert len(both.receive()) == 1


def test_a_received_message_comes_back_when_told(both: Both) -> None:
    both.queue.send(JobPointer(id=new_id("async")))
    [first] = both.receive()
    both.queue.delay(first.receipt_handle, seconds=1)
    assert both.receive() == []
    time.sleep(1.2)
    [second] = both.receive()
    assert (second.message_id, second.receive_count) == (first.message_id, 2)


def test_a_message_received_too_often_is_moved(both: Both) -> None:
    pointer = JobPointer(id=new_id("async"))
    both.queue.send(pointer)
    for count in range(1, MAX_RECEIVE_COUNT + 1):
        [delivery] = both.receive()
        assert delivery.receive_count == count
        both.queue.delay(delivery.receipt_handle, seconds=0)
    assert both.receive() == []
    assert [msgspec.json.decode(body, type=JobPointer) for body in both.dead()] == [pointer]


def test_a_queue_that_is_not_there_needs_an_operator(aws: Aws) -> None:
    url = aws.queue(max_receive_count=3)[0]
    queue = SqsQueue[JobPointer](aws.client("sqs"), url + "-gone")
    with pytest.raises(ConfigurationError):
        queue.send(JobPointer(id=new_id("async")))


def test_a_receipt_that_means_nothing_is_an_error_of_the_state(aws: Aws) -> None:
    queue = SqsQueue[JobPointer](aws.client("sqs"), aws.queue(max_receive_count=3)[0])
    with pytest.raises(StateError):
        queue.delay("nonsense", seconds=1)


class Picky:
    """An SQS client that refuses the entries with an even number, ``rounds`` times; the others are really sent."""

    def __init__(self, client: Any, *, rounds: int) -> None:
        self._client = client
        self._rounds = rounds

    def send_message_batch(self, **request: Any) -> dict[str, Any]:
        entries = request.pop("Entries")
        self._rounds -= 1
        refused = entries[::2] if self._rounds >= 0 else []
        taken = [entry for entry in entries if entry not in refused]
        if taken:
            self._client.send_message_batch(Entries=taken, **request)
        return {"Failed": [{"Id": entry["Id"], "SenderFault": False, "Code": "Internal"} for entry in refused]}


def test_those_of_many_that_were_not_taken_are_sent_again_and_no_others(aws: Aws) -> None:
    sqs, url = aws.client("sqs"), aws.queue(max_receive_count=3)[0]
    pauses: list[float] = []
    picky: Any = Picky(sqs, rounds=2)
    queue = SqsQueue[JobPointer](picky, url, sleep=pauses.append)
    pointers = [JobPointer(id=new_id("async")) for _ in range(LARGEST_BATCH)]
    queue.send_many(pointers)
    assert len(pauses) == 2
    messages = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
    assert sorted(message["Body"] for message in messages) == sorted(
        msgspec.json.encode(pointer).decode() for pointer in pointers
    )
    assert "Messages" not in sqs.receive_message(QueueUrl=url)


def test_messages_that_are_never_taken_are_an_error_of_the_state(aws: Aws) -> None:
    sqs, url = aws.client("sqs"), aws.queue(max_receive_count=3)[0]
    picky: Any = Picky(sqs, rounds=99)
    queue = SqsQueue[JobPointer](picky, url, sleep=lambda _: None)
    with pytest.raises(StateError):
        queue.send_many([JobPointer(id=new_id("async"))])
