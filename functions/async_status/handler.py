"""/v1/async and below: what became of asynchronous requests, and that one is not wanted any more."""

import os
from functools import cache
from typing import Final

from functions.async_status.settings import AsyncStatusSettings
from sluice.domain.jobs import JobView
from sluice.domain.keys import Scope
from sluice.runtime import bootstrap, durable
from sluice.runtime.api import ApiRequest, ApiResponse, EventStream, Handler, api_function
from sluice.runtime.idempotency import idempotent
from sluice.runtime.scopes import requires
from sluice.runtime.settings import load
from sluice.runtime.snapstart import before_snapshot
from sluice.services.idempotency import Idempotency
from sluice.services.read_job import ReadJob
from sluice.telemetry import logs
from sluice.wire.async_requests import AsyncRequest, AsyncRequestList
from sluice.wire.pages import page_limit


@before_snapshot
@cache
def service() -> ReadJob:
    """Built once per container."""
    settings = load(AsyncStatusSettings, os.environ)
    return durable.read_job(settings, bucket_name=settings.bucket_name)


@before_snapshot
@cache
def replays() -> Idempotency:
    """Built once per container."""
    return bootstrap.idempotency(load(AsyncStatusSettings, os.environ))


@api_function
@requires(Scope.BATCH)
def handler(request: ApiRequest) -> ApiResponse | EventStream:
    """Do what the method and the path name."""
    return _ROUTES[request.method, request.resource.removeprefix("/v1")](request)


def _list(request: ApiRequest) -> ApiResponse:
    limit = page_limit(request.query)
    views, has_more = service().page(request.authenticated, limit=limit, after=request.query.get("after") or None)
    return ApiResponse(200, AsyncRequestList.of(views, has_more=has_more))


def _get(request: ApiRequest) -> ApiResponse:
    return _told(service().read(request.path_parameters["id"], request.authenticated))


@idempotent(replays)
def _cancel(request: ApiRequest) -> ApiResponse:
    return _told(service().cancel(request.path_parameters["id"], request.authenticated))


def _told(view: JobView) -> ApiResponse:
    logs.canonical(job_id=view.job.id, job_status=view.status.value)
    return ApiResponse(200, AsyncRequest.of(view))


_ROUTES: Final[dict[tuple[str, str], Handler]] = {
    ("GET", "/async"): _list,
    ("GET", "/async/{id}"): _get,
    ("POST", "/async/{id}/cancel"): _cancel,
}
