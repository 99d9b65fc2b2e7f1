from __future__ import annotations

from typing import Any

import msgspec
import pytest

from sluice.domain.deliveries import Delivery, Unreadable
from sluice.domain.jobs import JobPointer
from sluice.wire.records import deliveries, keep

ID = "async_" + "a" * 32
decode = msgspec.json.Decoder(JobPointer).decode


def record(body: str) -> dict[str, Any]:
    return {
        "messageId": "m1",
        "receiptHandle": "r1",
        "body": body,
        "attributes": {"ApproximateReceiveCount": "3", "SentTimestamp": "1"},
        "eventSource": "aws:sqs",
    }


def test_a_record_becomes_a_delivery() -> None:
    [delivery] = deliveries({"Records": [record(f'{{"id":"{ID}","version":1}}')]}, decode)
    assert isinstance(delivery, Delivery)
    assert delivery.pointer == JobPointer(id=ID)
    assert (delivery.message_id, delivery.receipt_handle, delivery.receive_count) == ("m1", "r1", 3)


@pytest.mark.parametrize("body", ["", "x", "{}", "[]", '{"id":1}', '{"id":"async_x"}', f'{{"id":"{ID}","version":2}}'])
def test_a_body_that_is_no_pointer_is_kept_apart(body: str) -> None:
    unreadable = Unreadable(message_id="m1", receipt_handle="r1", receive_count=3)
    assert deliveries({"Records": [record(body)]}, decode) == [unreadable]


def test_the_answer_names_what_to_keep() -> None:
    assert keep([]) == {"batchItemFailures": []}
    assert keep(["a", "b"]) == {"batchItemFailures": [{"itemIdentifier": "a"}, {"itemIdentifier": "b"}]}
