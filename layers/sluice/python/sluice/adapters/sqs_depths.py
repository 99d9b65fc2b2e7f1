"""How full queues are, as SQS counts them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from sluice.adapters import aws
from sluice.domain.errors import NotFoundError
from sluice.domain.redrive import QueueDepth

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.literals import QueueAttributeNameType

_WAITING: Final = "ApproximateNumberOfMessages"
_IN_FLIGHT: Final = "ApproximateNumberOfMessagesNotVisible"
_DELAYED: Final = "ApproximateNumberOfMessagesDelayed"


class QueueUrls(msgspec.Struct, frozen=True):
    """A queue and its dead-letter queue."""

    queue_url: str
    dead_letters_url: str


class SqsDepths:
    """Implements :class:`~sluice.domain.ports.QueueDepths`."""

    def __init__(self, client: "SQSClient", queues: Mapping[str, QueueUrls]) -> None:
        self._client = client
        self._queues = dict(queues)

    def names(self) -> Sequence[str]:
        return list(self._queues)

    def of_queue(self, name: str) -> QueueDepth:
        urls = self._queues.get(name)
        if urls is None:
            raise NotFoundError(f"There is no queue of this name; there is: {', '.join(self._queues)}.", param="name")
        alive = self._counted(urls.queue_url, _WAITING, _IN_FLIGHT, _DELAYED)
        dead = self._counted(urls.dead_letters_url, _WAITING, _IN_FLIGHT)
        return QueueDepth(
            queue=name,
            waiting=alive[_WAITING],
            in_flight=alive[_IN_FLIGHT],
            delayed=alive[_DELAYED],
            dead=sum(dead.values()),
        )

    def _counted(self, url: str, *names: "QueueAttributeNameType") -> dict[str, int]:
        try:
            answer = self._client.get_queue_attributes(QueueUrl=url, AttributeNames=list(names))
        except (ClientError, BotoCoreError) as exc:
            raise aws.translate(exc, "The queue") from exc
        return {name: int(answer["Attributes"][name]) for name in names}
