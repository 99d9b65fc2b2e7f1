"""POST /v1/chat/completions: one conversation in, one answer out."""

import os
import time
from functools import cache

from functions.chat_completions.settings import ChatCompletionsSettings
from sluice.domain.inference import Mode
from sluice.runtime import bootstrap
from sluice.runtime.api import ApiRequest, ApiResponse, api_function
from sluice.runtime.settings import load
from sluice.runtime.snapstart import before_snapshot
from sluice.services.infer import Inference
from sluice.wire.chat import ChatCompletionResponse, parse_chat_request


@before_snapshot
@cache
def inference() -> Inference:
    """Built once per container."""
    return bootstrap.inference(load(ChatCompletionsSettings, os.environ))


@api_function
def handler(request: ApiRequest) -> ApiResponse:
    """Answer the conversation."""
    chat = parse_chat_request(request.body)
    outcome = inference().chat(chat, request.authenticated, mode=Mode.SYNC, deadline=request.deadline)
    answer = ChatCompletionResponse.of(outcome.result, model=outcome.target.name, created=int(time.time()))
    return ApiResponse(200, answer)
