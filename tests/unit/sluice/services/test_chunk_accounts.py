"""The money of a chunk, and what its lines came to."""

from __future__ import annotations

import threading
from decimal import Decimal
from typing import Any

import pytest

from sluice.domain.batches import MOST_ENTRIES
from sluice.domain.errors import BudgetExceededError
from sluice.domain.inference import Mode, Operation, Usage
from sluice.domain.ledger import NO_LIMITS, Ask, Limits, Spent
from sluice.domain.request_log import Outcome, RequestLogEntry
from sluice.services.chunk_funds import ChunkFunds
from sluice.services.chunk_log import VARIOUS, ChunkLog

BUDGET = Limits(total_budget_micro_usd=Decimal(1))


def ask(cost: str, *, output_tokens: int = 0) -> Ask:
    rate = Decimal(1) if output_tokens else Decimal(0)
    return Ask(cost_micro_usd=Decimal(cost), output_tokens=output_tokens, output_rate_micro_usd=rate)


def entry(request_id: str = "r", *, cost: str | None = "2.5", tokens: int | None = 3, **fields: Any) -> RequestLogEntry:
    standard: dict[str, Any] = {
        "key_id": "key_1",
        "mode": Mode.BATCH,
        "operation": Operation.CHAT,
        "model": "auto",
        "outcome": Outcome.COMPLETED,
        "http_status": 200,
        "started_at": 1.0,
        "latency_ms": 10,
        "target": "a/one",
        "usage": None if tokens is None else Usage(input_tokens=tokens),
        "cost_micro_usd": None if cost is None else Decimal(cost),
    }
    return RequestLogEntry(request_id=request_id, **{**standard, **fields})


def test_what_is_in_use_and_what_is_spent_never_exceed_what_is_held() -> None:
    funds = ChunkFunds(Decimal(10))
    first = funds.reserve("key_1", BUDGET, ask("4", output_tokens=2), until=1.0)
    assert (first.cost_micro_usd, first.output_tokens) == (Decimal(6), 2)
    with pytest.raises(BudgetExceededError):
        funds.reserve("key_1", BUDGET, ask("5"), until=1.0)
    funds.settle(first, Spent(cost_micro_usd=Decimal(3)))
    second = funds.reserve("key_1", BUDGET, ask("5"), until=1.0)
    second = funds.extend(second, BUDGET, Decimal(2))
    assert second.cost_micro_usd == 7
    with pytest.raises(BudgetExceededError):
        funds.extend(second, BUDGET, Decimal("0.000001"))


def test_what_costs_nothing_is_never_refused() -> None:
    assert ChunkFunds(Decimal(0)).reserve("key_1", BUDGET, ask("0"), until=1.0).cost_micro_usd == 0


def test_a_key_without_a_budget_is_refused_nothing() -> None:
    funds = ChunkFunds(Decimal(0))
    hold = funds.reserve("key_1", NO_LIMITS, ask("100"), until=1.0)
    assert funds.extend(hold, NO_LIMITS, Decimal(1)).cost_micro_usd == 101


def test_of_many_threads_none_gets_what_another_has() -> None:
    funds, got = ChunkFunds(Decimal(20)), []

    def take() -> None:
        for _ in range(10):
            try:
                got.append(funds.reserve("key_1", BUDGET, ask("1"), until=1.0))
            except BudgetExceededError:
                return

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 20


def test_lines_of_the_same_kind_are_one_entry() -> None:
    log = ChunkLog()
    for number in range(3):
        log.append(entry(f"r-{number}"))
        log.ended(f"r-{number}")
    [only] = log.entries("b-0-1", "key_1")
    assert only.unit == only.request_id, "an attempt that says it again says it in the same place"
    assert (only.requests, only.usage, only.cost_micro_usd) == (3, Usage(input_tokens=9), Decimal("7.5"))
    assert (only.request_id, only.latency_ms, log.cost_micro_usd) == ("b-0-1-0", 10, Decimal("7.5"))


def test_models_targets_and_outcomes_are_told_apart() -> None:
    log = ChunkLog()
    kinds: list[dict[str, Any]] = [{}, {"model": "b"}, {"target": "b"}, {"outcome": Outcome.FAILED}, {"cost": None}]
    for number, kind in enumerate(kinds):
        log.append(entry(f"r-{number}", **kind))
        log.ended(f"r-{number}")
    entries = log.entries("x", "key_1")
    assert [each.requests for each in entries] == [1] * 5
    assert [each.cost_micro_usd for each in entries].count(None) == 1
    assert len({each.request_id for each in entries}) == 5


def test_a_line_that_took_several_calls_counts_once_and_every_bill_counts() -> None:
    log = ChunkLog()
    log.append(entry(outcome=Outcome.FAILED, cost=None, tokens=None))
    log.append(entry(outcome=Outcome.FAILED, cost="1"))
    log.append(entry(cost="2"))
    log.ended("r")
    assert {(each.outcome, each.requests, each.cost_micro_usd) for each in log.entries("x", "key_1")} == {
        (Outcome.FAILED, 0, Decimal(1)),
        (Outcome.COMPLETED, 1, Decimal(2)),
    }
    assert log.usage == Usage(input_tokens=6)


def test_a_line_that_is_left_counts_only_with_what_was_billed() -> None:
    log = ChunkLog()
    log.append(entry("unbilled", outcome=Outcome.THROTTLED, cost=None, tokens=None))
    log.left("unbilled")
    log.ended("unbilled")
    assert log.entries("x", "key_1") == []
    assert log.usage is None


def test_a_line_that_failed_without_a_bill_is_entered_at_no_cost() -> None:
    log = ChunkLog()
    log.append(entry(outcome=Outcome.FAILED, cost=None, tokens=None, http_status=400, error_code="content_filter"))
    log.ended("r")
    [only] = log.entries("x", "key_1")
    assert (only.requests, only.cost_micro_usd, only.http_status, only.error_code) == (1, None, 400, "content_filter")
    assert log.cost_micro_usd == 0


def test_many_lines_of_one_call_are_as_many_requests() -> None:
    log = ChunkLog()
    log.append(entry())
    log.ended("r", lines=512)
    assert [each.requests for each in log.entries("x", "key_1")] == [512]


def test_there_are_never_more_entries_than_one_transaction_takes() -> None:
    log = ChunkLog()
    for number in range(500):
        log.append(entry(f"r-{number}", model=f"model-{number}", operation=list(Operation)[number % 4], cost="0.1"))
        log.ended(f"r-{number}")
    entries = log.entries("x", "key_1")
    assert len(entries) <= MOST_ENTRIES
    assert sum(each.requests for each in entries) == 500
    assert sum(each.cost_micro_usd or Decimal(0) for each in entries) == log.cost_micro_usd == Decimal(50)
    assert VARIOUS in {each.model for each in entries}
