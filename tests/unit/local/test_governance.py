"""The verbs for keys, usage, circuits and dead letters: what they ask of the platform, and what they show."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from local import admin, cli
from local.connection import Connection, write_values
from local.instance import Instance

KEY: dict[str, Any] = {
    "object": "api_key",
    "id": "key_1",
    "name": "app",
    "status": "active",
    "prefix": "sk-sluice-abcd",
    "scopes": ["batch", "workflow"],
    "allowed_models": None,
    "rpm": 60,
    "tpm": None,
    "monthly_budget_usd": "12.5",
    "total_budget_usd": None,
    "created_at": 1_795_219_200,
    "expires_at": None,
    "revoked_at": None,
    "retiring": [],
}
SECRET = "sk-sluice-" + "a" * 43
SUMS = {"requests": 3, "failed_requests": 1, "cached_requests": 0, "input_tokens": 30, "output_tokens": 7}


@dataclass
class Platform:
    """Stands for the admin routes: answers from a list, and remembers what was asked."""

    answers: list[dict[str, Any]] = field(default_factory=list)
    asked: list[tuple[str, str, Mapping[str, str] | None, Mapping[str, Any] | None]] = field(default_factory=list)

    def call(
        self,
        connection: Connection,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        self.asked.append((method, path, dict(query) if query else None, body))
        return self.answers.pop(0)


@pytest.fixture
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Platform:
    monkeypatch.setattr(cli, "_ROOT", tmp_path)
    for name in ("NO_PROXY", "no_proxy", "SLUICE_URL"):
        monkeypatch.setenv(name, "")
    write_values(Instance.named("default", tmp_path, {}), {"SLUICE_URL": "http://127.0.0.1:1/v1"})
    platform = Platform()
    monkeypatch.setattr(admin, "_call", platform.call)
    return platform


def run(*arguments: str) -> int:
    return cli.main(arguments)


# ---- key ----


def test_a_key_without_settings_is_asked_for_by_its_name_alone(
    platform: Platform, capsys: pytest.CaptureFixture[str]
) -> None:
    platform.answers = [{**KEY, "key": SECRET}]
    assert run("key", "app") == 0
    assert platform.asked == [("POST", "/admin/keys", None, {"name": "app"})]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == SECRET
    assert lines[1] == "  id key_1, name app; the key is not shown again"
    assert lines[2] == "  app: rpm 60, USD/month 12.5, scopes batch,workflow"


def test_every_setting_reaches_the_platform(platform: Platform) -> None:
    platform.answers = [{**KEY, "key": SECRET}]
    options = {
        "--scopes": "batch, workflow",
        "--models": "auto,bedrock/one",
        "--rpm": "1,200",
        "--tpm": "1_000_000",
        "--monthly-budget-usd": "12.50",
        "--total-budget-usd": "100",
        "--expires-at": "2026-12-31T18:00",
    }
    assert run("key", "app", *(part for pair in options.items() for part in pair)) == 0
    assert platform.asked[0][3] == {
        "name": "app",
        "scopes": ["batch", "workflow"],
        "allowed_models": ["auto", "bedrock/one"],
        "rpm": 1_200,
        "tpm": 1_000_000,
        "monthly_budget_usd": "12.50",
        "total_budget_usd": "100",
        "expires_at": 1_798_740_000,
    }


def expiry(platform: Platform, text: str) -> Any:
    platform.answers = [KEY]
    assert run("key-update", "key_1", "--expires-at", text) == 0
    body = platform.asked[0][3]
    assert body is not None
    return body["expires_at"]


@pytest.mark.parametrize("text", ["2026-12-31", "2026-12-31T02:00:00+02:00", "1798675200"])
def test_a_moment_may_be_written_in_several_ways(platform: Platform, text: str) -> None:
    assert expiry(platform, text) == 1_798_675_200


@pytest.mark.parametrize(("text", "seconds"), [("30d", 30 * 86_400), ("12h", 12 * 3_600)])
def test_a_moment_may_be_told_from_now(platform: Platform, text: str, seconds: int) -> None:
    assert expiry(platform, text) == pytest.approx(time.time() + seconds, abs=60)


def test_no_moment_is_never(platform: Platform) -> None:
    assert expiry(platform, "none") is None


@pytest.mark.parametrize(("option", "text"), [("--rpm", "many"), ("--tpm", "-5"), ("--expires-at", "tomorrow")])
def test_what_cannot_be_understood_is_not_sent(
    platform: Platform, capsys: pytest.CaptureFixture[str], option: str, text: str
) -> None:
    assert run("key", "app", f"{option}={text}") == 1
    assert text in capsys.readouterr().err
    assert platform.asked == []


def test_programs_get_the_platforms_own_answer(platform: Platform, capsys: pytest.CaptureFixture[str]) -> None:
    platform.answers = [{**KEY, "key": SECRET}]
    assert run("key", "app", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {**KEY, "key": SECRET}


# ---- keys ----


def test_all_pages_of_keys_are_listed_the_oldest_first(platform: Platform, capsys: pytest.CaptureFixture[str]) -> None:
    younger = {**KEY, "id": "key_0", "name": "younger", "created_at": 1_795_219_201, "scopes": None, "rpm": None}
    older = {**KEY, "retiring": [{"prefix": "sk-sluice-old1", "retires_at": 1_795_219_200}]}
    platform.answers = [
        {"data": [younger], "has_more": True, "next_after": "key_0"},
        {"data": [older], "has_more": False, "next_after": None},
    ]
    assert run("keys") == 0
    assert [query for _, _, query, _ in platform.asked] == [{"limit": "100"}, {"limit": "100", "after": "key_0"}]
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["id", "name", "status"]
    assert first.split()[:5] == ["key_1", "app", "active", "60", "-"]
    assert first.endswith("sk-sluice-abcd, sk-sluice-old1 (until 2026-11-21 00:00:00Z)")
    assert second.split()[:5] == ["key_0", "younger", "active", "-", "-"]
    assert head.index("status") == first.index("active") == second.index("active")


# ---- key-update, rotate, revoke ----


def test_a_change_sends_only_what_was_named_and_none_takes_away(
    platform: Platform, capsys: pytest.CaptureFixture[str]
) -> None:
    platform.answers = [{**KEY, "rpm": None, "monthly_budget_usd": None, "scopes": None, "name": "new"}]
    assert run("key-update", "key_1", "--rpm", "none", "--scopes", "none", "--name", "new") == 0
    assert platform.asked == [
        ("PATCH", "/admin/keys/key_1", None, {"rpm": None, "scopes": None, "name": "new"}),
    ]
    assert capsys.readouterr().out == "new: no limits\n"


def test_a_change_of_nothing_is_not_sent(platform: Platform, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("key-update", "key_1") == 1
    assert "nothing to change" in capsys.readouterr().err
    assert platform.asked == []


@pytest.mark.parametrize(("options", "body"), [([], {}), (["--overlap-seconds", "0"], {"overlap_seconds": 0})])
def test_a_rotation_shows_the_new_secret_and_when_the_old_one_ends(
    platform: Platform, capsys: pytest.CaptureFixture[str], options: list[str], body: dict[str, int]
) -> None:
    retiring = [{"prefix": "sk-sluice-old1", "retires_at": 1_795_219_200}]
    platform.answers = [{**KEY, "key": SECRET, "retiring": [] if body else retiring}]
    assert run("rotate", "key_1", *options) == 0
    assert platform.asked == [("POST", "/admin/keys/key_1/rotate", None, body)]
    shown = capsys.readouterr().out
    assert shown.startswith(SECRET)
    assert ("sk-sluice-old1… works until 2026-11-21 00:00:00Z" in shown) == (not body)


def test_a_revocation_says_that_it_takes_a_minute(platform: Platform, capsys: pytest.CaptureFixture[str]) -> None:
    platform.answers = [{**KEY, "revoked_at": 1_795_219_200}]
    assert run("revoke", "key/1") == 0
    assert platform.asked == [("DELETE", "/admin/keys/key%2F1", None, None)]
    assert capsys.readouterr().out == "key_1 (app) revoked at 2026-11-21 00:00:00Z, in force within a minute\n"


# ---- usage, circuits, queues, redrive ----


def test_usage_is_shown_by_key_unless_told_otherwise(platform: Platform, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"key_id": "key_1", "key_name": "app", **SUMS, "cost_usd": "0.5"},
        {"key_id": "key_2", **SUMS, "cost_usd": "10"},
    ]
    total = {**SUMS, "requests": 6, "cost_usd": "10.5"}
    platform.answers = [{"from": "2026-11-01", "to": "2026-11-21", "data": rows, "total": total}]
    assert run("usage") == 0
    assert platform.asked == [("GET", "/admin/usage", {"group_by": "key"}, None)]
    title, head, first, second, last = capsys.readouterr().out.splitlines()
    assert title == "2026-11-01 to 2026-11-21"
    assert head.split() == ["key", "name", "requests", "failed", "cached", "tokens", "in", "tokens", "out", "USD"]
    assert first.split() == ["key_1", "app", "3", "1", "0", "30", "7", "0.5"]
    assert second.split() == ["key_2", "-", "3", "1", "0", "30", "7", "10"]
    assert last.split() == ["total", "-", "6", "1", "0", "30", "7", "10.5"]
    # Numbers stand under each other's last digit.
    assert len({len(line) for line in (head, first, second, last)}) == 1


def test_usage_can_be_asked_for_by_days_and_key(platform: Platform, capsys: pytest.CaptureFixture[str]) -> None:
    platform.answers = [{"from": "2026-11-01", "to": "2026-11-02", "data": [], "total": {**SUMS, "cost_usd": "0"}}]
    arguments = ("--from", "2026-11-01", "--to", "2026-11-02", "--key", "key_1", "--by", "day,model")
    assert run("usage", *arguments) == 0
    assert platform.asked[0][2] == {
        "from": "2026-11-01",
        "to": "2026-11-02",
        "key_id": "key_1",
        "group_by": "day,model",
    }
    assert capsys.readouterr().out == "2026-11-01 to 2026-11-02: nothing was used\n"


def test_circuits_are_a_table(platform: Platform, capsys: pytest.CaptureFixture[str]) -> None:
    closed = {
        "target": "a",
        "state": "closed",
        "opened_at": None,
        "probe_in_seconds": 0.0,
        "failures_in_a_row": 0,
        "failed": 0,
        "ms_per_token": 12.5,
    }
    opened = closed | {"target": "b", "state": "open", "opened_at": 1_795_219_200, "probe_in_seconds": 4.5}
    opened |= {"failures_in_a_row": 5, "failed": 5}
    platform.answers = [{"data": [opened, closed]}]
    assert run("circuits") == 0
    _, first, second = capsys.readouterr().out.splitlines()
    assert first.split() == ["b", "open", "2026-11-21", "00:00:00Z", "4.5", "s", "5", "5", "12.5"]
    assert second.split() == ["a", "closed", "-", "-", "-", "-", "12.5"]


def test_a_redrive_goes_on_until_the_queue_is_empty(platform: Platform, capsys: pytest.CaptureFixture[str]) -> None:
    platform.answers = [
        {"moved": 700, "done": False, "before_ms": 123},
        {"moved": 300, "done": False, "before_ms": 123},
        {"moved": 0, "done": True, "before_ms": 123},
    ]
    assert run("redrive", "async") == 0
    path = "/admin/queues/async/redrive"
    assert platform.asked == [
        ("POST", path, None, {}),
        ("POST", path, None, {"before_ms": 123}),
        ("POST", path, None, {"before_ms": 123}),
    ]
    assert capsys.readouterr().out == "1000 messages moved back to the queue async\n"


def queue(name: str, **counts: int) -> dict[str, Any]:
    return {"object": "queue", "name": name, "waiting": 0, "in_flight": 0, "delayed": 0, "dead_letters": 0} | counts


def test_a_redrive_without_a_name_is_of_all_queues_that_need_one(
    platform: Platform, capsys: pytest.CaptureFixture[str]
) -> None:
    platform.answers = [
        {"data": [queue("async"), queue("chunks", dead_letters=2), queue("webhooks", dead_letters=1)]},
        {"moved": 2, "done": True, "before_ms": 1},
        {"moved": 1, "done": True, "before_ms": 1},
    ]
    assert run("redrive") == 0
    assert [path for _, path, _, _ in platform.asked] == [
        "/admin/queues",
        "/admin/queues/chunks/redrive",
        "/admin/queues/webhooks/redrive",
    ]
    assert capsys.readouterr().out.splitlines() == [
        "2 messages moved back to the queue chunks",
        "1 message moved back to the queue webhooks",
    ]


def test_without_dead_letters_there_is_nothing_to_redrive(
    platform: Platform, capsys: pytest.CaptureFixture[str]
) -> None:
    platform.answers = [{"data": [queue("async", waiting=5), queue("chunks")]}]
    assert run("redrive") == 0
    assert len(platform.asked) == 1
    assert capsys.readouterr().out == "no queue has dead letters\n"


def test_queues_are_a_table(platform: Platform, capsys: pytest.CaptureFixture[str]) -> None:
    chunks = queue("chunks", waiting=120, in_flight=4, delayed=1, dead_letters=2)
    platform.answers = [{"data": [queue("async"), chunks]}]
    assert run("queues") == 0
    assert platform.asked == [("GET", "/admin/queues", None, None)]
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split() == ["queue", "waiting", "in", "flight", "delayed", "dead", "letters"]
    assert first.split() == ["async", "0", "0", "0", "0"]
    assert second.split() == ["chunks", "120", "4", "1", "2"]


def test_dead_letters_say_why(platform: Platform, capsys: pytest.CaptureFixture[str]) -> None:
    letter = {
        "message_id": "m",
        "subject": "batch_1/3",
        "code": "state_throttled",
        "message": "The table is throttling.",
        "receives": 6,
        "failed_at": 1_795_219_200,
    }
    report = {"queue": "chunks", "dead_letters": 3, "data": [letter, letter | {"subject": None}], "has_more": True}
    platform.answers = [report]
    assert run("dead-letters", "chunks", "--limit", "2") == 0
    assert platform.asked == [("GET", "/admin/queues/chunks/dead-letters", {"limit": "2"}, None)]
    title, _, first, second, more = capsys.readouterr().out.splitlines()
    assert title == "chunks: 3 dead letters"
    assert first.split() == [
        *("2026-11-21", "00:00:00Z", "batch_1/3", "6", "state_throttled"),
        *("The", "table", "is", "throttling."),
    ]
    assert second.split()[2] == "-"
    assert more == "…"


def test_dead_letters_without_a_reason_are_counted_all_the_same(
    platform: Platform, capsys: pytest.CaptureFixture[str]
) -> None:
    platform.answers = [{"queue": "chunks", "dead_letters": 1, "data": [], "has_more": False}]
    assert run("dead-letters", "chunks") == 0
    assert capsys.readouterr().out == "chunks: 1 dead letter, of which none left a reason\n"


def test_queues_and_dead_letters_for_programs(platform: Platform, capsys: pytest.CaptureFixture[str]) -> None:
    report = {"queue": "chunks", "dead_letters": 0, "data": [], "has_more": False}
    platform.answers = [{"data": [queue("async")]}, report]
    assert run("queues", "--json") == 0
    assert json.loads(capsys.readouterr().out) == [queue("async")]
    assert run("dead-letters", "chunks", "--json") == 0
    assert json.loads(capsys.readouterr().out) == report


def test_a_redrive_that_does_not_get_on_ends(platform: Platform, capsys: pytest.CaptureFixture[str]) -> None:
    platform.answers = [{"moved": 5, "done": False, "before_ms": 1}, {"moved": 0, "done": False, "before_ms": 1}]
    assert run("redrive", "async") == 1
    assert "5 were before" in capsys.readouterr().err
