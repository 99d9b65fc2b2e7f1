"""GET /v1/health: whether requests can be served. Needs no key."""

import os
from functools import cache

from functions.health.settings import HealthSettings
from sluice.runtime import bootstrap
from sluice.runtime.api import ApiRequest, ApiResponse, api_function
from sluice.runtime.settings import load
from sluice.runtime.snapstart import before_snapshot
from sluice.services.check_health import CheckHealth


@before_snapshot
@cache
def health() -> CheckHealth:
    """Built once per container."""
    return bootstrap.check_health(load(HealthSettings, os.environ))


@api_function
def handler(request: ApiRequest) -> ApiResponse:
    """200 when requests can be served, else 503."""
    state = health().check()
    return ApiResponse(200 if state.serving else 503, state)
