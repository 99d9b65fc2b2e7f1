"""GET /v1/usage: what the caller's key has used, and what it has left."""

import os
from functools import cache

from functions.usage.settings import UsageSettings
from sluice.runtime import accounting
from sluice.runtime.api import ApiRequest, ApiResponse, api_function
from sluice.runtime.settings import load
from sluice.runtime.snapstart import before_snapshot
from sluice.services.read_usage import ReadUsage
from sluice.wire.usage import UsageObject


@before_snapshot
@cache
def service() -> ReadUsage:
    """Built once per container."""
    return accounting.read_usage(load(UsageSettings, os.environ))


@api_function
def handler(request: ApiRequest) -> ApiResponse:
    """Tell the usage of the month that the query names, by default of the current one."""
    return ApiResponse(200, UsageObject.of(service().of(request.authenticated, request.query.get("period"))))
