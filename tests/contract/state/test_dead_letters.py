"""What the way back for dead letters does, in memory and in SQS."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from sluice.adapters.sqs_redrive import SqsDeadLetters
from sluice.domain.audit import Administrator
from sluice.domain.deadline import Deadline
from sluice.domain.errors import ConfigurationError
from sluice.domain.ports import DeadLetters
from sluice.domain.redrive import DeadLetter
from sluice.services.redrive import Redrive
from sluice.testing.dead_letters import FakeDeadLetters
from sluice.testing.keys import FakeAudit
from tests.contract.state.conftest import Aws

ADA = Administrator(actor="arn:aws:iam::000000000000:user/ada", request_id="request-1")
COUNT = 12


@dataclass
class Both:
    """Dead letters from both ends."""

    letters: DeadLetters
    put: Callable[[str], None]
    queue: Callable[[], list[str]]


@pytest.fixture(params=["fake", "real"])
def both(request: pytest.FixtureRequest) -> Both:
    if request.param == "fake":
        fake = FakeDeadLetters(now=time.time)

        def die(body: str) -> None:
            fake.dead.append(DeadLetter(handle=body, body=body, sent_ms=int(time.time() * 1000)))

        return Both(fake, die, lambda: [letter.body for letter in fake.sent])
    aws: Aws = request.getfixturevalue("aws")
    sqs = aws.client("sqs")
    queue, dead = aws.queue(max_receive_count=3)
    letters = SqsDeadLetters(sqs, dead_letters_url=dead, queue_url=queue)
    return Both(
        letters,
        lambda body: sqs.send_message(QueueUrl=dead, MessageBody=body),
        lambda: [message["Body"] for message in received(sqs, queue)],
    )


def received(sqs: Any, url: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while messages := sqs.receive_message(
        QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"], AttributeNames=["All"]
    ).get("Messages"):
        found += messages
    return found


def test_what_is_received_is_hidden_until_it_is_released(both: Both) -> None:
    both.put("one")
    [letter] = both.letters.receive()
    assert letter.body == "one"
    assert not both.letters.receive()
    both.letters.release(letter)
    assert [each.body for each in both.letters.receive()] == ["one"]


def test_what_is_moved_is_in_the_queue_and_no_more_among_the_dead(both: Both) -> None:
    both.put("one")
    [letter] = both.letters.receive()
    both.letters.move(letter)
    assert both.queue() == ["one"]
    assert not both.letters.receive()


def test_a_letter_was_sent_before_the_queues_own_time(both: Both) -> None:
    both.put("one")
    now_ms = both.letters.now_ms()
    [letter] = both.letters.receive()
    assert letter.sent_ms < now_ms
    assert now_ms == pytest.approx(time.time() * 1000, abs=5_000)


def test_more_letters_than_one_receipt_holds_go_back(both: Both) -> None:
    bodies = [f"body {number}" for number in range(COUNT)]
    for body in bodies:
        both.put(body)
    service = Redrive({"async": both.letters}, FakeAudit())
    redriven = service.redrive("async", ADA, before_ms=None, deadline=Deadline.after(30))
    assert (redriven.moved, redriven.done) == (COUNT, True)
    assert sorted(both.queue()) == sorted(bodies)


def test_attributes_and_the_trace_go_back_with_the_body(aws: Aws) -> None:
    sqs = aws.client("sqs")
    queue, dead = aws.queue(max_receive_count=3)
    own = {"kind": {"DataType": "String", "StringValue": "x"}}
    trace = {"AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1-5759e988-bd862e3fe1be46a994272793"}}
    sqs.send_message(QueueUrl=dead, MessageBody="traced", MessageAttributes=own, MessageSystemAttributes=trace)
    letters = SqsDeadLetters(sqs, dead_letters_url=dead, queue_url=queue)
    [letter] = letters.receive()
    letters.move(letter)
    [message] = received(sqs, queue)
    assert message["MessageAttributes"] == own
    assert message["Attributes"]["AWSTraceHeader"] == trace["AWSTraceHeader"]["StringValue"]


def test_an_interrupted_move_never_loses_a_message(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    sqs = aws.client("sqs")
    queue, dead = aws.queue(max_receive_count=3)
    sqs.send_message(QueueUrl=dead, MessageBody="precious")
    letters = SqsDeadLetters(sqs, dead_letters_url=dead, queue_url=queue)
    [letter] = letters.receive()

    def killed(**_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sqs, "delete_message", killed)
        with pytest.raises(KeyboardInterrupt):
            letters.move(letter)
    letters.release(letter)
    assert [each.body for each in letters.receive()] == ["precious"]
    assert [message["Body"] for message in received(sqs, queue)] == ["precious"]


def test_a_queue_that_is_not_there_needs_an_operator(aws: Aws) -> None:
    queue, dead = aws.queue(max_receive_count=3)
    letters = SqsDeadLetters(aws.client("sqs"), dead_letters_url=dead + "-gone", queue_url=queue)
    for call in (letters.now_ms, letters.receive):
        with pytest.raises(ConfigurationError):
            call()
