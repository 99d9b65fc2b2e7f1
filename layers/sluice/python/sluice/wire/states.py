"""The chain's state as Step Functions hands it to a function and takes it back."""

from collections.abc import Mapping
from typing import Any

import msgspec

from sluice.domain.errors import StateError
from sluice.domain.workflows import ChainState


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
