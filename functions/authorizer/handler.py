"""The Lambda authorizer in front of every route that needs a key.

A refused key is answered with a *Deny*, not by raising "Unauthorized", though only raising makes API Gateway answer
401 by itself. A raise would count as an error of this function, so that anybody could set off its alarms by sending
nonsense; so the gateway response ACCESS_DENIED is given the status 401 and the body with ``invalid_api_key`` instead
(infra/modules/rest_api). Only a failure to look the key up raises: that is a 500, and a client may try again.

Identity sources stay empty and API Gateway caches nothing: it would demand *all* of them in a request, and a key comes
in either of two headers. The cache is inside this function.
https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-lambda-authorizer-output.html
"""

import os
from functools import cache
from typing import Any

from functions.authorizer.settings import AuthorizerSettings
from sluice.domain.deadline import Deadline
from sluice.domain.errors import AuthenticationError
from sluice.runtime import authorization, key_context
from sluice.runtime.api import request_id_of
from sluice.runtime.events import event_function
from sluice.runtime.settings import load
from sluice.runtime.snapstart import before_snapshot
from sluice.services.authorize import Authorize
from sluice.telemetry import logs


@before_snapshot
@cache
def authorize() -> Authorize:
    """Built once per container."""
    settings = load(AuthorizerSettings, os.environ)
    return authorization.authorize(settings, cache_seconds=settings.key_cache_seconds)


@event_function
def handler(event: dict[str, Any], deadline: Deadline) -> dict[str, Any]:
    """Allow the stage to whoever sends a usable key."""
    # The id that the route's own function uses, so that one search finds the lines of both.
    logs.bind(request_id=request_id_of(event))
    headers = {name.lower(): value for name, value in (event.get("headers") or {}).items()}
    try:
        key = authorize().authorize(headers)
    except AuthenticationError as error:
        logs.canonical(allowed=False, reason=error.message)
        return _decision(event, "Deny", principal="unknown", context={})
    logs.canonical(allowed=True, key_id=key.id)
    return _decision(event, "Allow", principal=key.id, context=key_context.encode(key))


def _decision(event: dict[str, Any], effect: str, *, principal: str, context: dict[str, str]) -> dict[str, Any]:
    # arn:aws:execute-api:<region>:<account>:<api>/<stage>/<method>/<path>: the verdict is about the whole stage.
    api, stage, *_ = event["methodArn"].split("/")
    statement = {"Action": "execute-api:Invoke", "Effect": effect, "Resource": f"{api}/{stage}/*"}
    return {
        "principalId": principal,
        "policyDocument": {"Version": "2012-10-17", "Statement": [statement]},
        "context": context,
    }
