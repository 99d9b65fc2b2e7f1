"""What was used: for the holder of a key, and for administrators by key, model and day."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.integration.governance import Key, admin, micro, settled
from tests.integration.support import Platform, eventually

CHAT = {"messages": [{"role": "user", "content": "The door is red. Which colour?"}]}
WORK: list[tuple[str, dict[str, Any]]] = [
    ("/chat/completions", {**CHAT, "model": "bedrock/extractive-v1"}),
    ("/chat/completions", {**CHAT, "model": "openai/extractive-v1"}),
    ("/chat/completions", {**CHAT, "model": "openai/extractive-v1", "stream": True}),
    ("/chat/completions", {**CHAT, "model": "openai/extractive-v1-small", "max_completion_tokens": 8}),
    ("/embeddings", {"model": "bedrock/wordllama-256", "input": ["a door", "a gate"]}),
    ("/score", {"features": [1.0] * 50, "model": "in-process/lead-scorer"}),
]
MODELS = {
    "bedrock/extractive-v1": 1,
    "openai/extractive-v1": 2,
    "openai/extractive-v1-small": 1,
    "bedrock/wordllama-256": 1,
    "in-process/lead-scorer": 1,
}


@pytest.fixture(scope="module")
def key(platform: Platform) -> Key:
    """A key that has done one piece of work of every kind."""
    platform.heal()
    made = Key.new(platform, rpm=1000, monthly_budget_usd=None, name="usage")
    for path, body in WORK:
        assert made.served("POST", path, body).status == 200
    return made


def added_up(key: Key) -> dict[str, Any]:
    """The usage of a key once the split by model has caught up."""

    def probe() -> dict[str, Any] | None:
        usage = key.usage()
        return usage if sum(row["requests"] for row in usage["by_model"]) == len(WORK) else None

    return eventually(probe, within_s=30, what="all requests are added up by model")


def logged_tokens(key: Key, name: str) -> int:
    return sum(int(entry[name]["N"]) for entry in key.log() if name in entry)


def test_totals_are_those_of_the_request_log_at_once(platform: Platform, key: Key) -> None:
    usage = key.usage()
    assert usage["requests"] == len(WORK) == len(key.log())
    assert micro(usage["cost_usd"]) == key.logged_cost() > 0
    assert usage["input_tokens"] == logged_tokens(key, "input_tokens") > 0
    assert usage["output_tokens"] == logged_tokens(key, "output_tokens") > 0
    assert usage["period"] == f"{datetime.now(UTC):%Y-%m}"
    assert usage["limits"]["rpm"] == 1000
    assert usage["limits"]["monthly_budget_usd"] is None
    assert usage["reserved_usd"] == "0"


def test_models_follow_and_add_up_to_the_totals(platform: Platform, key: Key) -> None:
    usage = added_up(key)
    rows = {row["model"]: row for row in usage["by_model"]}
    assert {model: row["requests"] for model, row in rows.items()} == MODELS
    assert sum(micro(row["cost_usd"]) for row in rows.values()) == micro(usage["cost_usd"])
    for name in ("input_tokens", "output_tokens"):
        assert sum(row[name] for row in rows.values()) == usage[name]
    assert rows["openai/extractive-v1-small"]["unpriced_requests"] == 1
    assert sum(row["unpriced_requests"] for row in rows.values()) == 1


def test_administrators_see_every_key_by_model_and_day(platform: Platform, key: Key) -> None:
    added_up(key)
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    report = admin(platform, "GET", "/usage", query={"from": today, "to": today})
    assert report.status == 200, report.body
    mine = [row for row in report.body["data"] if row["key_id"] == key.id]
    assert Counter({row["model"]: row["requests"] for row in mine}) == MODELS
    assert {(row["day"], row["key_name"]) for row in mine} == {(today, "usage")}
    assert sum(micro(row["cost_usd"]) for row in mine) == key.logged_cost()
    assert len({row["key_id"] for row in report.body["data"]}) > 1
    total = report.body["total"]
    assert total["requests"] == sum(row["requests"] for row in report.body["data"])
    assert micro(total["cost_usd"]) == sum((micro(row["cost_usd"]) for row in report.body["data"]), Decimal())


@pytest.mark.parametrize(("group_by", "rows"), [("key", 1), ("model", len(MODELS)), ("day", 1), ("key,day", 1)])
def test_a_report_is_grouped_as_asked(platform: Platform, key: Key, group_by: str, rows: int) -> None:
    added_up(key)
    report = admin(platform, "GET", "/usage", query={"key_id": key.id, "group_by": group_by})
    assert len(report.body["data"]) == rows
    assert sum(row["requests"] for row in report.body["data"]) == len(WORK)
    names = {"key": "key_id", "model": "model", "day": "day"}
    asked = {names[group] for group in group_by.split(",")}
    assert all(asked == set(row) & set(names.values()) for row in report.body["data"])


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"group_by": "colour"}, 400),
        ({"from": "yesterday"}, 400),
        ({"from": "2026-11-02", "to": "2026-11-01"}, 400),
        ({"key_id": "key_nobody"}, 404),
    ],
)
def test_a_report_of_nothing_is_refused(platform: Platform, query: dict[str, str], status: int) -> None:
    assert admin(platform, "GET", "/usage", query=query).status == status


def test_a_month_that_is_over_has_no_limits(platform: Platform, key: Key) -> None:
    last_month = datetime.now(UTC).replace(day=1) - timedelta(days=1)
    usage = key.served("GET", f"/usage?period={last_month:%Y-%m}").body
    assert usage["requests"] == 0
    assert usage["limits"] is usage["remaining"] is usage["reserved_usd"] is None
    assert key.served("GET", "/usage?period=2999-01").status == 400


def test_nobody_sees_another_keys_usage(platform: Platform, key: Key) -> None:
    other = Key.new(platform)
    assert other.usage()["requests"] == 0
    assert platform.call("GET", "/usage", key="").status == 401


def test_durable_work_is_in_the_usage_of_its_key(healthy: Platform) -> None:
    key = Key.new(healthy)
    job = key.served("POST", "/async/chat/completions", {**CHAT, "model": "cheap"}).body["id"]
    execution = key.served(
        "POST",
        "/workflows/chain/executions",
        {"steps": [{"prompt": "The door is red. Which colour?", "model": "cheap"}] * 2},
    ).body["id"]
    for path, done in ((f"/async/{job}", "completed"), (f"/workflows/executions/{execution}", "succeeded")):
        eventually(
            lambda path=path, done=done: key.served("GET", path).body["status"] == done or None,  # type: ignore[misc]
            within_s=60,
            what=f"{path} is {done}",
        )
    usage = settled(key, within_s=10)
    assert usage["requests"] == 3
    assert micro(usage["cost_usd"]) == key.logged_cost() > 0
