"""A queue's dead letters, in SQS.

Receive, send, delete: a crash in between delivers a message twice, which an idempotent consumer does not notice, and
never loses one.

A letter goes back as it came, but for its count of attempts, and for a word that says so: whoever redrives it has seen
to it that they are worth making again, all of them.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from sluice.adapters import aws
from sluice.domain.redrive import DeadLetter

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageTypeDef

BATCH: Final = 10
# Longer than a redrive's function lives, so that what it holds back is not received twice.
VISIBILITY_S: Final = 60
# Long polling asks all of SQS's servers; an answer without messages then means that there are none.
WAIT_S: Final = 1
# Of pointers: see ``ChunkPointer``.
_POINTER_VERSION: Final = 1
_ATTEMPTS: Final = "receives"
_REDRIVEN: Final = "redriven"


class SqsDeadLetters:
    """Implements :class:`~sluice.domain.ports.DeadLetters`."""

    def __init__(self, client: "SQSClient", *, dead_letters_url: str, queue_url: str) -> None:
        self._client = client
        self._dead_letters_url = dead_letters_url
        self._queue_url = queue_url

    def now_ms(self) -> int:
        with _translated():
            answer = self._client.get_queue_attributes(
                QueueUrl=self._dead_letters_url, AttributeNames=["ApproximateNumberOfMessages"]
            )
        date = answer["ResponseMetadata"]["HTTPHeaders"]["date"]
        # An HTTP date has whole seconds, rounded down; the next one is certainly not before this call.
        return (int(parsedate_to_datetime(date).timestamp()) + 1) * 1000

    def receive(self) -> Sequence[DeadLetter]:
        with _translated():
            answer = self._client.receive_message(
                QueueUrl=self._dead_letters_url,
                MaxNumberOfMessages=BATCH,
                MessageAttributeNames=["All"],
                MessageSystemAttributeNames=["All"],
                VisibilityTimeout=VISIBILITY_S,
                WaitTimeSeconds=WAIT_S,
            )
        return [_letter(message) for message in answer.get("Messages", [])]

    def move(self, letter: DeadLetter) -> None:
        with _translated():
            body = _afresh(letter.body)
            self._client.send_message(QueueUrl=self._queue_url, MessageBody=body, **letter.attributes)
            self._client.delete_message(QueueUrl=self._dead_letters_url, ReceiptHandle=letter.handle)

    def release(self, letter: DeadLetter) -> None:
        with _translated():
            self._client.change_message_visibility(
                QueueUrl=self._dead_letters_url, ReceiptHandle=letter.handle, VisibilityTimeout=0
            )


def _letter(message: "MessageTypeDef") -> DeadLetter:
    system = message["Attributes"]
    attributes: dict[str, Any] = {}
    if own := message.get("MessageAttributes"):
        attributes["MessageAttributes"] = own
    if trace := system.get("AWSTraceHeader"):
        attributes["MessageSystemAttributes"] = {"AWSTraceHeader": {"DataType": "String", "StringValue": trace}}
    return DeadLetter(
        message_id=message["MessageId"],
        handle=message["ReceiptHandle"],
        body=message["Body"],
        sent_ms=int(system["SentTimestamp"]),
        attributes=attributes,
    )


def _afresh(body: str) -> str:
    """A pointer as one that was redriven, without the attempts that were made before; anything else as it is."""
    try:
        pointer = json.loads(body)
    except ValueError:
        return body
    if not isinstance(pointer, dict) or pointer.get("version") != _POINTER_VERSION:
        return body
    return json.dumps({name: value for name, value in pointer.items() if name != _ATTEMPTS} | {_REDRIVEN: True})


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (ClientError, BotoCoreError) as exc:
        raise aws.translate(exc, "The queue") from exc
