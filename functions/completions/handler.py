"""POST /v1/completions: OpenAI's older route. One prompt in, one text out, as a document or as server-sent events."""

import os
import time
from functools import cache

from functions.completions.settings import CompletionsSettings
from sluice.domain.inference import Mode
from sluice.domain.keys import Scope
from sluice.runtime import bootstrap, http, inference_headers
from sluice.runtime.api import ApiRequest, ApiResponse, api_function
from sluice.runtime.idempotency import idempotent
from sluice.runtime.scopes import requires
from sluice.runtime.settings import load
from sluice.runtime.snapstart import before_snapshot
from sluice.services.idempotency import Idempotency
from sluice.services.infer import Inference
from sluice.wire import sse
from sluice.wire.completions import (
    CompletionRequest,
    CompletionResponse,
    new_completion_id,
    parse_completion_request,
    with_echo,
)


@before_snapshot
@cache
def inference() -> Inference:
    """Built once per container."""
    return bootstrap.inference(load(CompletionsSettings, os.environ))


@before_snapshot
@cache
def replays() -> Idempotency:
    """Built once per container."""
    return bootstrap.idempotency(load(CompletionsSettings, os.environ))


@api_function
@requires(Scope.INFERENCE)
@idempotent(replays)
def handler(request: ApiRequest) -> ApiResponse:
    """Continue the prompt."""
    asked = parse_completion_request(request.body)
    if asked.stream:
        return _stream(request, asked)
    outcome = inference().chat(
        asked.to_domain(),
        request.authenticated,
        mode=Mode.SYNC,
        deadline=request.deadline,
        preferences=inference_headers.preferences(request.headers),
    )
    answer = CompletionResponse.of(
        outcome.result, model=outcome.target.name, created=int(time.time()), echoed=asked.echoed
    )
    return ApiResponse(200, answer, inference_headers.of(outcome))


def _stream(request: ApiRequest, asked: CompletionRequest) -> ApiResponse:
    stream = inference().stream(
        asked.to_domain(),
        request.authenticated,
        mode=Mode.SYNC,
        deadline=request.deadline,
        preferences=inference_headers.preferences(request.headers),
    )
    events = sse.completion_events(
        with_echo(asked.echoed, stream),
        completion_id=new_completion_id(),
        model=stream.target.name,
        created=int(time.time()),
        include_usage=asked.include_usage,
        error_body=http.error_body,
    )
    # All of it before the headers: they say what the whole answer cost.
    body = b"".join(events)
    return ApiResponse(200, body, {**inference_headers.of(stream.report()), **sse.HEADERS})
