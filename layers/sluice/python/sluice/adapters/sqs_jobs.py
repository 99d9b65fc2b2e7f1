"""The queue between submit and worker, in SQS."""

from typing import TYPE_CHECKING, Final

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from sluice.adapters import aws
from sluice.domain.errors import SluiceError
from sluice.domain.jobs import JobPointer

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html
MAX_SEND_DELAY_S: Final = 900
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ChangeMessageVisibility.html
MAX_VISIBILITY_S: Final = 43_200


class SqsJobs:
    """Implements :class:`~sluice.domain.ports.JobQueue`."""

    def __init__(self, client: "SQSClient", queue_url: str) -> None:
        self._client = client
        self._queue_url = queue_url

    def send(self, pointer: JobPointer, *, delay_s: int = 0) -> None:
        body = msgspec.json.encode(pointer).decode()
        delay_s = max(0, min(delay_s, MAX_SEND_DELAY_S))
        try:
            self._client.send_message(QueueUrl=self._queue_url, MessageBody=body, DelaySeconds=delay_s)
        except (ClientError, BotoCoreError) as exc:
            raise _translate(exc) from exc

    def delay(self, receipt_handle: str, *, seconds: int) -> None:
        seconds = max(0, min(seconds, MAX_VISIBILITY_S))
        try:
            self._client.change_message_visibility(
                QueueUrl=self._queue_url, ReceiptHandle=receipt_handle, VisibilityTimeout=seconds
            )
        except (ClientError, BotoCoreError) as exc:
            raise _translate(exc) from exc


def _translate(error: ClientError | BotoCoreError) -> SluiceError:
    return aws.translate(error, "The queue")
