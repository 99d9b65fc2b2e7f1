"""Run one step of a chain, exactly once as far as anybody can tell."""

import random
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import msgspec

from sluice.domain.deadline import Deadline
from sluice.domain.errors import (
    ConfigurationError,
    LimitError,
    NotFoundError,
    SluiceError,
    StateConflictError,
    StateError,
)
from sluice.domain.inference import ChatRequest, Message, Mode
from sluice.domain.jobs import SERVER_ERROR, Failure
from sluice.domain.patience import passes, wait_s
from sluice.domain.ports import ExecutionStore, ObjectStore
from sluice.domain.workflows import (
    ChainDefinition,
    ChainState,
    ChainStep,
    Execution,
    ExecutionStatus,
    StepAnswer,
    StepError,
    StepRecord,
    StepStatus,
    execution_folder,
)
from sluice.services.infer import ChatOutcome, Inference
from sluice.services.key_holders import KeyHolders
from sluice.telemetry import logs

_log = logs.get_logger()
_definition_decoder = msgspec.json.Decoder(ChainDefinition)
_answer_decoder = msgspec.json.Decoder(StepAnswer)


@dataclass(frozen=True)
class RunWorkflowStep:
    """Runs the step that a state points to, unless it has been run.

    What should be tried again is raised, and Step Functions tries again; what is final is returned as data. So is the
    time to wait where the key's limits have no room now: that is no failure, and may take longer than retries do.
    """

    inference: Inference
    holders: KeyHolders
    objects: ObjectStore
    executions: ExecutionStore
    clock: Callable[[], float] = time.time
    jitter: Callable[[float, float], float] = random.uniform

    def run(self, state: ChainState, deadline: Deadline) -> ChainState:
        """The state after the step: ``continue`` or ``done``, ``wait``, or ``failed`` with the reason.

        :raises SluiceError: the step did not succeed and may be tried again.
        """
        execution, steps = self._load(state)
        record = steps[state.index]
        if record.status is not StepStatus.PENDING:
            return _next_state(state, record)
        try:
            record = self._attempt(execution, steps, record, deadline)
        except LimitError as error:
            seconds = wait_s(error, waits=state.waits, jitter=self.jitter)
            if seconds is None:
                raise
            return msgspec.structs.replace(state, outcome="wait", wait_seconds=seconds, waits=state.waits + 1)
        return _next_state(state, record)

    def _load(self, state: ChainState) -> tuple[Execution, tuple[StepRecord, ...]]:
        found = self.executions.get(state.execution_id)
        if found is None or len(found[1]) != state.step_count or not 0 <= state.index < state.step_count:
            raise StateError("The execution cannot be read.", code="execution_unreadable")
        return found

    def _attempt(
        self, execution: Execution, steps: tuple[StepRecord, ...], pending: StepRecord, deadline: Deadline
    ) -> StepRecord:
        if execution.status is not ExecutionStatus.RUNNING:
            # Started again by hand after the end was recorded: nothing that runs now could still be shown.
            failure = execution.error or Failure(
                code="execution_ended", message="The execution has ended already.", type=SERVER_ERROR
            )
            return msgspec.structs.replace(pending, status=StepStatus.FAILED, error=failure)
        try:
            record = self._answer(execution, steps, pending, deadline)
        except StateConflictError:
            # A slower run of the same step was given up and finished after all; its answer stands.
            return self._load_winner(execution, pending)
        except Exception as exc:  # noqa: BLE001  (raised again, once the step says why)
            return self._attempt_failed(execution, pending, exc)
        return record

    def _answer(
        self, execution: Execution, steps: tuple[StepRecord, ...], pending: StepRecord, deadline: Deadline
    ) -> StepRecord:
        index = pending.index
        outcome = self.inference.chat(
            self._request(execution, steps, index),
            self.holders.caller(execution.key_id, f"{execution.id}-{index:03d}"),
            mode=Mode.WORKFLOW,
            deadline=deadline,
        )
        record = msgspec.structs.replace(
            pending,
            status=StepStatus.SUCCEEDED,
            target=outcome.target.name,
            output_key=self._store(execution, index, outcome),
            completed_at=int(self.clock()),
            usage=outcome.result.usage,
            cost_micro_usd=outcome.report.cost_micro_usd,
            error=None,
        )
        self.executions.record_step(execution, record)
        return record

    def _request(self, execution: Execution, steps: tuple[StepRecord, ...], index: int) -> ChatRequest:
        try:
            definition = _definition_decoder.decode(self.objects.get(execution.input_key))
            previous = self._previous_answer(steps, index)
        except (NotFoundError, msgspec.DecodeError) as exc:
            raise StateError("The stored definition cannot be read.", code="definition_unreadable") from exc
        return _chat_request(definition.steps[index], chain_input=definition.input, previous=previous)

    def _previous_answer(self, steps: tuple[StepRecord, ...], index: int) -> str | None:
        if index == 0:
            return None
        key = steps[index - 1].output_key
        if key is None:
            raise NotFoundError("The step before has no answer.")
        return _answer_decoder.decode(self.objects.get(key)).text

    def _store(self, execution: Execution, index: int, outcome: ChatOutcome) -> str:
        # A name of its own for every attempt: one that was given up cannot replace what a later step has read.
        folder = execution_folder(execution.key_id, execution.id)
        key = f"{folder}/steps/{index:03d}/{secrets.token_hex(4)}.json"
        answer = StepAnswer(text=outcome.result.said, finish_reason=outcome.result.finish_reason)
        self.objects.put(key, msgspec.json.encode(answer))
        return key

    def _load_winner(self, execution: Execution, pending: StepRecord) -> StepRecord:
        found = self.executions.get(execution.id)
        if found is None or found[1][pending.index].status is StepStatus.PENDING:
            raise StateError("The step's record cannot be read.", code="execution_unreadable")
        return found[1][pending.index]

    def _attempt_failed(self, execution: Execution, pending: StepRecord, error: Exception) -> StepRecord:
        """The failed record, when repeating is useless; raises otherwise."""
        failure = Failure.of(error, step=pending.index)
        permanent = isinstance(error, SluiceError) and not _may_pass(error)
        status = StepStatus.FAILED if permanent else StepStatus.PENDING
        now = int(self.clock())
        record = msgspec.structs.replace(pending, status=status, error=failure, completed_at=now if permanent else None)
        _log.warning("workflow.step_failed", execution_id=execution.id, step=pending.index, **logs.describe(error))
        try:
            # Also when it will be tried again: this is where the final reason is read if no attempt succeeds.
            self.executions.record_step(execution, record)
        except StateConflictError:
            return self._load_winner(execution, pending)
        except (StateError, ConfigurationError) as exc:
            _log.error("workflow.step_not_recorded", execution_id=execution.id, **logs.describe(exc))
        if not permanent:
            raise error
        return record


def _may_pass(error: SluiceError) -> bool:
    return passes(error) if isinstance(error, LimitError) else error.retryable


def _chat_request(step: ChainStep, *, chain_input: str, previous: str | None) -> ChatRequest:
    prompt = Message("user", step.render(chain_input=chain_input, previous=previous))
    messages = (prompt,) if step.system is None else (Message("system", step.system), prompt)
    return ChatRequest(model=step.model, messages=messages, max_tokens=step.max_tokens, temperature=step.temperature)


def _next_state(state: ChainState, record: StepRecord) -> ChainState:
    if record.status is StepStatus.FAILED and record.error is not None:
        failure = record.error
        error = StepError(code=failure.code, message=failure.message, type=failure.type, step=record.index)
        return msgspec.structs.replace(state, outcome="failed", error=error)
    following = state.index + 1
    outcome: Literal["done", "continue"] = "done" if following >= state.step_count else "continue"
    return msgspec.structs.replace(state, index=following, outcome=outcome, wait_seconds=None, waits=0)
