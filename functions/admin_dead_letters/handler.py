"""GET /v1/admin/queues and /v1/admin/queues/{name}/dead-letters: how full the queues are, and why messages are dead."""

import os
from collections.abc import Callable
from functools import cache
from typing import Final

from functions.admin_dead_letters.settings import AdminDeadLettersSettings
from sluice.runtime import administration
from sluice.runtime.api import ApiRequest, ApiResponse, api_function
from sluice.runtime.settings import load
from sluice.runtime.snapstart import before_snapshot
from sluice.services.dead_letters import InspectQueues
from sluice.wire.pages import page_limit
from sluice.wire.redrive import DeadLetterList, QueueList, QueueObject


@before_snapshot
@cache
def service() -> InspectQueues:
    """Built once per container."""
    return administration.inspect_queues(load(AdminDeadLettersSettings, os.environ))


@api_function
def handler(request: ApiRequest) -> ApiResponse:
    """Do what the path names."""
    return _ROUTES[request.resource.removeprefix("/v1")](request)


def _queues(_: ApiRequest) -> ApiResponse:
    return ApiResponse(200, QueueList(data=[QueueObject.of(depth) for depth in service().all()]))


def _dead_letters(request: ApiRequest) -> ApiResponse:
    limit = page_limit(request.query)
    report = service().dead_letters(request.path_parameters["name"], limit=limit)
    return ApiResponse(200, DeadLetterList.of(report.depth, report.reasons, more=report.more))


_ROUTES: Final[dict[str, Callable[[ApiRequest], ApiResponse]]] = {
    "/admin/queues": _queues,
    "/admin/queues/{name}/dead-letters": _dead_letters,
}
