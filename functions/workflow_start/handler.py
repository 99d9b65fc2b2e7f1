"""POST /v1/workflows/{name}/executions: start a chain of prompts."""

import os
from functools import cache

from functions.workflow_start.settings import WorkflowStartSettings
from sluice.domain.keys import Scope
from sluice.runtime import bootstrap, durable
from sluice.runtime.api import ApiRequest, ApiResponse, api_function
from sluice.runtime.idempotency import idempotent
from sluice.runtime.scopes import requires
from sluice.runtime.settings import load
from sluice.runtime.snapstart import before_snapshot
from sluice.services.idempotency import Idempotency
from sluice.services.start_workflow import StartWorkflow
from sluice.telemetry import logs
from sluice.wire.workflows import WorkflowExecution, location, parse_chain


@before_snapshot
@cache
def service() -> StartWorkflow:
    """Built once per container."""
    settings = load(WorkflowStartSettings, os.environ)
    return durable.start_workflow(
        settings,
        bucket_name=settings.bucket_name,
        state_machine_arn=settings.state_machine_arn,
        result_ttl_days=settings.result_ttl_days,
    )


@before_snapshot
@cache
def replays() -> Idempotency:
    """Built once per container."""
    return bootstrap.idempotency(load(WorkflowStartSettings, os.environ))


@api_function
@requires(Scope.WORKFLOW)
@idempotent(replays)
def handler(request: ApiRequest) -> ApiResponse:
    """Start the chain that the body describes."""
    workflow, chain = request.path_parameters["name"], parse_chain(request.body)
    execution, steps = service().start(workflow, chain, request.authenticated)
    logs.canonical(execution_id=execution.id, steps=len(steps))
    return ApiResponse(202, WorkflowExecution.started(execution, steps), {"location": location(execution)})
