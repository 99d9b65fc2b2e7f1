"""Start a workflow execution."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from sluice.domain.errors import ConfigurationError, NotFoundError, StateError
from sluice.domain.ids import new_id
from sluice.domain.inference import Caller, Operation
from sluice.domain.jobs import Failure
from sluice.domain.ports import ExecutionStore, ObjectStore, RouteSource, WorkflowEngine
from sluice.domain.workflows import (
    CHAIN,
    EXECUTION_PREFIX,
    ChainDefinition,
    Execution,
    ExecutionStatus,
    StepRecord,
    StepStatus,
    execution_folder,
)
from sluice.telemetry import logs

SECONDS_PER_DAY = 86_400
_log = logs.get_logger()


@dataclass(frozen=True)
class StartWorkflow:
    """Stores the definition, then the execution, then starts it. ``result_ttl_days``: how long all of it is kept."""

    routes: RouteSource
    objects: ObjectStore
    executions: ExecutionStore
    engine: WorkflowEngine
    result_ttl_days: int
    clock: Callable[[], float] = time.time

    def start(
        self, workflow: str, definition: ChainDefinition, caller: Caller
    ) -> tuple[Execution, tuple[StepRecord, ...]]:
        """The running execution and its steps.

        :raises NotFoundError: no such workflow, or a step's model does not exist.
        :raises PermissionDeniedError, InvalidRequestError: a step's model cannot be used.
        :raises StateError: it could not be stored or started; the execution, if stored, is marked as failed.
        """
        if workflow != CHAIN:
            raise NotFoundError(f"There is no workflow '{workflow}'. There is: {CHAIN}.", code="workflow_not_found")
        routes = self.routes.load()
        for model in dict.fromkeys(step.model for step in definition.steps):
            routes.resolve(model, Operation.CHAT, caller.allowed_models)
        execution = self._new_execution(workflow, definition, caller)
        steps = tuple(
            StepRecord(index=index, name=step.name, model=step.model, status=StepStatus.PENDING)
            for index, step in enumerate(definition.steps)
        )
        self.objects.put(execution.input_key, msgspec.json.encode(definition))
        self.executions.create(execution, steps)
        try:
            self.engine.start(execution)
        except (StateError, ConfigurationError) as exc:
            self._give_up(execution, exc)
            raise
        return execution, steps

    def _new_execution(self, workflow: str, definition: ChainDefinition, caller: Caller) -> Execution:
        now = int(self.clock())
        execution_id = new_id(EXECUTION_PREFIX)
        return Execution(
            id=execution_id,
            key_id=caller.key_id,
            workflow=workflow,
            status=ExecutionStatus.RUNNING,
            step_count=len(definition.steps),
            created_at=now,
            expires_at=now + self.result_ttl_days * SECONDS_PER_DAY,
            input_key=f"{execution_folder(caller.key_id, execution_id)}/input.json",
            allowed_models=caller.allowed_models,
        )

    def _give_up(self, execution: Execution, error: StateError | ConfigurationError) -> None:
        now = int(self.clock())
        try:
            self.executions.finish(execution.ended(ExecutionStatus.FAILED, now=now, steps=(), error=Failure.of(error)))
        except (StateError, ConfigurationError) as exc:
            _log.error("workflow.not_marked_failed", execution_id=execution.id, **logs.describe(exc))
