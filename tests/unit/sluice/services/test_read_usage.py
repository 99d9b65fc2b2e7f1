from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from sluice.domain.errors import InvalidRequestError, NotFoundError
from sluice.domain.inference import Caller, Mode, Operation, Usage
from sluice.domain.keys import ApiKey
from sluice.domain.ledger import Ask, Limits, Spent
from sluice.domain.request_log import Outcome, RequestLogEntry
from sluice.domain.usage import LogPartition, UsageChange
from sluice.services.read_usage import ReadUsage, ReportUsage
from sluice.testing.keys import FakeKeys
from sluice.testing.ledger import FakeLedger
from sluice.testing.usage import FakeUsage

NOW = 1_795_262_400.0  # 2026-11-21T12:00:00Z
LIMITS = Limits(rpm=10, monthly_budget_micro_usd=Decimal(100))
CALLER = Caller(key_id="key_1", request_id="request-1", limits=LIMITS)


class World:
    def __init__(self) -> None:
        self.usage = FakeUsage()
        self.ledger = FakeLedger(now=lambda: NOW)
        self.keys = FakeKeys(*(self._key(number) for number in (1, 2)))
        self.read = ReadUsage(self.usage, self.ledger, now=lambda: NOW)
        self.report = ReportUsage(self.usage, self.keys, now=lambda: NOW).report
        self._sequence = 0

    def used(self, day: str, *, key_id: str = "key_1", target: str = "a/one", cost: str = "2") -> None:
        entry = RequestLogEntry(
            request_id="request-1",
            key_id=key_id,
            mode=Mode.SYNC,
            operation=Operation.CHAT,
            model="auto",
            outcome=Outcome.COMPLETED,
            http_status=200,
            started_at=NOW,
            latency_ms=1,
            target=target,
            usage=Usage(input_tokens=10, output_tokens=1),
            cost_micro_usd=Decimal(cost),
        )
        self._sequence += 1
        partition = LogPartition(key_id, day, 0)
        self.usage.record(partition, [UsageChange(partition=partition, sequence=str(self._sequence), entry=entry)])

    @staticmethod
    def _key(number: int) -> ApiKey:
        return ApiKey(id=f"key_{number}", key_hash=f"hash{number}", name=f"name {number}", prefix="sk", created_at=1)


def test_of_this_month_the_ledger_says_how_much_and_the_log_for_what() -> None:
    world = World()
    for day in ("20261031", "20261101", "20261121"):
        world.used(day)
    world.used("20261121", target="b/two", cost="5")
    hold = world.ledger.reserve("key_1", LIMITS, Ask(tokens=20, cost_micro_usd=Decimal(40)), until=NOW + 30)
    other = world.ledger.reserve("key_1", LIMITS, Ask(tokens=20, cost_micro_usd=Decimal(40)), until=NOW + 30)
    world.ledger.settle(hold, Spent(input_tokens=7, output_tokens=3, cost_micro_usd=Decimal(9)))
    found = world.read.of(CALLER, None)
    assert found.period == "2026-11"
    assert [(model, sums.requests) for model, sums in found.by_model] == [("b/two", 1), ("a/one", 2)]
    assert (found.total.requests, found.total.input_tokens, found.total.output_tokens) == (1, 7, 3)
    assert found.total.cost_micro_usd == Decimal(9)
    assert found.standing is not None
    assert found.standing.remaining_monthly_micro_usd == 100 - 9 - other.cost_micro_usd
    assert found.standing.remaining_requests == 8


def test_a_month_that_is_over_is_what_the_log_adds_up_to() -> None:
    world = World()
    for day in ("20261031", "20261001", "20261101"):
        world.used(day)
    found = world.read.of(CALLER, "2026-10")
    assert (found.total.requests, found.total.cost_micro_usd, found.standing) == (2, Decimal(4), None)
    assert world.ledger.calls["standing"] == 0


def test_a_caller_sees_nothing_of_another_key() -> None:
    world = World()
    world.used("20261121", key_id="key_2")
    assert world.read.of(CALLER, None).by_model == ()


def test_a_report_is_grouped_as_asked() -> None:
    world = World()
    for day, key_id, target in [
        ("20261120", "key_1", "a/one"),
        ("20261121", "key_1", "a/one"),
        ("20261121", "key_1", "b/two"),
        ("20261121", "key_2", "a/one"),
        ("20261019", "key_2", "a/one"),
    ]:
        world.used(day, key_id=key_id, target=target)

    def rows(*group_by: str, **query: Any) -> list[tuple[Any, ...]]:
        report = world.report(**{"first": None, "last": None, "key_id": None, **query}, group_by=group_by)
        assert report.total.requests == sum(row.tally.requests for row in report.rows)
        return [(row.day, row.key_id, row.key_name, row.model, row.tally.requests) for row in report.rows]

    assert rows("key") == [(None, "key_1", "name 1", None, 3), (None, "key_2", "name 2", None, 1)]
    assert rows("model") == [(None, None, None, "a/one", 3), (None, None, None, "b/two", 1)]
    assert rows("day") == [(date(2026, 11, 20), None, None, None, 1), (date(2026, 11, 21), None, None, None, 3)]
    assert rows("key", "model", "day", key_id="key_2") == [(date(2026, 11, 21), "key_2", "name 2", "a/one", 1)]
    assert rows("key", first="2026-10-01", last="2026-10-31") == [(None, "key_2", "name 2", None, 1)]


def test_a_report_says_what_is_wrong_with_what_was_asked() -> None:
    world = World()
    query: dict[str, Any] = {"first": None, "last": None, "key_id": None}
    with pytest.raises(InvalidRequestError, match="key, model, day"):
        world.report(**query, group_by=("owner",))
    with pytest.raises(NotFoundError):
        world.report(**query | {"key_id": "key_9"})


def test_the_usage_of_a_key_that_is_forgotten_is_told_without_its_name() -> None:
    world = World()
    world.used("20261121", key_id="key_3")
    [row] = world.report(first=None, last=None, key_id="key_3").rows
    assert (row.key_id, row.key_name, row.tally.requests) == ("key_3", None, 1)
    with pytest.raises(NotFoundError):
        world.report(first="2026-10-01", last="2026-10-31", key_id="key_3")


def test_a_key_that_was_never_used_has_an_empty_report() -> None:
    assert World().report(first=None, last=None, key_id="key_1").rows == ()


def test_a_report_names_keys_of_every_page() -> None:
    world = World()
    world.keys = FakeKeys(
        *(ApiKey(id=f"key_{n:04}", key_hash=f"h{n}", name=f"name {n}", prefix="sk", created_at=1) for n in range(250))
    )
    world.used("20261121", key_id="key_0249")
    report = ReportUsage(world.usage, world.keys, now=lambda: NOW).report(first=None, last=None, key_id=None)
    assert [row.key_name for row in report.rows] == ["name 249"]
