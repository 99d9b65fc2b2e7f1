"""/v1/webhooks/secret: what the caller's key signs its webhooks with."""

import os
from collections.abc import Callable
from functools import cache
from typing import Final

from functions.webhooks.settings import WebhooksSettings
from sluice.domain.errors import InvalidRequestError
from sluice.domain.keys import Scope
from sluice.domain.replay import IDEMPOTENCY_HEADER
from sluice.runtime import webhooks
from sluice.runtime.api import ApiRequest, ApiResponse, api_function
from sluice.runtime.scopes import requires
from sluice.runtime.settings import load
from sluice.runtime.snapstart import before_snapshot
from sluice.services.webhook_secrets import ManageWebhookSecrets
from sluice.wire.parsing import parse
from sluice.wire.webhooks import WebhookSecretDeleted, WebhookSecretMade, WebhookSecretObject, WebhookSecretRequest


@before_snapshot
@cache
def secrets() -> ManageWebhookSecrets:
    """Built once per container."""
    return webhooks.manage_secrets(load(WebhooksSettings, os.environ))


@api_function
@requires(Scope.BATCH)
def handler(request: ApiRequest) -> ApiResponse:
    """Do what the method says."""
    return _METHODS[request.method](request)


def _make(request: ApiRequest) -> ApiResponse:
    if IDEMPOTENCY_HEADER in request.headers:
        raise InvalidRequestError(
            "This route does not take an 'Idempotency-Key': its answer is never stored, as it holds a secret. Leave the"
            " header out.",
            code="idempotency_unsupported",
            param="Idempotency-Key",
        )
    asked = parse(request.body or b"{}", WebhookSecretRequest)
    made = secrets().rotate(request.authenticated, overlap_s=asked.overlap_seconds)
    return ApiResponse(201, WebhookSecretMade.showing(made))


def _get(request: ApiRequest) -> ApiResponse:
    return ApiResponse(200, WebhookSecretObject.of(secrets().get(request.authenticated)))


def _delete(request: ApiRequest) -> ApiResponse:
    secrets().delete(request.authenticated)
    return ApiResponse(200, WebhookSecretDeleted())


_METHODS: Final[dict[str, Callable[[ApiRequest], ApiResponse]]] = {"POST": _make, "GET": _get, "DELETE": _delete}
