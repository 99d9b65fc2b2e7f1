"""/v1/admin/keys and below: API keys, for administrators who sign with AWS credentials."""

import os
import time
from collections.abc import Callable
from functools import cache
from typing import Final

from functions.admin_keys.settings import AdminKeysSettings
from sluice.runtime import administration
from sluice.runtime.api import ApiRequest, ApiResponse, api_function
from sluice.runtime.settings import load
from sluice.runtime.snapstart import before_snapshot
from sluice.services.manage_keys import ManageKeys
from sluice.telemetry import logs
from sluice.wire.keys import (
    AdminKeyRequest,
    AdminKeyRotateRequest,
    AdminKeyUpdateRequest,
    KeyList,
    KeyObject,
    KeyWithSecret,
)
from sluice.wire.pages import page_limit
from sluice.wire.parsing import parse


@before_snapshot
@cache
def keys() -> ManageKeys:
    """Built once per container."""
    return administration.manage_keys(load(AdminKeysSettings, os.environ))


@api_function
def handler(request: ApiRequest) -> ApiResponse:
    """Do what the method and the path name."""
    if request.method == "POST":
        administration.refuse_idempotency_key(request)
    logs.canonical(actor=request.administrator.actor)
    return _ROUTES[request.method, request.resource.removeprefix("/v1")](request)


def _create(request: ApiRequest) -> ApiResponse:
    settings = parse(request.body, AdminKeyRequest).to_settings()
    key, secret = keys().create(settings, request.administrator)
    logs.canonical(created_key_id=key.id)
    return ApiResponse(201, KeyWithSecret.showing(key, secret, now=time.time()))


def _list(request: ApiRequest) -> ApiResponse:
    limit = page_limit(request.query)
    page, next_after = keys().page(limit=limit, after=request.query.get("after") or None)
    return ApiResponse(200, KeyList.of(page, next_after, now=time.time()))


def _get(request: ApiRequest) -> ApiResponse:
    return ApiResponse(200, KeyObject.of(keys().get(request.path_parameters["id"]), now=time.time()))


def _update(request: ApiRequest) -> ApiResponse:
    asked = parse(request.body, AdminKeyUpdateRequest)
    key = keys().update(request.path_parameters["id"], asked.over, request.administrator)
    logs.canonical(updated_key_id=key.id)
    return ApiResponse(200, KeyObject.of(key, now=time.time()))


def _rotate(request: ApiRequest) -> ApiResponse:
    asked = parse(request.body or b"{}", AdminKeyRotateRequest)
    key, secret = keys().rotate(request.path_parameters["id"], request.administrator, overlap_s=asked.overlap_seconds)
    logs.canonical(rotated_key_id=key.id)
    return ApiResponse(201, KeyWithSecret.showing(key, secret, now=time.time()))


def _revoke(request: ApiRequest) -> ApiResponse:
    key = keys().revoke(request.path_parameters["id"], request.administrator)
    logs.canonical(revoked_key_id=key.id)
    return ApiResponse(200, KeyObject.of(key, now=time.time()))


_ROUTES: Final[dict[tuple[str, str], Callable[[ApiRequest], ApiResponse]]] = {
    ("POST", "/admin/keys"): _create,
    ("GET", "/admin/keys"): _list,
    ("GET", "/admin/keys/{id}"): _get,
    ("PATCH", "/admin/keys/{id}"): _update,
    ("DELETE", "/admin/keys/{id}"): _revoke,
    ("POST", "/admin/keys/{id}/rotate"): _rotate,
}
