"""GET /v1/async/{id}: what became of an asynchronous request."""

import os
from functools import cache

from functions.async_status.settings import AsyncStatusSettings
from sluice.domain.keys import Scope
from sluice.runtime import durable
from sluice.runtime.api import ApiRequest, ApiResponse, api_function
from sluice.runtime.scopes import requires
from sluice.runtime.settings import load
from sluice.runtime.snapstart import before_snapshot
from sluice.services.read_job import ReadJob
from sluice.telemetry import logs
from sluice.wire.async_requests import AsyncRequest


@before_snapshot
@cache
def service() -> ReadJob:
    """Built once per container."""
    settings = load(AsyncStatusSettings, os.environ)
    return durable.read_job(settings, bucket_name=settings.bucket_name)


@api_function
@requires(Scope.BATCH)
def handler(request: ApiRequest) -> ApiResponse:
    """Tell how the request stands, with its answer once there is one."""
    view = service().read(request.path_parameters["id"], request.authenticated)
    logs.canonical(job_id=view.job.id, job_status=view.status.value)
    return ApiResponse(200, AsyncRequest.of(view))
