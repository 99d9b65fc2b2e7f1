"""Chat completions and completions by a Function URL, each piece of an answer sent as it is made.

No authorizer stands before it, so it checks the key itself. Lambda starts it through ``/opt/bin/stream``
(:mod:`sluice.runtime.streaming`).
"""

import os
from functools import cache

from functions.chat_stream.settings import ChatStreamSettings
from sluice.domain.keys import Scope
from sluice.runtime import authorization, bootstrap
from sluice.runtime.api import ApiRequest, ApiResponse, EventStream
from sluice.runtime.completions import chat_completion, completion
from sluice.runtime.idempotency import idempotent
from sluice.runtime.scopes import requires
from sluice.runtime.settings import load
from sluice.runtime.snapstart import before_snapshot
from sluice.runtime.streaming.function import StreamingFunction
from sluice.services.authorize import Authorize
from sluice.services.idempotency import Idempotency
from sluice.services.infer import Inference


@before_snapshot
@cache
def inference() -> Inference:
    """Built once per container."""
    return bootstrap.inference(load(ChatStreamSettings, os.environ))


@before_snapshot
@cache
def replays() -> Idempotency:
    """Built once per container."""
    return bootstrap.idempotency(load(ChatStreamSettings, os.environ))


@before_snapshot
@cache
def authorize() -> Authorize:
    """Built once per container."""
    settings = load(ChatStreamSettings, os.environ)
    return authorization.authorize(settings, cache_seconds=settings.key_cache_seconds)


@requires(Scope.INFERENCE)
@idempotent(replays)
def _chat_completion(request: ApiRequest) -> ApiResponse | EventStream:
    return chat_completion(inference(), request)


@requires(Scope.INFERENCE)
@idempotent(replays)
def _completion(request: ApiRequest) -> ApiResponse | EventStream:
    return completion(inference(), request)


handler = StreamingFunction(
    {"/v1/chat/completions": _chat_completion, "/v1/completions": _completion},
    # By name, not by value: it is built when the first key comes.
    authorize=lambda headers: authorize().authorize(headers),
)
