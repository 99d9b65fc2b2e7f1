"""How a workflow execution stands."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from sluice.domain.errors import NotFoundError, StateError
from sluice.domain.ids import is_id
from sluice.domain.inference import Caller
from sluice.domain.ports import ExecutionStore, ObjectStore, WorkflowEngine
from sluice.domain.workflows import (
    EXECUTION_PREFIX,
    NOT_STARTED,
    EngineStatus,
    Execution,
    ExecutionStatus,
    ExecutionView,
    StepAnswer,
    StepRecord,
    StepStatus,
    StepView,
)

# Between storing an execution and starting it the engine does not know it yet.
START_GRACE_S: Final = 60
_decoder = msgspec.json.Decoder(StepAnswer)
_Found = tuple[Execution, tuple[StepRecord, ...]]


@dataclass(frozen=True)
class ReadWorkflow:
    """Reads one execution, its steps and their answers."""

    executions: ExecutionStore
    objects: ObjectStore
    engine: WorkflowEngine
    clock: Callable[[], float] = time.time

    def read(self, execution_id: str, caller: Caller) -> ExecutionView:
        """The caller's own execution. :raises NotFoundError: unknown, expired or another key's; all look the same."""
        execution, steps = self._as_it_is(self._find(execution_id, caller), caller)
        return ExecutionView(execution=execution, steps=tuple(self._view(execution, steps, step) for step in steps))

    def _find(self, execution_id: str, caller: Caller) -> _Found:
        found = self.executions.get(execution_id) if is_id(EXECUTION_PREFIX, execution_id) else None
        if found is None or found[0].key_id != caller.key_id or found[0].expires_at <= self.clock():
            raise NotFoundError("There is no such workflow execution.", param="id")
        return found

    def _as_it_is(self, found: _Found, caller: Caller) -> _Found:
        """What is recorded. An end that could not record itself is recorded first, so that it is announced too."""
        execution, steps = found
        if execution.status is not ExecutionStatus.RUNNING:
            return found
        now = int(self.clock())
        engine = self.engine.status(execution.id)
        if engine is None and now - execution.created_at >= START_GRACE_S:
            engine = EngineStatus(status=ExecutionStatus.FAILED, failure=NOT_STARTED)
        if engine is None or engine.status is ExecutionStatus.RUNNING:
            return _running(execution, steps)
        # Its last step may have been recorded since the first read, and so may its end, which nothing replaces.
        execution, steps = self._find(execution.id, caller)
        self.executions.finish(execution.ended(engine.status, now=now, steps=steps, error=engine.failure))
        return self._find(execution.id, caller)

    def _view(self, execution: Execution, steps: tuple[StepRecord, ...], step: StepRecord) -> StepView:
        if step.status is StepStatus.SUCCEEDED:
            return StepView(record=step, status="succeeded", output=self._output(step))
        first_open = next(record.index for record in steps if record.status is not StepStatus.SUCCEEDED)
        if step.index != first_open:
            waiting = execution.status is ExecutionStatus.RUNNING
            return StepView(record=step, status="pending" if waiting else "skipped")
        if execution.status is ExecutionStatus.RUNNING:
            # Its error, if it has one, is that of an attempt which is being repeated.
            return StepView(record=msgspec.structs.replace(step, error=None), status="running")
        return StepView(record=msgspec.structs.replace(step, error=step.error or execution.error), status="failed")

    def _output(self, step: StepRecord) -> str:
        try:
            return _decoder.decode(self.objects.get(step.output_key or "")).text
        except (NotFoundError, msgspec.DecodeError) as exc:
            raise StateError("A stored answer cannot be read.", code="answer_unreadable") from exc


def _running(execution: Execution, steps: tuple[StepRecord, ...]) -> _Found:
    totals = execution.ended(ExecutionStatus.RUNNING, now=0, steps=steps)
    return msgspec.structs.replace(totals, completed_at=None), steps
