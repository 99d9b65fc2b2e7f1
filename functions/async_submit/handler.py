"""POST /v1/async/chat/completions: a conversation accepted now and answered later."""

import os
from functools import cache

from functions.async_submit.settings import AsyncSubmitSettings
from sluice.domain.keys import Scope
from sluice.runtime import bootstrap, durable
from sluice.runtime.api import ApiRequest, ApiResponse, api_function
from sluice.runtime.idempotency import idempotent
from sluice.runtime.scopes import requires
from sluice.runtime.settings import load
from sluice.runtime.snapstart import before_snapshot
from sluice.services.idempotency import Idempotency
from sluice.services.submit_job import SubmitJob
from sluice.telemetry import logs
from sluice.wire.async_requests import CHAT_ENDPOINT, AsyncRequest, location
from sluice.wire.chat import parse_chat_request


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
def replays() -> Idempotency:
    """Built once per container."""
    return bootstrap.idempotency(load(AsyncSubmitSettings, os.environ))


@api_function
@requires(Scope.BATCH)
@idempotent(replays)
def handler(request: ApiRequest) -> ApiResponse:
    """Accept the conversation."""
    chat = parse_chat_request(request.body)
    job = service().submit(chat, request.authenticated, endpoint=CHAT_ENDPOINT)
    logs.canonical(job_id=job.id, model=job.model)
    return ApiResponse(202, AsyncRequest.accepted(job), {"location": location(job)})
