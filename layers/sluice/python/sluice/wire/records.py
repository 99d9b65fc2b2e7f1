"""Batches as Lambda's event source mappings deliver them, and the answer that keeps single records.

https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html#services-sqs-batchfailurereporting
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from sluice.domain.deliveries import Delivery, P, Unreadable


def deliveries(event: Mapping[str, Any], decode: Callable[[str], P]) -> list[Delivery[P] | Unreadable]:
    """The messages of a batch. ``decode`` makes a pointer of a body, or raises ``msgspec.DecodeError``.

    For most that is ``msgspec.json.Decoder(SomePointer).decode``.
    """
    return [_delivery(record, decode) for record in event["Records"]]


def keep(identifiers: Iterable[str]) -> dict[str, list[dict[str, str]]]:
    """The answer that says which records were not dealt with; with none of them, all were."""
    return {"batchItemFailures": [{"itemIdentifier": identifier} for identifier in identifiers]}


def _delivery(record: Mapping[str, Any], decode: Callable[[str], P]) -> Delivery[P] | Unreadable:
    receipt = {
        "message_id": record["messageId"],
        "receipt_handle": record["receiptHandle"],
        "receive_count": int(record["attributes"]["ApproximateReceiveCount"]),
    }
    try:
        return Delivery(pointer=decode(record["body"]), **receipt)
    except msgspec.DecodeError:
        return Unreadable(**receipt)
