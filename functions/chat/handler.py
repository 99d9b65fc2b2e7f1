"""POST /v1/chat: one prompt in, one response out."""

import os
from functools import cache

from functions.chat.settings import ChatSettings
from sluice.domain.inference import Mode
from sluice.domain.keys import Scope
from sluice.runtime import bootstrap, inference_headers
from sluice.runtime.api import ApiRequest, ApiResponse, api_function
from sluice.runtime.idempotency import idempotent
from sluice.runtime.scopes import requires
from sluice.runtime.settings import load
from sluice.runtime.snapstart import before_snapshot
from sluice.services.idempotency import Idempotency
from sluice.services.infer import Inference
from sluice.wire.simple_chat import SimpleChatResponse, parse_simple_chat


@before_snapshot
@cache
def inference() -> Inference:
    """Built once per container."""
    return bootstrap.inference(load(ChatSettings, os.environ))


@before_snapshot
@cache
def replays() -> Idempotency:
    """Built once per container."""
    return bootstrap.idempotency(load(ChatSettings, os.environ))


@api_function
@requires(Scope.INFERENCE)
@idempotent(replays)
def handler(request: ApiRequest) -> ApiResponse:
    """Answer the prompt."""
    outcome = inference().chat(
        parse_simple_chat(request.body),
        request.authenticated,
        mode=Mode.SYNC,
        deadline=request.deadline,
        preferences=inference_headers.preferences(request.headers),
    )
    answer = SimpleChatResponse.of(outcome.result, model=outcome.target.name)
    return ApiResponse(200, answer, inference_headers.of(outcome))
