"""GET /v1/admin/circuits: how every target is doing."""

import os
from functools import cache

from functions.admin_circuits.settings import AdminCircuitsSettings
from sluice.runtime import administration
from sluice.runtime.api import ApiRequest, ApiResponse, api_function
from sluice.runtime.settings import load
from sluice.runtime.snapstart import before_snapshot
from sluice.services.list_circuits import ListCircuits
from sluice.wire.circuits import CircuitList, CircuitObject


@before_snapshot
@cache
def service() -> ListCircuits:
    """Built once per container."""
    return administration.list_circuits(load(AdminCircuitsSettings, os.environ))


@api_function
def handler(request: ApiRequest) -> ApiResponse:
    """List the circuits, those that are not closed first."""
    found = service().all()
    circuits = [CircuitObject.of(status.target, status.state, now=status.at) for status in found]
    return ApiResponse(200, CircuitList(data=circuits))
