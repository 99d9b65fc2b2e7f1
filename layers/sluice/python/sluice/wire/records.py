"""Batches as Lambda's event source mappings deliver them, and the answer that keeps single records.

https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html#services-sqs-batchfailurereporting
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from sluice.domain.jobs import Delivery, JobPointer

_pointer_decoder = msgspec.json.Decoder(JobPointer)


def deliveries(event: Mapping[str, Any]) -> list[Delivery]:
    """The messages of a batch; one whose body is no pointer comes with ``None`` in its place."""
    return [_delivery(record) for record in event["Records"]]


def keep(identifiers: Iterable[str]) -> dict[str, list[dict[str, str]]]:
    """The answer that says which records were not dealt with; with none of them, all were."""
    return {"batchItemFailures": [{"itemIdentifier": identifier} for identifier in identifiers]}


def _delivery(record: Mapping[str, Any]) -> Delivery:
    try:
        pointer = _pointer_decoder.decode(record["body"])
    except msgspec.DecodeError:
        pointer = None
    return Delivery(
        message_id=record["messageId"],
        receipt_handle=record["receiptHandle"],
        receive_count=int(record["attributes"]["ApproximateReceiveCount"]),
        pointer=pointer,
    )
