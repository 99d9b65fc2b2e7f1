"""/v1/uploads and below: files that come in parts, as OpenAI has them, or by presigned URLs."""

import os
from collections.abc import Callable
from functools import cache
from typing import Final

from functions.uploads.settings import UploadsSettings
from sluice.domain.keys import Scope
from sluice.runtime import bootstrap, file_api
from sluice.runtime.api import ApiRequest, ApiResponse, EventStream, api_function
from sluice.runtime.idempotency import idempotent
from sluice.runtime.scopes import requires
from sluice.runtime.settings import load
from sluice.runtime.snapstart import before_snapshot
from sluice.services.idempotency import Idempotency
from sluice.services.uploads import Uploads
from sluice.telemetry import logs
from sluice.wire.files import UploadCompleteRequest, UploadObject, UploadPartObject, UploadRequest, part_of
from sluice.wire.parsing import parse


@before_snapshot
@cache
def service() -> Uploads:
    """Built once per container."""
    settings = load(UploadsSettings, os.environ)
    return file_api.uploads(settings, upload_ttl_s=settings.upload_ttl_seconds)


@before_snapshot
@cache
def replays() -> Idempotency:
    """Built once per container."""
    return bootstrap.idempotency(load(UploadsSettings, os.environ))


@api_function
@requires(Scope.BATCH)
def handler(request: ApiRequest) -> ApiResponse | EventStream:
    """Do what the method and the path name."""
    if "id" in request.path_parameters:
        logs.canonical(upload_id=request.path_parameters["id"])
    return _ROUTES[request.method, request.resource.removeprefix("/v1")](request)


@idempotent(replays)
def _create(request: ApiRequest) -> ApiResponse:
    asked = parse(request.body, UploadRequest)
    view = service().create(asked.new_file(), request.authenticated, size=asked.bytes, presigned=asked.presigned)
    logs.canonical(upload_id=view.upload.id, file_bytes=view.upload.bytes, presigned=view.upload.presigned)
    return ApiResponse(200, UploadObject.of(view))


def _get(request: ApiRequest) -> ApiResponse:
    return ApiResponse(200, UploadObject.of(service().get(request.path_parameters["id"], request.authenticated)))


@idempotent(replays)
def _add_part(request: ApiRequest) -> ApiResponse:
    content = part_of(request.headers.get("content-type", ""), request.body)
    part = service().add_part(request.path_parameters["id"], content, request.authenticated)
    logs.canonical(file_bytes=part.bytes)
    return ApiResponse(200, UploadPartObject.of(part))


@idempotent(replays)
def _complete(request: ApiRequest) -> ApiResponse:
    asked = parse(request.body, UploadCompleteRequest)
    view = service().complete(
        request.path_parameters["id"],
        request.authenticated,
        part_ids=asked.part_ids,
        md5=asked.md5,
        deadline=request.deadline,
    )
    logs.canonical(file_id=view.upload.file_id, file_bytes=view.upload.bytes)
    return ApiResponse(200, UploadObject.of(view))


@idempotent(replays)
def _cancel(request: ApiRequest) -> ApiResponse:
    return ApiResponse(200, UploadObject.of(service().cancel(request.path_parameters["id"], request.authenticated)))


_ROUTES: Final[dict[tuple[str, str], Callable[[ApiRequest], ApiResponse | EventStream]]] = {
    ("POST", "/uploads"): _create,
    ("GET", "/uploads/{id}"): _get,
    ("POST", "/uploads/{id}/parts"): _add_part,
    ("POST", "/uploads/{id}/complete"): _complete,
    ("POST", "/uploads/{id}/cancel"): _cancel,
}
