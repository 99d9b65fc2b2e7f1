"""Workflow executions: durable chains of model calls."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from enum import StrEnum
from typing import Final, Literal, Self

import msgspec

from sluice.domain.inference import FinishReason, Usage
from sluice.domain.jobs import SERVER_ERROR, Failure

PREVIOUS: Final = "{{previous}}"
INPUT: Final = "{{input}}"
MAX_CHAIN_STEPS: Final = 20
CHAIN: Final = "chain"
EXECUTION_PREFIX: Final = "exec"


class ExecutionStatus(StrEnum):
    """running → succeeded | failed."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class StepStatus(StrEnum):
    """pending → succeeded | failed; a pending step with an error is one that will be tried again."""

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class ChainStep(msgspec.Struct, frozen=True, kw_only=True):
    """One prompt of a chain."""

    prompt: str
    model: str
    name: str | None = None
    system: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None

    def render(self, *, chain_input: str, previous: str | None) -> str:
        """The prompt with ``{{input}}`` and ``{{previous}}`` filled in.

        A later step that does not say where the previous answer goes gets it below the prompt, so that no step
        silently ignores the one before.
        """
        text = self.prompt
        if previous is not None and PREVIOUS not in text:
            text = f"{text}\n\n{PREVIOUS}"
        # One pass over the template: a placeholder inside an answer must stay text.
        before, *rest = text.split(PREVIOUS)
        fill = previous or ""
        return fill.join(part.replace(INPUT, chain_input) for part in (before, *rest))


class ChainDefinition(msgspec.Struct, frozen=True, kw_only=True):
    """What an execution runs; kept in S3, so that prompts never enter the state machine's history."""

    steps: tuple[ChainStep, ...]
    input: str = ""


class StepAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A step's answer as it is kept in the bucket."""

    text: str
    finish_reason: FinishReason


class StepRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one step. ``output_key`` is the S3 key of its answer; times are epoch seconds."""

    index: int
    model: str
    status: StepStatus
    name: str | None = None
    target: str | None = None
    output_key: str | None = None
    completed_at: int | None = None
    usage: Usage | None = None
    cost_micro_usd: Decimal | None = None
    error: Failure | None = None


class Execution(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a workflow. Times are epoch seconds. ``usage`` and ``cost_micro_usd`` are the totals of its steps."""

    id: str
    key_id: str
    workflow: str
    status: ExecutionStatus
    step_count: int
    created_at: int
    expires_at: int
    input_key: str
    allowed_models: tuple[str, ...] | None = None
    completed_at: int | None = None
    usage: Usage | None = None
    cost_micro_usd: Decimal | None = None
    error: Failure | None = None

    def ended(
        self, status: ExecutionStatus, *, now: int, steps: Iterable[StepRecord], error: Failure | None = None
    ) -> Self:
        """This execution with a terminal status and the totals of ``steps``."""
        done = [step for step in steps if step.status is StepStatus.SUCCEEDED]
        return msgspec.structs.replace(
            self,
            status=status,
            completed_at=now,
            usage=total_usage(step.usage for step in done),
            cost_micro_usd=total_cost(step.cost_micro_usd for step in done),
            error=error,
        )


class StepView(msgspec.Struct, frozen=True, kw_only=True):
    """A step as its caller sees it now. ``output`` is set exactly when it succeeded."""

    record: StepRecord
    status: Literal["pending", "running", "succeeded", "failed", "skipped"]
    output: str | None = None


class ExecutionView(msgspec.Struct, frozen=True, kw_only=True):
    """An execution as its caller sees it now, with the totals so far."""

    execution: Execution
    steps: tuple[StepView, ...]


def execution_folder(key_id: str, execution_id: str) -> str:
    """The S3 prefix of an execution, without a final slash."""
    return f"workflows/{key_id}/{execution_id}"


def total_usage(usages: Iterable[Usage | None]) -> Usage:
    """The sum of what is known."""
    known = [usage for usage in usages if usage is not None]
    return Usage(
        input_tokens=sum(usage.input_tokens for usage in known),
        output_tokens=sum(usage.output_tokens for usage in known),
        cache_read_tokens=sum(usage.cache_read_tokens for usage in known),
        cache_write_tokens=sum(usage.cache_write_tokens for usage in known),
    )


def total_cost(costs: Iterable[Decimal | None]) -> Decimal | None:
    """The sum in micro-dollars; ``None`` as soon as one of them is unknown (unknown is never zero)."""
    total = Decimal(0)
    for cost in costs:
        if cost is None:
            return None
        total += cost
    return total


class EndedExecution(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine tells of an execution that ended without success."""

    execution_id: str
    failure: Failure


class StepError(msgspec.Struct, frozen=True, kw_only=True):
    """Why a step failed for good, as it travels through the state machine."""

    code: str
    message: str
    type: str
    step: int


class CaughtError(msgspec.Struct, frozen=True, kw_only=True):
    """What Step Functions' ``Catch`` adds: an error name, and for a Lambda task a JSON document as its cause."""

    error: str = msgspec.field(name="Error", default="")
    cause: str = msgspec.field(name="Cause", default="")


class ChainState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What travels through the state machine of a chain: names and numbers, never a prompt or an answer.

    ``index`` is the step to run next. ``outcome`` is what became of the last one; ``failure`` is what a ``Catch`` saw.
    ``wait_seconds`` belongs to the outcome ``wait``; ``waits`` counts how often the step has had to.
    """

    execution_id: str
    key_id: str
    step_count: int
    index: int
    outcome: Literal["continue", "done", "failed", "wait"] | None = None
    error: StepError | None = None
    failure: CaughtError | None = None
    wait_seconds: int | None = None
    waits: int = 0


STEP_TIMED_OUT: Final = Failure(
    code="step_timed_out", message="The step did not finish within the time allowed for it.", type=SERVER_ERROR
)
STEP_BROKE: Final = Failure(
    code="step_failed", message="The step failed for an internal reason, also when it was repeated.", type=SERVER_ERROR
)
NOT_STARTED: Final = Failure(
    code="execution_not_started", message="The execution could not be started.", type=SERVER_ERROR
)

# Why an execution ended, by the status that the engine gives it, where that is all there is to go by.
# https://docs.aws.amazon.com/step-functions/latest/apireference/API_DescribeExecution.html
ENGINE_FAILURES: Final[Mapping[str, Failure]] = {
    "ABORTED": Failure(code="execution_aborted", message="The execution was stopped.", type=SERVER_ERROR),
    "TIMED_OUT": Failure(
        code="execution_timed_out",
        message="The execution did not finish within the time allowed for it.",
        type=SERVER_ERROR,
    ),
    "FAILED": Failure(
        code="execution_failed", message="The execution failed for an internal reason.", type=SERVER_ERROR
    ),
}


class EngineStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How the engine sees an execution; ``failure`` is set exactly when it failed."""

    status: ExecutionStatus
    failure: Failure | None = None
