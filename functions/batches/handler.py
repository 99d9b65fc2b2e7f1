"""/v1/batches and below: files of requests to be answered, as OpenAI has them."""

import os
from collections.abc import Callable
from functools import cache
from typing import Final

from functions.batches.settings import BatchesSettings
from sluice.domain.keys import Scope
from sluice.runtime import batch_api, bootstrap
from sluice.runtime.api import ApiRequest, ApiResponse, EventStream, api_function
from sluice.runtime.idempotency import idempotent
from sluice.runtime.scopes import requires
from sluice.runtime.settings import load
from sluice.runtime.snapstart import before_snapshot
from sluice.services.batches import Batches
from sluice.services.idempotency import Idempotency
from sluice.telemetry import logs
from sluice.wire.batches import BatchList, BatchObject, new_batch
from sluice.wire.pages import page_limit


@before_snapshot
@cache
def service() -> Batches:
    """Built once per container."""
    return batch_api.batches(load(BatchesSettings, os.environ))


@before_snapshot
@cache
def replays() -> Idempotency:
    """Built once per container."""
    return bootstrap.idempotency(load(BatchesSettings, os.environ))


@api_function
@requires(Scope.BATCH)
def handler(request: ApiRequest) -> ApiResponse | EventStream:
    """Do what the method and the path name."""
    return _ROUTES[request.method, request.resource.removeprefix("/v1")](request)


@idempotent(replays)
def _create(request: ApiRequest) -> ApiResponse:
    batch = service().create(new_batch(request.body), request.authenticated)
    logs.canonical(batch_id=batch.id, endpoint=batch.endpoint.value, file_bytes=batch.input_bytes)
    return ApiResponse(200, BatchObject.of(batch))


def _list(request: ApiRequest) -> ApiResponse:
    batches, has_more = service().page(
        request.authenticated,
        limit=page_limit(request.query),
        after=request.query.get("after") or None,
    )
    return ApiResponse(200, BatchList.of(batches, has_more=has_more))


def _get(request: ApiRequest) -> ApiResponse:
    batch = service().get(request.path_parameters["id"], request.authenticated)
    logs.canonical(batch_id=batch.id, batch_status=batch.status.value)
    return ApiResponse(200, BatchObject.of(batch))


@idempotent(replays)
def _cancel(request: ApiRequest) -> ApiResponse:
    batch = service().cancel(request.path_parameters["id"], request.authenticated)
    logs.canonical(batch_id=batch.id, batch_status=batch.status.value)
    return ApiResponse(200, BatchObject.of(batch))


_ROUTES: Final[dict[tuple[str, str], Callable[[ApiRequest], ApiResponse | EventStream]]] = {
    ("POST", "/batches"): _create,
    ("GET", "/batches"): _list,
    ("GET", "/batches/{id}"): _get,
    ("POST", "/batches/{id}/cancel"): _cancel,
}
