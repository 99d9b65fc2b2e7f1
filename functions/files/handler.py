"""/v1/files and below: files that callers keep, as OpenAI has them."""

import os
from collections.abc import Callable
from functools import cache
from typing import Final

from functions.files.settings import FilesSettings
from sluice.domain.keys import Scope
from sluice.runtime import bootstrap, file_api
from sluice.runtime.api import ApiRequest, ApiResponse, EventStream, api_function
from sluice.runtime.idempotency import idempotent
from sluice.runtime.scopes import requires
from sluice.runtime.settings import load
from sluice.runtime.snapstart import before_snapshot
from sluice.services.files import Files
from sluice.services.idempotency import Idempotency
from sluice.telemetry import logs
from sluice.wire.files import (
    LONGEST_PAGE,
    FileDeleted,
    FileList,
    FileObject,
    download_headers,
    file_of,
    purpose_asked,
)
from sluice.wire.pages import newest_first, page_limit


@before_snapshot
@cache
def service() -> Files:
    """Built once per container."""
    return file_api.files(load(FilesSettings, os.environ))


@before_snapshot
@cache
def replays() -> Idempotency:
    """Built once per container."""
    return bootstrap.idempotency(load(FilesSettings, os.environ))


@api_function
@requires(Scope.BATCH)
def handler(request: ApiRequest) -> ApiResponse | EventStream:
    """Do what the method and the path name."""
    if "id" in request.path_parameters:
        logs.canonical(file_id=request.path_parameters["id"])
    return _ROUTES[request.method, request.resource.removeprefix("/v1")](request)


@idempotent(replays)
def _create(request: ApiRequest) -> ApiResponse:
    new, content = file_of(request.headers.get("content-type", ""), request.body)
    file = service().create(new, content, request.authenticated)
    logs.canonical(file_id=file.id, file_bytes=file.bytes)
    return ApiResponse(200, FileObject.of(file))


def _list(request: ApiRequest) -> ApiResponse:
    files, has_more = service().page(
        request.authenticated,
        limit=page_limit(request.query, default=LONGEST_PAGE, most=LONGEST_PAGE),
        after=request.query.get("after") or None,
        newest_first=newest_first(request.query),
        purpose=purpose_asked(request.query),
    )
    return ApiResponse(200, FileList.of(files, has_more=has_more))


def _get(request: ApiRequest) -> ApiResponse:
    return ApiResponse(200, FileObject.of(service().get(request.path_parameters["id"], request.authenticated)))


def _delete(request: ApiRequest) -> ApiResponse:
    file_id = request.path_parameters["id"]
    service().delete(file_id, request.authenticated)
    return ApiResponse(200, FileDeleted(id=file_id))


def _content(request: ApiRequest) -> ApiResponse:
    content = service().content(request.path_parameters["id"], request.authenticated)
    if content.url is not None:
        # Whoever has the URL has the content, so nobody on the way is to keep it.
        return ApiResponse(302, b"", {"location": content.url, "cache-control": "no-store"})
    return ApiResponse(200, content.text, download_headers(content.file))


_ROUTES: Final[dict[tuple[str, str], Callable[[ApiRequest], ApiResponse | EventStream]]] = {
    ("POST", "/files"): _create,
    ("GET", "/files"): _list,
    ("GET", "/files/{id}"): _get,
    ("DELETE", "/files/{id}"): _delete,
    ("GET", "/files/{id}/content"): _content,
}
