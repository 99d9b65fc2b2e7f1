"""What adding up usage does, in memory and in DynamoDB."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from sluice.adapters.dynamodb import Table
from sluice.adapters.dynamodb import to_item as to_attributes
from sluice.adapters.dynamodb_request_log import to_item
from sluice.adapters.dynamodb_usage import DynamoDBUsage, changes_of
from sluice.domain.ids import new_id
from sluice.domain.inference import Mode, Operation, Usage
from sluice.domain.ports import UsageStore
from sluice.domain.request_log import Outcome, RequestLogEntry
from sluice.domain.usage import LogPartition, Tally, UsageChange
from sluice.services.roll_up_usage import RollUpUsage
from sluice.testing.usage import FakeUsage
from tests.contract.state.conftest import Aws

DAY = date(2026, 11, 21)
NOON = 1_795_262_400.0


@pytest.fixture(scope="module")
def table(aws: Aws) -> Table:
    return aws.table()[0]


@pytest.fixture(params=["fake", "real"])
def store(request: pytest.FixtureRequest) -> UsageStore:
    return FakeUsage() if request.param == "fake" else DynamoDBUsage(request.getfixturevalue("table"))


@pytest.fixture
def key_id() -> str:
    return new_id("key")


def entry(key_id: str, *, cost: str | None = "1.25", target: str | None = "a/one", **fields: Any) -> RequestLogEntry:
    return RequestLogEntry(
        **{
            "request_id": new_id("req"),
            "key_id": key_id,
            "mode": Mode.SYNC,
            "operation": Operation.CHAT,
            "model": "auto",
            "outcome": Outcome.COMPLETED,
            "http_status": 200,
            "started_at": NOON,
            "latency_ms": 42,
            "target": target,
            "usage": Usage(input_tokens=10, output_tokens=3),
            "cost_micro_usd": None if cost is None else Decimal(cost),
            **fields,
        }
    )


def change(
    entry: RequestLogEntry, sequence: int, *, shard: int = 0, before: RequestLogEntry | None = None
) -> UsageChange:
    partition = LogPartition(entry.key_id, "20261121", shard)
    return UsageChange(partition=partition, sequence=str(sequence), entry=entry, before=before)


def record(store: UsageStore, *changes: UsageChange) -> None:
    store.record(changes[0].partition, changes)


def test_what_was_used_is_added_up_by_model(store: UsageStore, key_id: str) -> None:
    record(store, change(entry(key_id), 1), change(entry(key_id, cost="0.000000001"), 2))
    record(store, change(entry(key_id, target="b/two"), 3))
    record(store, change(entry(key_id, target=None, outcome=Outcome.FAILED, usage=None, cost=None), 9, shard=7))
    [usage] = store.of_key(key_id, [DAY])
    assert usage.day == DAY
    assert usage.models == {
        "a/one": Tally(requests=2, input_tokens=20, output_tokens=6, cost_micro_usd=Decimal("1.250000001")),
        "b/two": Tally(requests=1, input_tokens=10, output_tokens=3, cost_micro_usd=Decimal("1.25")),
        "auto": Tally(requests=1, failed=1),
    }


def test_an_entry_for_many_requests_counts_as_so_many(store: UsageStore, key_id: str) -> None:
    record(
        store,
        change(entry(key_id, requests=2_500), 1),
        change(entry(key_id, requests=40, outcome=Outcome.FAILED, cost=None), 2),
        change(entry(key_id, requests=0, usage=Usage(input_tokens=5), cost="0.5"), 3),
    )
    assert store.of_key(key_id, [DAY])[0].models["a/one"] == Tally(
        requests=2_540,
        failed=40,
        unpriced=40,
        input_tokens=25,
        output_tokens=6,
        cost_micro_usd=Decimal("1.75"),
    )


def test_a_change_that_comes_again_counts_once(store: UsageStore, key_id: str) -> None:
    first, second, third = (change(entry(key_id), number) for number in (9, 10, 11))
    record(store, first, second)
    record(store, first, second)
    record(store, second, third)
    assert store.of_key(key_id, [DAY])[0].models["a/one"].requests == 3


def test_shards_have_sequences_of_their_own(store: UsageStore, key_id: str) -> None:
    record(store, change(entry(key_id), 1000, shard=1))
    record(store, change(entry(key_id), 5, shard=2))
    assert store.of_key(key_id, [DAY])[0].models["a/one"].requests == 2


def test_an_entry_that_is_replaced_counts_as_what_it_is_now(store: UsageStore, key_id: str) -> None:
    before = entry(key_id, target=None, outcome=Outcome.THROTTLED, usage=None, cost=None)
    after = msgspec.structs.replace(before, target="a/one", outcome=Outcome.COMPLETED, cost_micro_usd=Decimal(7))
    record(store, change(before, 1))
    record(store, change(after, 2, before=before))
    models = store.of_key(key_id, [DAY])[0].models
    assert models["auto"] == Tally()
    assert models["a/one"] == Tally(requests=1, cost_micro_usd=Decimal(7))


def test_every_key_of_a_day_is_found(store: UsageStore) -> None:
    one, two = sorted((new_id("key"), new_id("key")))
    record(store, change(entry(one), 1))
    record(store, change(entry(two), 1))
    record(store, change(entry(two), 2, shard=3))
    found = {usage.key_id: usage.models["a/one"].requests for usage in store.of_day(DAY)}
    assert (found[one], found[two]) == (1, 2)
    assert [usage.key_id for usage in store.of_day(DAY)] == sorted(usage.key_id for usage in store.of_day(DAY))
    assert store.of_day(date(2026, 11, 20)) == []
    assert store.of_key(one, [date(2026, 11, 20)]) == []


def test_tokens_of_unknown_cost_are_told_apart_from_what_was_free(store: UsageStore, key_id: str) -> None:
    record(store, change(entry(key_id, cost=None), 1), change(entry(key_id, cost="0", cached=True, usage=None), 2))
    tally = store.of_key(key_id, [DAY])[0].models["a/one"]
    assert (tally.requests, tally.unpriced, tally.cached, tally.cost_micro_usd) == (2, 1, 1, Decimal(0))


def stream_record(entry: RequestLogEntry, sequence: int, *, old: RequestLogEntry | None = None) -> dict[str, Any]:
    image = to_attributes(to_item(entry, expires_at=1))
    body = {"Keys": {"pk": image["pk"], "sk": image["sk"]}, "NewImage": image, "SequenceNumber": str(sequence)}
    if old is not None:
        body["OldImage"] = to_attributes(to_item(old, expires_at=1))
    return {"eventName": "MODIFY" if old else "INSERT", "dynamodb": body}


def test_a_batch_of_the_stream_with_an_unreadable_record_counts_all_others(store: UsageStore, key_id: str) -> None:
    one, two = entry(key_id), entry(key_id)
    broken = {"eventName": "INSERT", "dynamodb": {"Keys": {"pk": {"S": "REQ#x#20261121#0"}, "sk": {"S": "y"}}}}
    other = {"eventName": "INSERT", "dynamodb": {"Keys": {"pk": {"S": "KEY#x"}, "sk": {"S": "META"}}}}
    service = RollUpUsage(read=changes_of, usage=store)
    for _ in range(2):
        service.add([stream_record(one, 1), broken, other, stream_record(two, 2)])
    service.add([stream_record(msgspec.structs.replace(two, cost_micro_usd=Decimal(2)), 3, old=two)])
    tally = store.of_key(key_id, [DAY])[0].models["a/one"]
    assert (tally.requests, tally.cost_micro_usd) == (2, Decimal("3.25"))
