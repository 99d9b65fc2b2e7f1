"""What Step Functions says: the chain's state, handed to a function and taken back, and how an execution ended."""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from sluice.domain.errors import StateError
from sluice.domain.workflows import ENGINE_FAILURES, ChainState, EndedExecution


class _StatusChange(msgspec.Struct, frozen=True):
    name: str
    status: Literal["ABORTED", "FAILED", "TIMED_OUT"]


class _StatusEvent(msgspec.Struct, frozen=True):
    detail: _StatusChange


def chain_state(event: Mapping[str, Any]) -> ChainState:
    """The state of an execution. :raises StateError: the state machine passed something else."""
    try:
        return msgspec.convert(event, ChainState)
    except msgspec.ValidationError as exc:
        raise StateError("The state machine passed a state that cannot be understood.") from exc


def encoded(state: ChainState) -> dict[str, Any]:
    """The state as the state machine continues with it."""
    fields: dict[str, Any] = msgspec.to_builtins(state)
    return fields


def ended_execution(event: Mapping[str, Any]) -> EndedExecution:
    """The execution whose end an event of EventBridge tells. :raises StateError: it tells something else.

    https://docs.aws.amazon.com/step-functions/latest/dg/eventbridge-integration.html
    """
    try:
        change = msgspec.convert(event, _StatusEvent).detail
    except msgspec.ValidationError as exc:
        raise StateError("EventBridge passed an event that cannot be understood.") from exc
    return EndedExecution(execution_id=change.name, failure=ENGINE_FAILURES[change.status])
