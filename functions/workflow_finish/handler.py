"""States FinishSucceeded and FinishFailed of the chain's state machine: how it ended, recorded once."""

import os
from functools import cache
from typing import Any

from functions.workflow_finish.settings import WorkflowFinishSettings
from sluice.domain.deadline import Deadline
from sluice.runtime import durable
from sluice.runtime.events import event_function
from sluice.runtime.settings import load
from sluice.runtime.snapstart import before_snapshot
from sluice.services.finish_workflow import FinishWorkflow
from sluice.telemetry import logs
from sluice.wire.states import chain_state


@before_snapshot
@cache
def service() -> FinishWorkflow:
    """Built once per container."""
    return durable.finish_workflow(load(WorkflowFinishSettings, os.environ))


@event_function
def handler(event: dict[str, Any], deadline: Deadline) -> dict[str, Any]:
    """Record the end that the state describes."""
    state = chain_state(event)
    logs.bind(execution_id=state.execution_id, key_id=state.key_id)
    status = service().finish(state)
    return {"execution_id": state.execution_id, "status": status.value}
