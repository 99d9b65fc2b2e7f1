"""What an execution store does, in memory and in DynamoDB."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from sluice.adapters.dynamodb import Table
from sluice.adapters.dynamodb_executions import DynamoDBExecutions
from sluice.domain.errors import StateConflictError
from sluice.domain.ids import new_id
from sluice.domain.inference import Usage
from sluice.domain.jobs import Failure
from sluice.domain.ports import ExecutionStore
from sluice.domain.workflows import Execution, ExecutionStatus, StepRecord, StepStatus
from sluice.testing.workflows import FakeExecutions
from tests.contract.state.conftest import Aws, repeating

NOW = 1_700_000_000
WHY = Failure(code="provider_timeout", message="It took too long.", type="server_error", step=1)
STEPS = tuple(StepRecord(index=i, name=f"step {i}", model="auto", status=StepStatus.PENDING) for i in range(20))


@pytest.fixture(scope="module")
def table(aws: Aws) -> Table:
    return aws.table()[0]


@pytest.fixture(scope="module")
def real(table: Table) -> ExecutionStore:
    return DynamoDBExecutions(table)


@pytest.fixture(params=["fake", "real"])
def executions(request: pytest.FixtureRequest) -> ExecutionStore:
    store: ExecutionStore = FakeExecutions() if request.param == "fake" else request.getfixturevalue("real")
    return store


def new_execution(executions: ExecutionStore) -> Execution:
    execution_id = new_id("exec")
    execution = Execution(
        id=execution_id,
        key_id="key_1",
        workflow="chain",
        status=ExecutionStatus.RUNNING,
        step_count=len(STEPS),
        created_at=NOW,
        expires_at=NOW + 86_400,
        input_key=f"workflows/key_1/{execution_id}/input.json",
        allowed_models=("auto",),
    )
    executions.create(execution, STEPS)
    return execution


def succeeded(index: int) -> StepRecord:
    return msgspec.structs.replace(
        STEPS[index],
        status=StepStatus.SUCCEEDED,
        target="bedrock/small",
        output_key=f"steps/{index}",
        completed_at=NOW + index,
        usage=Usage(input_tokens=5, output_tokens=2),
        cost_micro_usd=Decimal("0.75"),
    )


def test_a_created_execution_is_read_as_it_was(executions: ExecutionStore) -> None:
    execution = new_execution(executions)
    assert executions.get(execution.id) == (execution, STEPS)


def test_an_unknown_execution_is_none(executions: ExecutionStore) -> None:
    assert executions.get(new_id("exec")) is None


def test_the_very_same_execution_may_be_stored_again_and_no_other(executions: ExecutionStore) -> None:
    execution = new_execution(executions)
    executions.create(execution, STEPS)
    with pytest.raises(StateConflictError):
        executions.create(msgspec.structs.replace(execution, key_id="key_2"), STEPS)
    with pytest.raises(StateConflictError):
        executions.create(execution, (*STEPS[:-1], msgspec.structs.replace(STEPS[-1], model="fast")))
    assert executions.get(execution.id) == (execution, STEPS)


def test_an_execution_whose_answer_is_lost_is_stored_once(table: Table) -> None:
    executions = DynamoDBExecutions(repeating(table))
    execution = new_execution(executions)
    assert executions.get(execution.id) == (execution, STEPS)


def test_recorded_steps_replace_what_was_known_and_stay_in_order(executions: ExecutionStore) -> None:
    execution = new_execution(executions)
    for index in (11, 2, 0):
        executions.record_step(execution, succeeded(index))
    found = executions.get(execution.id)
    assert found is not None
    assert found[1] == tuple(succeeded(i) if i in (0, 2, 11) else STEPS[i] for i in range(20))


def test_a_failed_attempt_is_replaced_by_a_later_success(executions: ExecutionStore) -> None:
    execution = new_execution(executions)
    executions.record_step(execution, msgspec.structs.replace(STEPS[1], error=WHY))
    executions.record_step(execution, succeeded(1))
    found = executions.get(execution.id)
    assert found is not None
    assert found[1][1] == succeeded(1)


def test_nothing_replaces_a_success(executions: ExecutionStore) -> None:
    execution = new_execution(executions)
    executions.record_step(execution, succeeded(1))
    failed = msgspec.structs.replace(STEPS[1], status=StepStatus.FAILED, error=WHY)
    for late in (failed, msgspec.structs.replace(succeeded(1), output_key="another")):
        with pytest.raises(StateConflictError):
            executions.record_step(execution, late)
    found = executions.get(execution.id)
    assert found is not None
    assert found[1][1] == succeeded(1)


@pytest.mark.parametrize("status", [ExecutionStatus.SUCCEEDED, ExecutionStatus.FAILED])
def test_the_first_end_stands(executions: ExecutionStore, status: ExecutionStatus) -> None:
    execution = new_execution(executions)
    error = WHY if status is ExecutionStatus.FAILED else None
    ended = execution.ended(status, now=NOW + 9, steps=[succeeded(0), succeeded(1)], error=error)
    executions.finish(ended)
    executions.finish(ended)
    executions.finish(execution.ended(ExecutionStatus.FAILED, now=NOW + 99, steps=[], error=WHY))
    found = executions.get(execution.id)
    assert found is not None
    assert found[0] == ended
    assert ended.cost_micro_usd == Decimal("1.5")


def test_ending_what_is_gone_changes_nothing(executions: ExecutionStore) -> None:
    execution = msgspec.structs.replace(new_execution(executions), id=new_id("exec"))
    executions.finish(execution.ended(ExecutionStatus.FAILED, now=NOW, steps=[], error=WHY))
    assert executions.get(execution.id) is None
