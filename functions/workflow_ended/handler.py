"""Step Functions' events about executions that ended without success: recorded, where the chain could not do so."""

import os
from functools import cache
from typing import Any

from functions.workflow_ended.settings import WorkflowEndedSettings
from sluice.domain.deadline import Deadline
from sluice.runtime import durable
from sluice.runtime.events import event_function
from sluice.runtime.settings import load
from sluice.runtime.snapstart import before_snapshot
from sluice.services.finish_workflow import FinishWorkflow
from sluice.telemetry import logs
from sluice.wire.states import ended_execution


@before_snapshot
@cache
def service() -> FinishWorkflow:
    """Built once per container."""
    return durable.finish_workflow(load(WorkflowEndedSettings, os.environ))


@event_function
def handler(event: dict[str, Any], deadline: Deadline) -> dict[str, Any]:
    """Record the end that the event tells, unless it is recorded already."""
    ended = ended_execution(event)
    logs.bind(execution_id=ended.execution_id)
    status = service().close(ended)
    logs.canonical(engine_says=ended.failure.code, recorded=status)
    return {"execution_id": ended.execution_id, "status": status}
