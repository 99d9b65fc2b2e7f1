"""POST /v1/async/{any sync route}: a request accepted now and answered later."""

import os
from functools import cache

from functions.async_submit.settings import AsyncSubmitSettings
from sluice.domain.keys import Scope
from sluice.runtime import bootstrap, durable, webhooks
from sluice.runtime.api import ApiRequest, ApiResponse, api_function
from sluice.runtime.idempotency import idempotent
from sluice.runtime.scopes import requires
from sluice.runtime.settings import load
from sluice.runtime.snapstart import before_snapshot
from sluice.services.idempotency import Idempotency
from sluice.services.submit_job import SECONDS_PER_DAY, SubmitJob
from sluice.services.webhook_secrets import CallbackUrls
from sluice.telemetry import logs
from sluice.wire.async_requests import (
    CALLBACK_HEADER,
    RESULT_TTL_HEADER,
    AsyncRequest,
    callback_of,
    endpoint_of,
    location,
    result_ttl_s,
)


@before_snapshot
@cache
def service() -> SubmitJob:
    """Built once per container."""
    settings = load(AsyncSubmitSettings, os.environ)
    return durable.submit_job(
        settings,
        bucket_name=settings.bucket_name,
        queue_url=settings.queue_url,
        result_ttl_days=settings.result_ttl_days,
    )


@before_snapshot
@cache
def callbacks() -> CallbackUrls:
    """Built once per container."""
    settings = load(AsyncSubmitSettings, os.environ)
    return webhooks.callback_urls(settings, allow_private=settings.webhooks_allow_private)


@before_snapshot
@cache
def replays() -> Idempotency:
    """Built once per container."""
    return bootstrap.idempotency(load(AsyncSubmitSettings, os.environ))


@api_function
@requires(Scope.BATCH)
@idempotent(replays)
def handler(request: ApiRequest) -> ApiResponse:
    """Accept the request that the path and the body make."""
    submit = service()
    ttl_s = result_ttl_s(request.headers.get(RESULT_TTL_HEADER), most=submit.result_ttl_days * SECONDS_PER_DAY)
    callback_url, param = callback_of(request.headers.get(CALLBACK_HEADER), request.body) or (None, "")
    if callback_url is not None:
        callbacks().check(callback_url, request.authenticated, param=param)
    job = submit.submit(
        endpoint_of(request.resource),
        request.body,
        request.authenticated,
        callback_url=callback_url,
        result_ttl_s=ttl_s,
    )
    logs.canonical(job_id=job.id, endpoint=job.endpoint, model=job.model)
    return ApiResponse(202, AsyncRequest.accepted(job), {"location": location(job)})
