"""Workflow executions in memory: their store, and an engine that only remembers what it was told."""

from collections.abc import Sequence

from sluice.domain.errors import SluiceError, StateConflictError
from sluice.domain.workflows import EngineStatus, Execution, ExecutionStatus, StepRecord, StepStatus


class FakeExecutions:
    """Implements :class:`~sluice.domain.ports.ExecutionStore`. ``failing`` maps a method's name to what it raises."""

    def __init__(self) -> None:
        self.executions: dict[str, Execution] = {}
        self.steps: dict[str, dict[int, StepRecord]] = {}
        self.failing: dict[str, SluiceError] = {}

    def create(self, execution: Execution, steps: Sequence[StepRecord]) -> None:
        self._fail("create")
        plan = {step.index: step for step in steps}
        if self.executions.setdefault(execution.id, execution) != execution:
            raise StateConflictError("The execution exists already.")
        if self.steps.setdefault(execution.id, plan) != plan:
            raise StateConflictError("The execution exists already.")

    def get(self, execution_id: str) -> tuple[Execution, tuple[StepRecord, ...]] | None:
        self._fail("get")
        execution = self.executions.get(execution_id)
        if execution is None:
            return None
        return execution, tuple(step for _, step in sorted(self.steps[execution_id].items()))

    def record_step(self, execution: Execution, step: StepRecord) -> None:
        self._fail("record_step")
        steps = self.steps.setdefault(execution.id, {})
        stored = steps.get(step.index)
        if stored is not None and stored.status is StepStatus.SUCCEEDED:
            raise StateConflictError("The step has succeeded already.")
        steps[step.index] = step

    def finish(self, execution: Execution) -> None:
        self._fail("finish")
        stored = self.executions.get(execution.id)
        if stored is not None and stored.status is ExecutionStatus.RUNNING:
            self.executions[execution.id] = execution

    def _fail(self, method: str) -> None:
        if error := self.failing.get(method):
            raise error


class FakeEngine:
    """Implements :class:`~sluice.domain.ports.WorkflowEngine`; tests set ``statuses`` to say how executions went on."""

    def __init__(self) -> None:
        self.statuses: dict[str, EngineStatus] = {}
        self.failing: SluiceError | None = None

    def start(self, execution: Execution) -> None:
        self._fail()
        self.statuses.setdefault(execution.id, EngineStatus(status=ExecutionStatus.RUNNING))

    def status(self, execution_id: str) -> EngineStatus | None:
        self._fail()
        return self.statuses.get(execution_id)

    def _fail(self) -> None:
        if self.failing is not None:
            raise self.failing
