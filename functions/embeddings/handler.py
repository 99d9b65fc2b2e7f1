"""POST /v1/embeddings: texts in, vectors out."""

import os
from functools import cache

from functions.embeddings.settings import EmbeddingsSettings
from sluice.domain.inference import Mode
from sluice.runtime import bootstrap
from sluice.runtime.api import ApiRequest, ApiResponse, api_function
from sluice.runtime.settings import load
from sluice.runtime.snapstart import before_snapshot
from sluice.services.infer import Inference
from sluice.wire.embeddings import EmbeddingResponse, parse_embedding_request


@before_snapshot
@cache
def inference() -> Inference:
    """Built once per container."""
    return bootstrap.inference(load(EmbeddingsSettings, os.environ))


@api_function
def handler(request: ApiRequest) -> ApiResponse:
    """Embed the texts."""
    asked = parse_embedding_request(request.body)
    outcome = inference().embed(asked.to_domain(), request.authenticated, mode=Mode.SYNC, deadline=request.deadline)
    answer = EmbeddingResponse.of(outcome.result, model=outcome.target.name, encoding=asked.encoding_format)
    return ApiResponse(200, answer)
