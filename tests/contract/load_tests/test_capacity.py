"""docs/capacity.md is what the formulae say, and they reckon with what is deployed."""

from __future__ import annotations

import json
import re
from typing import Any

from load_tests.capacity.__main__ import document
from load_tests.capacity.formulae import Assumptions, Function, Measured
from load_tests.capacity.quotas import CHAIN_STATES, quotas
from load_tests.capacity.tables import WORKERS, tables
from tests.contract.docs.support import ROOT
from tests.contract.docs.support import document as page

PROD = (ROOT / "infra/environments/prod.tfvars").read_text(encoding="utf-8")
ASSUMED = Assumptions()


def setting(name: str, text: str = PROD) -> int:
    found = re.search(rf"^\s*{name}\s*=\s*(\d+)$", text, re.MULTILINE)
    assert found, name
    return int(found[1])


def test_the_page_shows_what_the_command_prints() -> None:
    """`python -m load_tests.capacity --write` puts it there, after every new `make bench`."""
    text = page("docs/capacity.md").text
    assert document(text, tables(Measured.load(), ASSUMED)) == text


def test_the_assumptions_are_those_of_production() -> None:
    assert ASSUMED.memory_mb == setting("function_memory_mb")
    assert ASSUMED.table_ttl_days == setting("request_log_ttl_days")
    assert ASSUMED.log_days == setting("log_retention_days")
    assert setting("worker_maximum_concurrency") == WORKERS


def test_a_batch_of_events_is_as_large_as_terraform_makes_it() -> None:
    shared = (ROOT / "infra/shared.tf").read_text(encoding="utf-8")
    assert ASSUMED.events_per_batch == setting("batch_size", shared)


def test_the_routes_own_limit_is_that_of_production() -> None:
    found = re.search(r"^throttling\s*=\s*\{ requests_per_second = (\d+)", PROD, re.MULTILINE)
    assert found
    limits = {quota.source: quota.default for quota in every_quota()}
    assert limits["infra/environments/prod.tfvars"] == int(found[1])


def test_a_chain_of_two_prompts_enters_as_many_states_as_the_machine_has_for_it() -> None:
    machine = json.loads(re.sub(r"\$\{\w+\}", "x", (ROOT / "infra/state_machines/chain.asl.json").read_text()))
    assert entered(machine, outcomes=["continue", "done"]) == CHAIN_STATES


def entered(machine: Any, outcomes: list[str]) -> int:
    """States on the way through, when the steps end with these outcomes."""
    name, count = machine["StartAt"], 0
    while name:
        state, count = machine["States"][name], count + 1
        if state["Type"] == "Choice":
            outcome = outcomes.pop(0)
            name = next(way["Next"] for way in state["Choices"] if way["StringEquals"] == outcome)
        else:
            name = state.get("Next")
    return count


def every_quota() -> list[Any]:
    measured = Measured(2, 3, 5, 1, 1600, tls=False, taken_at="2026-11-21")
    return quotas(Function(measured, ASSUMED, 1.0))
