"""GET /v1/workflows/executions/{id}: how a workflow execution stands."""

import os
from functools import cache

from functions.workflow_status.settings import WorkflowStatusSettings
from sluice.domain.keys import Scope
from sluice.runtime import durable
from sluice.runtime.api import ApiRequest, ApiResponse, api_function
from sluice.runtime.scopes import requires
from sluice.runtime.settings import load
from sluice.runtime.snapstart import before_snapshot
from sluice.services.read_workflow import ReadWorkflow
from sluice.telemetry import logs
from sluice.wire.workflows import WorkflowExecution


@before_snapshot
@cache
def service() -> ReadWorkflow:
    """Built once per container."""
    settings = load(WorkflowStatusSettings, os.environ)
    return durable.read_workflow(
        settings, bucket_name=settings.bucket_name, state_machine_arn=settings.state_machine_arn
    )


@api_function
@requires(Scope.WORKFLOW)
def handler(request: ApiRequest) -> ApiResponse:
    """Tell how the execution stands, with the answers of its finished steps."""
    view = service().read(request.path_parameters["id"], request.authenticated)
    logs.canonical(execution_id=view.execution.id, execution_status=view.execution.status.value)
    return ApiResponse(200, WorkflowExecution.of(view))
