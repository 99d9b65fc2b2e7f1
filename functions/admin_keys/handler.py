"""POST /v1/admin/keys and DELETE /v1/admin/keys/{id}, for administrators who sign with AWS credentials."""

import os
from functools import cache

from functions.admin_keys.settings import AdminKeysSettings
from sluice.runtime import bootstrap
from sluice.runtime.api import ApiRequest, ApiResponse, api_function
from sluice.runtime.settings import load
from sluice.runtime.snapstart import before_snapshot
from sluice.services.manage_keys import ManageKeys
from sluice.telemetry import logs
from sluice.wire.keys import AdminKeyRequest, CreatedKey, RevokedKey
from sluice.wire.parsing import parse


@before_snapshot
@cache
def keys() -> ManageKeys:
    """Built once per container."""
    return bootstrap.manage_keys(load(AdminKeysSettings, os.environ))


@api_function
def handler(request: ApiRequest) -> ApiResponse:
    """Create the key that the body describes, or revoke the one that the path names."""
    return _revoke(request.path_parameters["id"]) if request.method == "DELETE" else _create(request.body)


def _create(body: bytes) -> ApiResponse:
    asked = parse(body, AdminKeyRequest)
    key, secret = keys().create(
        name=asked.name,
        scopes=asked.scopes or (),
        allowed_models=asked.allowed_models,
        expires_at=asked.expires_at,
    )
    logs.canonical(created_key_id=key.id)
    return ApiResponse(201, CreatedKey.of(key, secret))


def _revoke(key_id: str) -> ApiResponse:
    key = keys().revoke(key_id)
    logs.canonical(revoked_key_id=key.id)
    return ApiResponse(200, RevokedKey(id=key.id, prefix=key.prefix, revoked_at=key.revoked_at))
