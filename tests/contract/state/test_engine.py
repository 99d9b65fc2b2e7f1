"""What a workflow engine does, in memory and in Step Functions."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import pytest

from sluice.adapters.stepfunctions import StepFunctions
from sluice.domain.errors import ConfigurationError
from sluice.domain.ids import new_id
from sluice.domain.jobs import SERVER_ERROR, Failure
from sluice.domain.ports import WorkflowEngine
from sluice.domain.workflows import EngineStatus, Execution, ExecutionStatus
from sluice.testing.workflows import FakeEngine
from tests.contract.state.conftest import Aws

RUNNING = EngineStatus(status=ExecutionStatus.RUNNING)
ABORTED = EngineStatus(
    status=ExecutionStatus.FAILED,
    failure=Failure(code="execution_aborted", message="The execution was stopped.", type=SERVER_ERROR),
)


@dataclass
class Both:
    """An engine and its operator's stop button."""

    engine: WorkflowEngine
    abort: Callable[[str], None]


@pytest.fixture(scope="module")
def machine(aws: Aws) -> str:
    return aws.state_machine()


@pytest.fixture(params=["fake", "real"])
def both(request: pytest.FixtureRequest) -> Both:
    if request.param == "fake":
        fake = FakeEngine()
        return Both(fake, lambda execution_id: fake.statuses.__setitem__(execution_id, ABORTED))
    aws: Aws = request.getfixturevalue("aws")
    machine: str = request.getfixturevalue("machine")
    states = aws.client("stepfunctions")
    return Both(
        StepFunctions(states, machine),
        lambda execution_id: states.stop_execution(executionArn=execution_arn(machine, execution_id)),
    )


def execution_arn(machine: str, execution_id: str) -> str:
    return f"{machine.replace(':stateMachine:', ':execution:')}:{execution_id}"


def new_execution(step_count: int = 2) -> Execution:
    return Execution(
        id=new_id("exec"),
        key_id="key_1",
        workflow="chain",
        status=ExecutionStatus.RUNNING,
        step_count=step_count,
        created_at=0,
        expires_at=0,
        input_key="key",
    )


def test_a_started_execution_runs(both: Both) -> None:
    execution = new_execution()
    both.engine.start(execution)
    assert both.engine.status(execution.id) == RUNNING


def test_an_unknown_execution_is_none(both: Both) -> None:
    assert both.engine.status(new_id("exec")) is None


def test_a_second_start_changes_nothing(both: Both) -> None:
    execution = new_execution()
    both.engine.start(execution)
    both.engine.start(execution)
    # Other input under the same name is what Step Functions itself refuses.
    both.engine.start(msgspec.structs.replace(execution, step_count=3))
    assert both.engine.status(execution.id) == RUNNING


def test_a_stopped_execution_has_failed(both: Both) -> None:
    execution = new_execution()
    both.engine.start(execution)
    both.abort(execution.id)
    assert both.engine.status(execution.id) == ABORTED


def test_an_execution_that_is_through_has_succeeded(aws: Aws, machine: str) -> None:
    execution = new_execution(step_count=1)
    engine = StepFunctions(aws.client("stepfunctions"), machine)
    engine.start(execution)
    deadline = time.monotonic() + 10
    while engine.status(execution.id) == RUNNING and time.monotonic() < deadline:
        time.sleep(0.1)
    assert engine.status(execution.id) == EngineStatus(status=ExecutionStatus.SUCCEEDED)


def test_the_machine_is_told_names_and_numbers_only(aws: Aws, machine: str) -> None:
    execution = new_execution()
    states = aws.client("stepfunctions")
    StepFunctions(states, machine).start(execution)
    told = states.describe_execution(executionArn=execution_arn(machine, execution.id))["input"]
    assert json.loads(told) == {"execution_id": execution.id, "key_id": "key_1", "step_count": 2, "index": 0}


def test_a_machine_that_is_not_there_needs_an_operator(aws: Aws, machine: str) -> None:
    with pytest.raises(ConfigurationError):
        StepFunctions(aws.client("stepfunctions"), machine + "-gone").start(new_execution())
