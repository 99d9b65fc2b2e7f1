"""Record how a workflow execution ended."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from sluice.domain.errors import StateError
from sluice.domain.jobs import Failure
from sluice.domain.ports import ExecutionStore
from sluice.domain.workflows import (
    STEP_BROKE,
    STEP_TIMED_OUT,
    CaughtError,
    ChainState,
    EndedExecution,
    Execution,
    ExecutionStatus,
    StepRecord,
    StepStatus,
)
from sluice.telemetry import logs

_TIMEOUT_NAMES: Final = frozenset({"States.Timeout", "States.HeartbeatTimeout", "Sandbox.Timedout"})
_log = logs.get_logger()


class _LambdaCause(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a failed Lambda task's cause that says which kind of failure it was."""

    error_type: str = msgspec.field(name="errorType", default="")
    error_message: str = msgspec.field(name="errorMessage", default="")


@dataclass(frozen=True)
class FinishWorkflow:
    """Writes the terminal status with the totals of the steps, once."""

    executions: ExecutionStore
    clock: Callable[[], float] = time.time

    def finish(self, state: ChainState) -> ExecutionStatus:
        """The status that is recorded now; a repeat changes nothing and says what was recorded first.

        :raises StateError: it could not be read or written; to be tried again.
        """
        found = self.executions.get(state.execution_id)
        if found is None:
            raise StateError("The execution cannot be read.", code="execution_unreadable")
        execution, steps = found
        if execution.status is not ExecutionStatus.RUNNING:
            return execution.status
        succeeded = state.outcome == "done" and state.failure is None
        status = ExecutionStatus.SUCCEEDED if succeeded else ExecutionStatus.FAILED
        error = None if succeeded else _reason(state, steps)
        self.executions.finish(execution.ended(status, now=self._now(execution), steps=steps, error=error))
        return status

    def close(self, ended: EndedExecution) -> ExecutionStatus | None:
        """Record an end that the state machine could not: it was stopped or timed out, or recording it kept failing.

        The status that is recorded now, as by :meth:`finish`. ``None``: nobody knows this execution, or not any more.
        """
        found = self.executions.get(ended.execution_id)
        if found is None:
            return None
        execution, steps = found
        if execution.status is not ExecutionStatus.RUNNING:
            return execution.status
        status = ExecutionStatus.FAILED
        end = execution.ended(status, now=self._now(execution), steps=steps, error=ended.failure)
        self.executions.finish(end)
        return status

    def _now(self, execution: Execution) -> int:
        return max(int(self.clock()), execution.created_at)


def _reason(state: ChainState, steps: tuple[StepRecord, ...]) -> Failure:
    """Why it failed: what the step returned, else what it recorded before it raised, else what kind was caught."""
    if state.error is not None:
        error = state.error
        return Failure(code=error.code, message=error.message, type=error.type, step=error.step)
    step = min(state.index, len(steps) - 1)
    recorded = next((record.error for record in steps if record.index == step), None)
    if recorded is not None and steps[step].status is not StepStatus.SUCCEEDED:
        return msgspec.structs.replace(recorded, step=step)
    # What a runtime puts into the cause (messages, stack traces) is for the log, not for the caller.
    failure = state.failure or CaughtError()
    _log.error("workflow.unexplained_failure", execution_id=state.execution_id, error=failure.error)
    return msgspec.structs.replace(STEP_TIMED_OUT if _timed_out(failure) else STEP_BROKE, step=step)


def _timed_out(failure: CaughtError) -> bool:
    try:
        cause = msgspec.json.decode(failure.cause, type=_LambdaCause)
    except msgspec.DecodeError:
        cause = _LambdaCause()
    # Lambda reports its own timeout with a class name of the runtime's and this text, which has no other mark.
    return bool(_TIMEOUT_NAMES & {failure.error, cause.error_type}) or "Task timed out after" in cause.error_message
