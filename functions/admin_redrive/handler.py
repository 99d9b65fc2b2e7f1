"""POST /v1/admin/queues/{name}/redrive: dead letters go back to the queue that they fell out of."""

import os
from functools import cache

from functions.admin_redrive.settings import AdminRedriveSettings
from sluice.runtime import administration
from sluice.runtime.api import ApiRequest, ApiResponse, api_function
from sluice.runtime.settings import load
from sluice.runtime.snapstart import before_snapshot
from sluice.services.redrive import Redrive
from sluice.telemetry import logs
from sluice.wire.parsing import parse
from sluice.wire.redrive import QueueRedriveObject, QueueRedriveRequest


@before_snapshot
@cache
def service() -> Redrive:
    """Built once per container."""
    return administration.redrive(load(AdminRedriveSettings, os.environ))


@api_function
def handler(request: ApiRequest) -> ApiResponse:
    """Move what there is time for."""
    administration.refuse_idempotency_key(request)
    asked = parse(request.body or b"{}", QueueRedriveRequest)
    by = request.administrator
    logs.canonical(actor=by.actor)
    redriven = service().redrive(
        request.path_parameters["name"], by, before_ms=asked.before_ms, deadline=request.deadline
    )
    logs.canonical(queue=redriven.queue, moved=redriven.moved, done=redriven.done)
    return ApiResponse(200, QueueRedriveObject.of(redriven))
