"""Workflow executions in Step Functions. An execution has the same name there as everywhere else: its id."""

from typing import TYPE_CHECKING, Final

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from sluice.adapters import aws
from sluice.domain.errors import SluiceError
from sluice.domain.workflows import ENGINE_FAILURES, ChainState, EngineStatus, Execution, ExecutionStatus

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

_RUNNING: Final = frozenset({"RUNNING", "PENDING_REDRIVE"})


class StepFunctions:
    """Implements :class:`~sluice.domain.ports.WorkflowEngine`."""

    def __init__(self, client: "SFNClient", state_machine_arn: str) -> None:
        self._client = client
        self._state_machine_arn = state_machine_arn

    def start(self, execution: Execution) -> None:
        state = ChainState(execution_id=execution.id, key_id=execution.key_id, step_count=execution.step_count, index=0)
        try:
            self._client.start_execution(
                stateMachineArn=self._state_machine_arn,
                name=execution.id,
                input=msgspec.json.encode(state).decode(),
            )
        except (ClientError, BotoCoreError) as exc:
            if aws.code_of(exc) != "ExecutionAlreadyExists":
                raise _translate(exc) from exc

    def status(self, execution_id: str) -> EngineStatus | None:
        try:
            status = self._client.describe_execution(executionArn=self._execution_arn(execution_id))["status"]
        except (ClientError, BotoCoreError) as exc:
            if aws.code_of(exc) == "ExecutionDoesNotExist":
                return None
            raise _translate(exc) from exc
        if status in _RUNNING:
            return EngineStatus(status=ExecutionStatus.RUNNING)
        if status == "SUCCEEDED":
            return EngineStatus(status=ExecutionStatus.SUCCEEDED)
        return EngineStatus(
            status=ExecutionStatus.FAILED, failure=ENGINE_FAILURES.get(status, ENGINE_FAILURES["FAILED"])
        )

    def _execution_arn(self, execution_id: str) -> str:
        return f"{self._state_machine_arn.replace(':stateMachine:', ':execution:', 1)}:{execution_id}"


def _translate(error: ClientError | BotoCoreError) -> SluiceError:
    return aws.translate(error, "The workflow engine")
