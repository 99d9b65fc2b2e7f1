"""POST /v1/embeddings: texts in, vectors out."""

import os
from functools import cache

from functions.embeddings.settings import EmbeddingsSettings
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
from sluice.wire.embeddings import EmbeddingResponse, parse_embedding_request


@before_snapshot
@cache
def inference() -> Inference:
    """Built once per container."""
    return bootstrap.inference(load(EmbeddingsSettings, os.environ))


@before_snapshot
@cache
def replays() -> Idempotency:
    """Built once per container."""
    return bootstrap.idempotency(load(EmbeddingsSettings, os.environ))


@api_function
@requires(Scope.INFERENCE)
@idempotent(replays)
def handler(request: ApiRequest) -> ApiResponse:
    """Embed the texts."""
    asked = parse_embedding_request(request.body)
    outcome = inference().embed(
        asked.to_domain(),
        request.authenticated,
        mode=Mode.SYNC,
        deadline=request.deadline,
        preferences=inference_headers.preferences(request.headers),
    )
    encoding = asked.encoding(request.headers)
    answer = EmbeddingResponse.of(outcome.result, model=outcome.target.name, encoding=encoding)
    return ApiResponse(200, answer, inference_headers.of(outcome))
