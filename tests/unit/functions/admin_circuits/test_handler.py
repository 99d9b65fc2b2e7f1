from __future__ import annotations

import json
import time
from typing import Any

import pytest

from functions.admin_circuits import handler as module
from sluice.domain.errors import StateError
from sluice.domain.resilience import Circuit, CircuitState, Health, TargetState
from sluice.services.list_circuits import ListCircuits
from sluice.testing.invocations import ADMINISTRATOR, FakeLambdaContext, api_event
from sluice.testing.routes import FakeRoutes, target
from sluice.testing.target_states import FakeTargetStates


@pytest.fixture
def states(monkeypatch: pytest.MonkeyPatch) -> FakeTargetStates:
    states = FakeTargetStates()
    service = ListCircuits(FakeRoutes(target("a"), target("b"), target("c")), states)
    monkeypatch.setattr(module, "service", lambda: service)
    return states


def ask() -> tuple[int, Any]:
    response = module.handler(api_event("GET", "/v1/admin/circuits", actor=ADMINISTRATOR), FakeLambdaContext())
    return response["statusCode"], json.loads(response["body"])


def test_a_target_that_never_failed_is_closed(states: FakeTargetStates) -> None:
    status, body = ask()
    assert (status, body["object"], [each["target"] for each in body["data"]]) == (200, "list", ["a", "b", "c"])
    assert body["data"][0] == {
        "object": "circuit",
        "target": "a",
        "provider": "bedrock",
        "model": "model-of-a",
        "state": "closed",
        "opened_at": None,
        "probe_in_seconds": 0.0,
        "failures_in_a_row": 0,
        "failed": 0,
        "succeeded": 0,
        "ms_per_token": None,
        "measured_at": None,
    }


def test_what_is_in_trouble_comes_first_and_says_for_how_long(states: FakeTargetStates) -> None:
    now = time.time()
    states.stored["c"] = TargetState(
        circuit=Circuit(state=CircuitState.OPEN, run=5, failed=5, window_at=now, opened_at=now - 3, until=now + 20),
        health=Health(ms_per_token=12.3456, at=now - 1),
    )
    states.stored["b"] = TargetState(circuit=Circuit(run=1, failed=7, succeeded=9, window_at=now - 3600))
    _, body = ask()
    first, _, last = body["data"]
    assert (first["target"], first["state"], first["failures_in_a_row"], first["failed"]) == ("c", "open", 5, 5)
    assert first["probe_in_seconds"] == pytest.approx(20, abs=5)
    assert first["opened_at"] == int(now - 3)
    assert (first["ms_per_token"], first["measured_at"]) == (12.346, int(now - 1))
    # A window that is over counts no more.
    assert (last["target"], last["failures_in_a_row"], last["failed"], last["succeeded"]) == ("b", 1, 0, 0)


def test_all_targets_are_read_at_once(states: FakeTargetStates) -> None:
    ask()
    assert states.reads == 1


def test_a_table_that_is_away_is_a_503(states: FakeTargetStates) -> None:
    states.failing = StateError("The table is throttling. Try again.")
    assert ask()[0] == 503
