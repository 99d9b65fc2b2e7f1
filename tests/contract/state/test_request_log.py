"""What a request log does, in memory and in DynamoDB."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import msgspec
import pytest

from sluice.adapters.dynamodb import Table
from sluice.adapters.dynamodb_request_log import DynamoDBRequestLog, from_item, to_item
from sluice.domain.ids import new_id
from sluice.domain.inference import Mode, Operation, Usage
from sluice.domain.ports import RequestLog
from sluice.domain.request_log import Outcome, RequestLogEntry, new_unit
from sluice.testing.request_log import FakeRequestLog
from tests.contract.state.conftest import Aws

Read = Callable[[RequestLogEntry], list[RequestLogEntry]]


@pytest.fixture(scope="module")
def table(aws: Aws) -> Table:
    return aws.table()[0]


@pytest.fixture(params=["fake", "real"])
def log(request: pytest.FixtureRequest) -> tuple[RequestLog, Read]:
    """A log, and a way to read the partition of an entry."""
    if request.param == "fake":
        fake = FakeRequestLog()
        return fake, lambda _: fake.entries
    table: Table = request.getfixturevalue("table")

    def read(entry: RequestLogEntry) -> list[RequestLogEntry]:
        return [from_item(item) for item in table.query(str(to_item(entry, expires_at=0)["pk"]))]

    return DynamoDBRequestLog(table, ttl_days=90), read


def new_entry() -> RequestLogEntry:
    return RequestLogEntry(
        request_id=new_id("req"),
        key_id=new_id("key"),
        mode=Mode.ASYNC,
        operation=Operation.CHAT,
        model="auto",
        outcome=Outcome.THROTTLED,
        http_status=429,
        started_at=1_700_000_000.125,
        latency_ms=42,
        error_code="provider_throttled",
        attempts=3,
    )


def test_an_entry_is_kept_as_it_was_to_the_last_digit_of_its_cost(log: tuple[RequestLog, Read]) -> None:
    write, read = log
    entry = msgspec.structs.replace(
        new_entry(),
        outcome=Outcome.COMPLETED,
        target="bedrock/one",
        usage=Usage(input_tokens=10, output_tokens=5, cache_read_tokens=4),
        cost_micro_usd=Decimal("12345678901234567890.123456789012345678"),
        price_version="2026-01",
        fallbacks=1,
    )
    write.append(entry)
    assert read(entry) == [entry]


def test_an_entry_can_stand_for_many_requests(log: tuple[RequestLog, Read]) -> None:
    write, read = log
    entry = msgspec.structs.replace(new_entry(), mode=Mode.BATCH, requests=2_500, hold="batch_1")
    write.append(entry)
    assert read(entry) == [entry]


@pytest.mark.parametrize(("requests", "stored"), [(1, None), (0, 0), (7, 7)])
def test_only_entries_for_more_or_less_than_one_request_say_so(requests: int, stored: int | None) -> None:
    item = to_item(msgspec.structs.replace(new_entry(), requests=requests), expires_at=0)
    assert item["requests"] == stored


def test_what_is_said_again_of_a_unit_of_work_replaces_its_entry(log: tuple[RequestLog, Read]) -> None:
    write, read = log
    entry = new_entry()
    write.append(entry)
    again = msgspec.structs.replace(entry, outcome=Outcome.COMPLETED, http_status=200, latency_ms=99, error_code=None)
    write.append(again)
    assert read(entry) == [again]


def test_requests_that_a_caller_gave_one_id_at_one_moment_are_two_entries(log: tuple[RequestLog, Read]) -> None:
    write, read = log
    one = new_entry()
    other = msgspec.structs.replace(one, unit=new_unit())
    write.append(one)
    write.append(other)
    # They may or may not have come to the same partition.
    assert {entry.unit for of in (one, other) for entry in read(of)} == {one.unit, other.unit}


def test_another_start_is_another_entry(log: tuple[RequestLog, Read]) -> None:
    write, read = log
    entry = new_entry()
    later = msgspec.structs.replace(entry, started_at=entry.started_at + 1)
    write.append(entry)
    write.append(later)
    assert read(entry) == [entry, later]


def test_an_entry_is_deleted_when_its_time_is_up(table: Table) -> None:
    entry = new_entry()
    DynamoDBRequestLog(table, ttl_days=2).append(entry)
    [item] = table.query(str(to_item(entry, expires_at=0)["pk"]))
    assert item["expires_at"] == 1_700_000_000 + 2 * 86_400
