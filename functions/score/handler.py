"""POST /v1/score: rows of fifty numbers in, one score each out."""

import os
import time
from functools import cache

from functions.score.settings import ScoreSettings
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
from sluice.wire.score import ScoreLatency, ScoreResponse, parse_score


@before_snapshot
@cache
def inference() -> Inference:
    """Built once per container."""
    return bootstrap.inference(load(ScoreSettings, os.environ))


@before_snapshot
@cache
def replays() -> Idempotency:
    """Built once per container."""
    return bootstrap.idempotency(load(ScoreSettings, os.environ))


@api_function
@requires(Scope.INFERENCE)
@idempotent(replays)
def handler(request: ApiRequest) -> ApiResponse:
    """Score the rows."""
    begun = time.perf_counter()
    asked = parse_score(request.body)
    outcome = inference().score(
        asked.request,
        request.authenticated,
        mode=Mode.SYNC,
        deadline=request.deadline,
        preferences=inference_headers.preferences(request.headers),
    )
    total_ms = (time.perf_counter() - begun) * 1000
    answer = ScoreResponse.of(
        outcome.result,
        model=outcome.target.name,
        latency=ScoreLatency(
            total=round(total_ms, 1),
            model=round(max(total_ms - outcome.report.overhead_ms, 0.0), 1),
        ),
        single=asked.single,
    )
    return ApiResponse(200, answer, inference_headers.of(outcome))
