"""Queues of pointers, in SQS."""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Generic

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from sluice.adapters import aws
from sluice.domain.deliveries import P
from sluice.domain.errors import SluiceError, StateError

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

SERVICE: Final = "The queue"
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html
MAX_SEND_DELAY_S: Final = 900
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ChangeMessageVisibility.html
MAX_VISIBILITY_S: Final = 43_200
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessageBatch.html
LARGEST_BATCH: Final = 10
SEND_ROUNDS: Final = 4
PAUSE_S: Final = 0.1


class SqsQueue(Generic[P]):
    """Implements :class:`~sluice.domain.ports.WorkQueue`."""

    def __init__(self, client: "SQSClient", queue_url: str, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._client = client
        self._queue_url = queue_url
        self._sleep = sleep

    def send(self, pointer: P, *, delay_s: int = 0) -> None:
        body, delay_s = _body(pointer), _within(delay_s, MAX_SEND_DELAY_S)
        try:
            self._client.send_message(QueueUrl=self._queue_url, MessageBody=body, DelaySeconds=delay_s)
        except (ClientError, BotoCoreError) as exc:
            raise _translate(exc) from exc

    def send_many(self, pointers: Sequence[P], *, delay_s: int = 0) -> None:
        bodies, delay_s = [_body(pointer) for pointer in pointers], _within(delay_s, MAX_SEND_DELAY_S)
        for start in range(0, len(bodies), LARGEST_BATCH):
            self._send_batch(bodies[start : start + LARGEST_BATCH], delay_s)

    def delay(self, receipt_handle: str, *, seconds: int) -> None:
        try:
            self._client.change_message_visibility(
                QueueUrl=self._queue_url,
                ReceiptHandle=receipt_handle,
                VisibilityTimeout=_within(seconds, MAX_VISIBILITY_S),
            )
        except (ClientError, BotoCoreError) as exc:
            raise _translate(exc) from exc

    def _send_batch(self, bodies: Sequence[str], delay_s: int) -> None:
        """Send at most ten. SQS answers for each by itself, so those it did not take are sent again."""
        left = list(bodies)
        for attempt in range(SEND_ROUNDS):
            if attempt:
                self._sleep(PAUSE_S * 2**attempt)
            left = self._refused(left, delay_s)
            if not left:
                return
        raise StateError(f"{SERVICE} did not take every message. Try again.")

    def _refused(self, bodies: Sequence[str], delay_s: int) -> list[str]:
        entries: list[Any] = [
            {"Id": str(index), "MessageBody": body, "DelaySeconds": delay_s} for index, body in enumerate(bodies)
        ]
        try:
            answer = self._client.send_message_batch(QueueUrl=self._queue_url, Entries=entries)
        except (ClientError, BotoCoreError) as exc:
            raise _translate(exc) from exc
        return [bodies[int(failed["Id"])] for failed in answer.get("Failed", [])]


def _body(pointer: object) -> str:
    return msgspec.json.encode(pointer).decode()


def _within(seconds: int, most: int) -> int:
    return max(0, min(seconds, most))


def _translate(error: ClientError | BotoCoreError) -> SluiceError:
    return aws.translate(error, SERVICE)
