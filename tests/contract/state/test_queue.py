"""What a job queue does, in memory and in SQS, seen by a consumer."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import pytest

from sluice.adapters.sqs_jobs import SqsJobs
from sluice.domain.errors import ConfigurationError, StateError
from sluice.domain.ids import new_id
from sluice.domain.jobs import Delivery, JobPointer
from sluice.domain.ports import JobQueue
from sluice.testing.jobs import FakeQueue
from sluice.wire.records import deliveries
from tests.contract.state.conftest import Aws

MAX_RECEIVE_COUNT = 3


@dataclass
class Both:
    """A queue from both ends."""

    queue: JobQueue
    receive: Callable[[], list[Delivery]]
    dead: Callable[[], list[str]]


@pytest.fixture(params=["fake", "real"])
def both(request: pytest.FixtureRequest) -> Both:
    if request.param == "fake":
        fake = FakeQueue(max_receive_count=MAX_RECEIVE_COUNT)
        return Both(fake, fake.receive, lambda: [body.decode() for body in fake.dead_letters])
    aws: Aws = request.getfixturevalue("aws")
    sqs = aws.client("sqs")
    url, dead_url = aws.queue(max_receive_count=MAX_RECEIVE_COUNT)

    def receive() -> list[Delivery]:
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
        return deliveries({"Records": records})

    def dead() -> list[str]:
        answer = sqs.receive_message(QueueUrl=dead_url, MaxNumberOfMessages=10)
        return [message["Body"] for message in answer.get("Messages", [])]

    return Both(SqsJobs(sqs, url), receive, dead)


def test_what_was_sent_is_received_once(both: Both) -> None:
    pointer = JobPointer(id=new_id("async"))
    both.queue.send(pointer)
    [delivery] = both.receive()
    assert (delivery.pointer, delivery.receive_count) == (pointer, 1)
    assert both.receive() == []


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
    queue = SqsJobs(aws.client("sqs"), url + "-gone")
    with pytest.raises(ConfigurationError):
        queue.send(JobPointer(id=new_id("async")))


def test_a_receipt_that_means_nothing_is_an_error_of_the_state(aws: Aws) -> None:
    queue = SqsJobs(aws.client("sqs"), aws.queue(max_receive_count=3)[0])
    with pytest.raises(StateError):
        queue.delay("nonsense", seconds=1)
