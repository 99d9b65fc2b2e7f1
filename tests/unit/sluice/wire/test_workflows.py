from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from sluice.domain.errors import InvalidRequestError, StateError
from sluice.domain.inference import Usage
from sluice.domain.jobs import Failure
from sluice.domain.workflows import (
    CaughtError,
    ChainState,
    ChainStep,
    Execution,
    ExecutionStatus,
    ExecutionView,
    StepError,
    StepRecord,
    StepStatus,
    StepView,
)
from sluice.wire.states import chain_state, encoded
from sluice.wire.workflows import WorkflowExecution, location, parse_chain

EXECUTION = Execution(
    id="exec_" + "a" * 32,
    key_id="key_1",
    workflow="chain",
    status=ExecutionStatus.RUNNING,
    step_count=2,
    created_at=100,
    expires_at=200,
    input_key="workflows/key_1/x/input.json",
)


def parse(**body: object) -> Any:
    return parse_chain(json.dumps(body).encode())


def plain(execution: WorkflowExecution) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(msgspec.json.encode(execution))
    return body


def test_a_step_needs_a_prompt_only() -> None:
    definition = parse(steps=[{"prompt": "x"}])
    assert (definition.steps, definition.input) == ((ChainStep(prompt="x", model="auto"),), "")


def test_everything_a_step_can_say_is_kept() -> None:
    step = {"prompt": "x", "model": "fast", "name": "n", "system": "s", "max_tokens": 3, "temperature": 0.5}
    definition = parse(steps=[step], input="text")
    assert msgspec.to_builtins(definition.steps[0]) == step
    assert definition.input == "text"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "steps"),
        ({"steps": []}, "steps"),
        ({"steps": "x"}, "steps"),
        ({"steps": [{"prompt": "x"}] * 21}, "steps"),
        ({"steps": [{"prompt": "x"}], "input": 1}, "input"),
    ],
)
def test_what_is_wrong_is_named(body: dict[str, object], param: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        parse(**body)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("step", "field"),
    [
        ({}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": 1}, "prompt"),
        ({"prompt": "x", "model": ""}, "model"),
        ({"prompt": "x", "max_tokens": 0}, "max_tokens"),
        ({"prompt": "x", "temperature": 2.5}, "temperature"),
        ({"prompt": "x", "name": "n" * 65}, "name"),
    ],
)
def test_what_is_wrong_with_a_step_is_named(step: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        parse(steps=[step])
    assert caught.value.param is not None
    assert caught.value.param.startswith("steps")
    assert caught.value.param.endswith(f".{field}")


def test_a_started_execution_shows_its_plan() -> None:
    steps = (
        StepRecord(index=0, model="auto", name="first", status=StepStatus.PENDING),
        StepRecord(index=1, model="fast", status=StepStatus.PENDING),
    )
    assert plain(WorkflowExecution.started(EXECUTION, steps)) == {
        "id": EXECUTION.id,
        "object": "workflow.execution",
        "workflow": "chain",
        "status": "running",
        "created_at": 100,
        "steps": [
            {"index": 0, "status": "pending", "model": "auto", "name": "first"},
            {"index": 1, "status": "pending", "model": "fast"},
        ],
    }
    assert location(EXECUTION) == f"/v1/workflows/executions/{EXECUTION.id}"


def test_an_ended_execution_shows_answers_totals_and_its_error() -> None:
    usage = Usage(input_tokens=8, output_tokens=2)
    done = StepRecord(
        index=0,
        model="auto",
        status=StepStatus.SUCCEEDED,
        target="bedrock/small",
        output_key="secret-key",
        completed_at=103,
        usage=usage,
        cost_micro_usd=Decimal(4),
    )
    why = Failure(code="provider_rejected", message="No.", type="invalid_request_error", step=1)
    broken = StepRecord(index=1, model="auto", status=StepStatus.FAILED, error=why)
    ended = EXECUTION.ended(ExecutionStatus.FAILED, now=105, steps=[done, broken], error=why)
    views = (StepView(record=done, status="succeeded", output="text"), StepView(record=broken, status="failed"))
    body = plain(WorkflowExecution.of(ExecutionView(execution=ended, steps=views)))
    assert (body["status"], body["completed_at"], body["cost_usd"]) == ("failed", 105, "0.000004")
    assert body["error"] == {"message": "No.", "type": "invalid_request_error", "code": "provider_rejected", "step": 1}
    assert body["usage"]["total_tokens"] == 10
    assert (body["steps"][0]["output"], body["steps"][0]["target"]) == ("text", "bedrock/small")
    assert body["steps"][1]["error"]["code"] == "provider_rejected"
    assert "secret-key" not in json.dumps(body)


# ---- the state machine's side ----


def test_a_state_is_the_same_after_a_round_trip() -> None:
    error = StepError(code="c", message="m", type="t", step=1)
    state = ChainState(
        execution_id="exec_1", key_id="key_1", step_count=2, index=1, outcome="failed", error=error,
        failure=CaughtError(error="States.Timeout", cause="{}"),
    )  # fmt: skip
    assert chain_state(json.loads(json.dumps(encoded(state)))) == state


def test_what_a_catch_and_a_pass_add_is_understood() -> None:
    event = {
        "execution_id": "exec_1",
        "key_id": "key_1",
        "step_count": 2,
        "index": 0,
        "status": "failed",
        "failure": {"Error": "States.TaskFailed", "Cause": "why"},
    }
    state = chain_state(event)
    assert state.failure == CaughtError(error="States.TaskFailed", cause="why")
    assert encoded(chain_state({name: event[name] for name in ("execution_id", "key_id", "step_count", "index")})) == {
        "execution_id": "exec_1",
        "key_id": "key_1",
        "step_count": 2,
        "index": 0,
    }


@pytest.mark.parametrize("event", [{}, {"execution_id": 1}, {"execution_id": "x", "key_id": "k", "step_count": 1}])
def test_a_state_that_is_none_is_an_error_of_the_state(event: dict[str, object]) -> None:
    with pytest.raises(StateError):
        chain_state(event)
