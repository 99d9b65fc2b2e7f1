"""The functions that count and report usage, over the stores' fakes."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from functions.admin_usage import handler as admin_usage
from functions.roll_up_usage import handler as roll_up_usage
from functions.usage import handler as usage
from sluice.domain.errors import StateError
from sluice.domain.ledger import NO_LIMITS, Ask, Spent
from sluice.services.read_usage import ReadUsage, ReportUsage
from sluice.services.roll_up_usage import RollUpUsage
from sluice.testing.invocations import CALLER, FakeLambdaContext, api_event
from sluice.testing.keys import FakeKeys
from sluice.testing.ledger import FakeLedger
from sluice.testing.usage import FakeUsage


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch) -> FakeLedger:
    store, ledger = FakeUsage(), FakeLedger()
    monkeypatch.setattr(usage, "service", lambda: ReadUsage(store, ledger))
    monkeypatch.setattr(admin_usage, "service", lambda: ReportUsage(store, FakeKeys()))
    return ledger


def call(entry_point: Callable[..., dict[str, Any]], resource: str, **query: str) -> tuple[int, Any]:
    event = api_event("GET", resource, authorizer=CALLER) | {"queryStringParameters": query}
    answer = entry_point(event, FakeLambdaContext())
    return answer["statusCode"], json.loads(answer["body"])


def test_the_caller_is_told_the_usage_of_its_key(ledger: FakeLedger) -> None:
    hold = ledger.reserve(CALLER["key_id"], NO_LIMITS, Ask(), until=time.time() + 30)
    ledger.settle(hold, Spent(input_tokens=5))
    status, body = call(usage.handler, "/v1/usage")
    assert (status, body["requests"], body["input_tokens"]) == (200, 1, 5)


def test_a_period_that_is_none_is_refused(ledger: FakeLedger) -> None:
    status, body = call(usage.handler, "/v1/usage", period="soon")
    assert (status, body["error"]["param"]) == (400, "period")


def test_a_report_takes_its_query(ledger: FakeLedger) -> None:
    query = {"from": "2026-10-01", "to": "2026-10-02", "group_by": "day"}
    status, body = call(admin_usage.handler, "/v1/admin/usage", **query)
    assert (status, body["from"], body["to"], body["data"]) == (200, "2026-10-01", "2026-10-02", [])
    status, body = call(admin_usage.handler, "/v1/admin/usage", key_id="key_none")
    assert (status, body["error"]["param"]) == (404, "key_id")


def test_a_batch_that_cannot_be_stored_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise StateError("The table is throttling.")

    service = RollUpUsage(read=fail, usage=FakeUsage())
    monkeypatch.setattr(roll_up_usage, "service", lambda: service)
    with pytest.raises(StateError):
        roll_up_usage.handler({"Records": [{}]}, FakeLambdaContext())
