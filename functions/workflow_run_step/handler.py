"""State RunStep of the chain's state machine: one prompt, asked once however often the state is entered."""

import os
from functools import cache
from typing import Any

from functions.workflow_run_step.settings import WorkflowRunStepSettings
from sluice.domain.deadline import Deadline
from sluice.runtime import durable
from sluice.runtime.events import event_function
from sluice.runtime.settings import load
from sluice.runtime.snapstart import before_snapshot
from sluice.services.run_workflow_step import RunWorkflowStep
from sluice.telemetry import logs
from sluice.wire.states import chain_state, encoded


@before_snapshot
@cache
def service() -> RunWorkflowStep:
    """Built once per container."""
    settings = load(WorkflowRunStepSettings, os.environ)
    return durable.run_workflow_step(settings, bucket_name=settings.bucket_name)


@event_function
def handler(event: dict[str, Any], deadline: Deadline) -> dict[str, Any]:
    """Run the step that the state points to; what it raises is for the state machine to retry."""
    state = chain_state(event)
    logs.bind(execution_id=state.execution_id, key_id=state.key_id, step=state.index)
    return encoded(service().run(state, deadline))
