from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from sluice.adapters.eventbridge import MAX_BYTES, EventBridge
from sluice.domain.errors import ConfigurationError, SluiceError, StateError
from sluice.domain.events import EventV1
from sluice.domain.inference import Mode


class Client:
    """EventBridge's client: keeps what it is sent, refuses the events named in ``refused``, raises ``error``."""

    def __init__(self, *, refused: set[str] | None = None, error: Exception | None = None) -> None:
        self.calls: list[list[dict[str, Any]]] = []
        self._refused = refused or set()
        self._error = error

    def put_events(self, *, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803  (boto3's name)
        if self._error:
            raise self._error
        self.calls.append(Entries)
        return {
            "Entries": [
                {"ErrorCode": "InternalFailure"}
                if json.loads(entry["Detail"])["id"] in self._refused
                else {"EventId": "x"}
                for entry in Entries
            ]
        }


def event(number: int, *, text: str = "x") -> EventV1:
    return EventV1(
        schema_version="1.0",
        id=f"evt_{number}",
        type="sluice.inference.completed",
        time="2026-01-01T00:00:00.000Z",
        environment="test",
        key_id="key_1",
        mode=Mode.SYNC,
        resource_id=text,
        status="completed",
    )


def test_an_entry_names_bus_source_and_type() -> None:
    client = Client()
    EventBridge(client, "the-bus").publish([event(1)])  # type: ignore[arg-type]
    [[entry]] = client.calls
    assert (entry["EventBusName"], entry["Source"], entry["DetailType"]) == (
        "the-bus",
        "sluice",
        "sluice.inference.completed",
    )
    assert "cost_micro_usd" not in json.loads(entry["Detail"])


def test_refused_entries_are_named_by_their_place_in_the_whole() -> None:
    client = Client(refused={"evt_3", "evt_10", "evt_11"})
    refused = EventBridge(client, "bus").publish([event(number) for number in range(25)])  # type: ignore[arg-type]
    assert list(refused) == [3, 10, 11]
    assert [len(call) for call in client.calls] == [10, 10, 5]


def test_no_call_is_larger_than_the_bus_takes() -> None:
    client = Client()
    EventBridge(client, "bus").publish([event(number, text="ü" * 50_000) for number in range(5)])  # type: ignore[arg-type]
    assert [len(call) for call in client.calls] == [2, 2, 1]
    assert all(sum(len(entry["Detail"].encode()) for entry in call) < MAX_BYTES for call in client.calls)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ClientError({"Error": {"Code": "AccessDeniedException"}}, "PutEvents"), ConfigurationError),
        (ClientError({"Error": {"Code": "ThrottlingException"}}, "PutEvents"), StateError),
        (EndpointConnectionError(endpoint_url="x"), StateError),
    ],
)
def test_a_call_that_fails_is_an_error_of_the_domain(error: Exception, expected: type[SluiceError]) -> None:
    with pytest.raises(expected):
        EventBridge(Client(error=error), "bus").publish([event(1)])  # type: ignore[arg-type]
