"""Workflow executions over HTTP."""

from collections.abc import Sequence
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from sluice.domain.workflows import (
    MAX_CHAIN_STEPS,
    ChainDefinition,
    ChainStep,
    Execution,
    ExecutionStatus,
    ExecutionView,
    StepRecord,
    StepView,
)
from sluice.wire.chat import CompletionUsage, ModelName, Tokens
from sluice.wire.failures import WorkError
from sluice.wire.money import usd
from sluice.wire.parsing import parse

StepName = Annotated[str, Meta(min_length=1, max_length=64)]
DEFAULT_MODEL: Final = "auto"


class ChainStepRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One prompt. ``{{input}}`` stands for the chain's input, ``{{previous}}`` for the answer of the step before."""

    prompt: Annotated[str, Meta(min_length=1)]
    name: StepName | None = None
    model: ModelName = DEFAULT_MODEL
    system: Annotated[str, Meta(min_length=1)] | None = None
    max_tokens: Tokens | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None

    def to_domain(self) -> ChainStep:
        """The step, free of the wire format."""
        return ChainStep(
            prompt=self.prompt,
            model=self.model,
            name=self.name,
            system=self.system,
            max_tokens=self.max_tokens,
            temperature=self.temperature,
        )


class ChainExecutionRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The body of ``POST /workflows/chain/executions``. Fields not named here are ignored."""

    steps: Annotated[list[ChainStepRequest], Meta(min_length=1, max_length=MAX_CHAIN_STEPS)]
    input: str = ""

    def to_domain(self) -> ChainDefinition:
        """The definition, free of the wire format."""
        return ChainDefinition(steps=tuple(step.to_domain() for step in self.steps), input=self.input)


def parse_chain(body: bytes) -> ChainDefinition:
    """The chain that a body asks for.

    :raises InvalidRequestError: naming the field.
    """
    return parse(body, ChainExecutionRequest).to_domain()


class WorkflowStep(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A step of an execution. ``model`` is what was asked for, ``target`` what answered."""

    index: int
    status: Literal["pending", "running", "succeeded", "failed", "skipped"]
    model: str
    name: str | None = None
    target: str | None = None
    output: str | None = None
    completed_at: int | None = None
    usage: CompletionUsage | None = None
    cost_usd: str | None = None
    error: WorkError | None = None

    @classmethod
    def of(cls, view: StepView) -> "WorkflowStep":
        """How it stands now."""
        record = view.record
        return cls(
            index=record.index,
            status=view.status,
            model=record.model,
            name=record.name,
            target=record.target,
            output=view.output,
            completed_at=record.completed_at,
            usage=CompletionUsage.of(record.usage) if record.usage else None,
            cost_usd=usd(record.cost_micro_usd),
            error=WorkError.of(record.error),
        )


class WorkflowExecution(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An execution of a workflow. Times are epoch seconds; usage and cost are the totals of the steps so far.

    ``cost_usd`` is left out when the price of any step is unknown.
    """

    id: str
    object: str
    workflow: str
    status: ExecutionStatus
    created_at: int
    steps: list[WorkflowStep]
    completed_at: int | None = None
    usage: CompletionUsage | None = None
    cost_usd: str | None = None
    error: WorkError | None = None

    @classmethod
    def started(cls, execution: Execution, steps: Sequence[StepRecord]) -> "WorkflowExecution":
        """The answer to its start."""
        views = tuple(StepView(record=step, status="pending") for step in steps)
        return cls.of(ExecutionView(execution=execution, steps=views))

    @classmethod
    def of(cls, view: ExecutionView) -> "WorkflowExecution":
        """How it stands now."""
        execution = view.execution
        return cls(
            id=execution.id,
            object="workflow.execution",
            workflow=execution.workflow,
            status=execution.status,
            created_at=execution.created_at,
            steps=[WorkflowStep.of(step) for step in view.steps],
            completed_at=execution.completed_at,
            usage=CompletionUsage.of(execution.usage) if execution.usage else None,
            cost_usd=usd(execution.cost_micro_usd),
            error=WorkError.of(execution.error),
        )


def location(execution: Execution) -> str:
    """Where to ask how it stands, as a path of the API."""
    return f"/v1/workflows/executions/{execution.id}"
