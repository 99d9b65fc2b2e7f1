"""POST /v1/classify: texts in, the label that fits each best out."""

import os
from functools import cache

from functions.classify.settings import ClassifySettings
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
from sluice.wire.classify import ClassifyResponse, parse_classify


@before_snapshot
@cache
def inference() -> Inference:
    """Built once per container."""
    return bootstrap.inference(load(ClassifySettings, os.environ))


@before_snapshot
@cache
def replays() -> Idempotency:
    """Built once per container."""
    return bootstrap.idempotency(load(ClassifySettings, os.environ))


@api_function
@requires(Scope.INFERENCE)
@idempotent(replays)
def handler(request: ApiRequest) -> ApiResponse:
    """Classify the texts."""
    asked = parse_classify(request.body)
    outcome = inference().classify(
        asked.to_domain(),
        request.authenticated,
        mode=Mode.SYNC,
        deadline=request.deadline,
        preferences=inference_headers.preferences(request.headers),
    )
    answer = ClassifyResponse.of(outcome.result, model=outcome.target.name, single=isinstance(asked.input, str))
    return ApiResponse(200, answer, inference_headers.of(outcome))
