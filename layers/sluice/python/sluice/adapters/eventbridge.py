"""Events on an EventBridge bus."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from sluice.adapters import aws
from sluice.domain.errors import SluiceError
from sluice.domain.events import SOURCE, EventV1
from sluice.telemetry import logs

if TYPE_CHECKING:
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_events.type_defs import PutEventsRequestEntryTypeDef

# https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEvents.html
MAX_ENTRIES: Final = 10
# The limit of every region; some allow more. https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-quota.html
MAX_BYTES: Final = 256 * 1024
_log = logs.get_logger()


class EventBridge:
    """Implements :class:`~sluice.domain.ports.EventBus`."""

    def __init__(self, client: "EventBridgeClient", bus_name: str) -> None:
        self._client = client
        self._bus_name = bus_name

    def publish(self, events: Sequence[EventV1]) -> Sequence[int]:
        refused: list[int] = []
        for chunk in _chunks([self._entry(event) for event in events]):
            try:
                answer = self._client.put_events(Entries=[entry for _, entry in chunk])
            except (ClientError, BotoCoreError) as exc:
                raise _translate(exc) from exc
            for (index, _), result in zip(chunk, answer["Entries"], strict=True):
                if "ErrorCode" in result:
                    _log.warning("events.refused", event_id=events[index].id, error=result["ErrorCode"])
                    refused.append(index)
        return refused

    def _entry(self, event: EventV1) -> "PutEventsRequestEntryTypeDef":
        return {
            "EventBusName": self._bus_name,
            "Source": SOURCE,
            "DetailType": event.type,
            "Detail": msgspec.json.encode(event).decode(),
            "Time": event.time,
        }


def _chunks(
    entries: "Sequence[PutEventsRequestEntryTypeDef]",
) -> "Iterator[list[tuple[int, PutEventsRequestEntryTypeDef]]]":
    """The entries with their indexes, in as few calls as the limits allow."""
    chunk: list[tuple[int, PutEventsRequestEntryTypeDef]] = []
    size = 0
    for index, entry in enumerate(entries):
        entry_size = _size(entry)
        if chunk and (len(chunk) == MAX_ENTRIES or size + entry_size > MAX_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append((index, entry))
        size += entry_size
    if chunk:
        yield chunk


def _size(entry: "PutEventsRequestEntryTypeDef") -> int:
    """How EventBridge counts: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-putevent-size.html."""
    timestamp = 14
    return timestamp + sum(len(entry[field].encode()) for field in ("Source", "DetailType", "Detail"))


def _translate(error: ClientError | BotoCoreError) -> SluiceError:
    return aws.translate(error, "The event bus")
