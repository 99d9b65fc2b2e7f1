"""What the way back for dead letters does, in memory and in SQS; and what is kept of why they died."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from sluice.adapters.dynamodb_dead_letters import KEPT_S, DynamoDBDeadLetterReasons
from sluice.adapters.sqs_depths import QueueUrls, SqsDepths
from sluice.adapters.sqs_redrive import SqsDeadLetters
from sluice.domain.audit import Administrator
from sluice.domain.deadline import Deadline
from sluice.domain.errors import ConfigurationError, NotFoundError
from sluice.domain.ports import DeadLetterReasons, DeadLetters
from sluice.domain.redrive import DeadLetter, DeadLetterReason, QueueDepth
from sluice.services.redrive import Redrive
from sluice.testing.dead_letters import FakeDeadLetterReasons, FakeDeadLetters
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
            sent_ms = int(time.time() * 1000)
            fake.dead.append(DeadLetter(message_id=body, handle=body, body=body, sent_ms=sent_ms))

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
    service = Redrive({"async": both.letters}, FakeAudit(), FakeDeadLetterReasons())
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


def test_a_letter_is_known_by_the_id_that_it_had_in_its_queue(aws: Aws) -> None:
    sqs = aws.client("sqs")
    queue, dead = aws.queue(max_receive_count=1)
    sent = sqs.send_message(QueueUrl=queue, MessageBody="fails")["MessageId"]
    for _ in range(2):
        sqs.receive_message(QueueUrl=queue, VisibilityTimeout=0)
    [letter] = SqsDeadLetters(sqs, dead_letters_url=dead, queue_url=queue).receive()
    assert (letter.message_id, letter.body) == (sent, "fails")


def test_all_attempts_are_to_be_had_again(aws: Aws) -> None:
    sqs = aws.client("sqs")
    queue, dead = aws.queue(max_receive_count=3)
    pointer = {"id": "async_1", "version": 1, "receives": 4, "waits": 2}
    event = {"version": "0", "detail": {"receives": 4}}
    bodies = [json.dumps(pointer), json.dumps(event), json.dumps(["receives"]), '{"receives"']
    for body in bodies:
        sqs.send_message(QueueUrl=dead, MessageBody=body)
    letters = SqsDeadLetters(sqs, dead_letters_url=dead, queue_url=queue)
    while found := letters.receive():
        for letter in found:
            letters.move(letter)
    moved = {message["Body"] for message in received(sqs, queue)}
    assert moved == {json.dumps({"id": "async_1", "version": 1, "waits": 2, "redriven": True}), *bodies[1:]}


def test_a_queue_is_measured_with_its_dead_letters(aws: Aws) -> None:
    sqs = aws.client("sqs")
    queue, dead = aws.queue(max_receive_count=3)
    for number in range(5):
        sqs.send_message(QueueUrl=queue, MessageBody=str(number))
    sqs.send_message(QueueUrl=queue, MessageBody="later", DelaySeconds=900)
    sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=2, VisibilityTimeout=600)
    for number in range(3):
        sqs.send_message(QueueUrl=dead, MessageBody=str(number))
    sqs.receive_message(QueueUrl=dead, MaxNumberOfMessages=1, VisibilityTimeout=600)
    depths = SqsDepths(sqs, {"chunks": QueueUrls(queue, dead), "batches": QueueUrls(queue, queue)})
    assert depths.names() == ["chunks", "batches"]
    assert depths.of_queue("chunks") == QueueDepth(queue="chunks", waiting=3, in_flight=2, delayed=1, dead=3)
    with pytest.raises(NotFoundError, match="chunks, batches"):
        depths.of_queue("nonsense")


def test_a_queue_that_is_not_there_cannot_be_measured(aws: Aws) -> None:
    queue, dead = aws.queue(max_receive_count=3)
    depths = SqsDepths(aws.client("sqs"), {"chunks": QueueUrls(queue, dead + "-gone")})
    with pytest.raises(ConfigurationError):
        depths.of_queue("chunks")


# ---- Why they died ----


def reason(message_id: str, *, queue: str = "chunks", at: int = 1_795_219_200, **more: Any) -> DeadLetterReason:
    told = {"subject": f"batch_{'0' * 32}/3", "code": "state_throttled", "message": "The table is throttling."} | more
    return DeadLetterReason(queue=queue, message_id=message_id, at=at, receives=6, **told)


@pytest.fixture(params=["fake", "table"])
def reasons(request: pytest.FixtureRequest) -> DeadLetterReasons:
    if request.param == "fake":
        return FakeDeadLetterReasons()
    aws: Aws = request.getfixturevalue("aws")
    return DynamoDBDeadLetterReasons(aws.table()[0])


def test_the_newest_reasons_come_first_and_no_other_queues(reasons: DeadLetterReasons) -> None:
    told = [reason(f"message-{number}", at=1_795_219_200 + number) for number in range(5)]
    for each in (told[2], told[0], told[4], told[3], told[1]):
        reasons.record(each)
    reasons.record(reason("message-9", queue="chunks-2"))
    assert list(reasons.of_queue("chunks", limit=10)) == told[::-1]
    assert list(reasons.of_queue("chunks", limit=2)) == [told[4], told[3]]
    assert list(reasons.of_queue("batches", limit=2)) == []


def test_one_message_has_one_reason(reasons: DeadLetterReasons) -> None:
    reasons.record(reason("one"))
    again = reason("one", at=1_795_219_260, code="provider_timeout", message="It took too long.", subject=None)
    reasons.record(again)
    assert list(reasons.of_queue("chunks", limit=10)) == [again]


def test_what_was_said_first_stays_where_no_better_is_known(reasons: DeadLetterReasons) -> None:
    reasons.record(reason("one"), replace=False)
    reasons.record(reason("one", code="worker_lost"), replace=False)
    reasons.record(reason("two", at=1_795_219_100), replace=False)
    assert list(reasons.of_queue("chunks", limit=10)) == [reason("one"), reason("two", at=1_795_219_100)]


def test_a_reason_can_be_forgotten_as_often_as_one_likes(reasons: DeadLetterReasons) -> None:
    reasons.record(reason("one"))
    reasons.record(reason("two"))
    for _ in range(2):
        reasons.forget("chunks", "one")
        reasons.forget("async", "two")
    assert [each.message_id for each in reasons.of_queue("chunks", limit=10)] == ["two"]


def test_a_reason_is_kept_for_as_long_as_sqs_keeps_a_message(aws: Aws) -> None:
    table, _ = aws.table()
    DynamoDBDeadLetterReasons(table).record(reason("one"))
    [item] = table.query("DLQ#chunks")
    assert item["expires_at"] == 1_795_219_200 + KEPT_S


def test_a_queue_that_is_not_there_needs_an_operator(aws: Aws) -> None:
    queue, dead = aws.queue(max_receive_count=3)
    letters = SqsDeadLetters(aws.client("sqs"), dead_letters_url=dead + "-gone", queue_url=queue)
    for call in (letters.now_ms, letters.receive):
        with pytest.raises(ConfigurationError):
            call()
