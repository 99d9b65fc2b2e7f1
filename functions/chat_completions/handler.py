"""POST /v1/chat/completions: one conversation in, one answer out, as a document or as server-sent events."""

import os
from functools import cache

from functions.chat_completions.settings import ChatCompletionsSettings
from sluice.domain.keys import Scope
from sluice.runtime import bootstrap
from sluice.runtime.api import ApiRequest, ApiResponse, EventStream, api_function
from sluice.runtime.completions import chat_completion
from sluice.runtime.idempotency import idempotent
from sluice.runtime.scopes import requires
from sluice.runtime.settings import load
from sluice.runtime.snapstart import before_snapshot
from sluice.services.idempotency import Idempotency
from sluice.services.infer import Inference


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
def handler(request: ApiRequest) -> ApiResponse | EventStream:
    """Answer the conversation."""
    return chat_completion(inference(), request)
