"""POST /v1/chat/completions: one conversation in, one answer out, as a document or as server-sent events."""

import os
import time
from functools import cache

from functions.chat_completions.settings import ChatCompletionsSettings
from sluice.domain.inference import ChatRequest, Mode
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
from sluice.wire.chat import ChatCompletionResponse, decode_chat_request, new_completion_id


@before_snapshot
@cache
def inference() -> Inference:
    """Built once per container."""
    return bootstrap.inference(load(ChatCompletionsSettings, os.environ))


@before_snapshot
@cache
def replays() -> Idempotency:
    """Built once per container."""
    return bootstrap.idempotency(load(ChatCompletionsSettings, os.environ))


@api_function
@requires(Scope.INFERENCE)
@idempotent(replays)
def handler(request: ApiRequest) -> ApiResponse:
    """Answer the conversation."""
    asked = decode_chat_request(request.body)
    chat = asked.to_domain()
    if asked.stream:
        return _stream(request, chat, include_usage=asked.include_usage)
    outcome = inference().chat(
        chat,
        request.authenticated,
        mode=Mode.SYNC,
        deadline=request.deadline,
        preferences=inference_headers.preferences(request.headers),
    )
    answer = ChatCompletionResponse.of(outcome.result, model=outcome.target.name, created=int(time.time()))
    return ApiResponse(200, answer, inference_headers.of(outcome))


def _stream(request: ApiRequest, chat: ChatRequest, *, include_usage: bool) -> ApiResponse:
    stream = inference().stream(
        chat,
        request.authenticated,
        mode=Mode.SYNC,
        deadline=request.deadline,
        preferences=inference_headers.preferences(request.headers),
    )
    events = sse.chat_events(
        stream,
        completion_id=new_completion_id(),
        model=stream.target.name,
        created=int(time.time()),
        include_usage=include_usage,
        error_body=http.error_body,
    )
    # All of it before the headers: they say what the whole answer cost.
    body = b"".join(events)
    return ApiResponse(200, body, {**inference_headers.of(stream.report()), **sse.HEADERS})
