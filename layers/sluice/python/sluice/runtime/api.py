"""Functions behind API Gateway: ``@api_function`` turns a plain function of a request into a Lambda entry point."""

import base64
import binascii
import functools
import re
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import unquote

import msgspec

from sluice.domain.audit import Administrator
from sluice.domain.deadline import Deadline
from sluice.domain.errors import InvalidRequestError, RequestTooLargeError, SluiceError
from sluice.domain.ids import new_id
from sluice.domain.inference import Caller
from sluice.runtime import http, key_context
from sluice.runtime.invocation import Invocation, LambdaContext
from sluice.telemetry import logs

_ACCEPTED_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{8,128}")


class ApiRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One HTTP request. ``resource`` is the route's template, header names are lower case, ``body`` is decoded.

    ``caller`` is ``None`` on routes that the authorizer does not guard, ``actor`` (an ARN) on those that IAM does not.
    """

    method: str
    resource: str
    request_id: str
    deadline: Deadline
    path_parameters: Mapping[str, str] = {}
    query: Mapping[str, str] = {}
    headers: Mapping[str, str] = {}
    body: bytes = b""
    caller: Caller | None = None
    actor: str | None = None

    @property
    def authenticated(self) -> Caller:
        """The caller of a guarded route.

        :raises RuntimeError: the route is deployed without the authorizer, which must never go unnoticed.
        """
        if self.caller is None:
            raise RuntimeError("This route needs the authorizer and is deployed without it.")
        return self.caller

    @property
    def administrator(self) -> Administrator:
        """Whoever signed the request of an admin route.

        :raises RuntimeError: the route is deployed without IAM, which must never go unnoticed.
        """
        if self.actor is None:
            raise RuntimeError("This route needs IAM and is deployed without it.")
        return Administrator(actor=self.actor, request_id=self.request_id)


class ApiResponse(msgspec.Struct, frozen=True):
    """One HTTP response. ``body`` is encoded as JSON, unless it is ``bytes``: UTF-8 text, sent as it is.

    ``headers`` name its content type where that is not JSON.
    """

    status: int
    body: object
    headers: Mapping[str, str] = {}


Handler = Callable[[ApiRequest], ApiResponse]
EntryPoint = Callable[[dict[str, Any], LambdaContext], dict[str, Any]]


def api_function(handler: Handler) -> EntryPoint:
    """The Lambda entry point of ``handler``, for API Gateway's proxy events (payload 1.0).

    Errors become responses here and nowhere else; every response carries ``x-request-id``; one canonical line and the
    function's metrics are written whatever happens. ``__wrapped__`` is the handler itself.
    """

    @functools.wraps(handler)
    def entry_point(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
        invocation = Invocation(context)
        request_id = request_id_of(event)
        response = _respond(handler, event, invocation, request_id)
        invocation.finish(failed=response.status >= 500, throttled=response.status == 429, status=response.status)
        return _proxy_response(response, request_id)

    return entry_point


def _respond(handler: Handler, event: dict[str, Any], invocation: Invocation, request_id: str) -> ApiResponse:
    try:
        authorizer = event.get("requestContext", {}).get("authorizer") or {}
        invocation.begin(request_id=request_id, key_id=authorizer.get("key_id"))
        logs.canonical(method=event.get("httpMethod"), route=event.get("resource"))
        request = _parse(event, invocation.deadline, request_id, authorizer)
        _check_size(request.body, invocation.max_input_bytes)
        return handler(request)
    except SluiceError as error:
        logs.canonical(**logs.describe(error))
        return ApiResponse(http.status_of(error), http.error_body(error), http.error_headers(error))
    except Exception as error:  # noqa: BLE001 - the last place where an answer in OpenAI's shape can still be given
        logs.canonical(**logs.describe(error))
        return ApiResponse(500, http.unexpected_body())


def _parse(event: dict[str, Any], deadline: Deadline, request_id: str, authorizer: dict[str, str]) -> ApiRequest:
    return ApiRequest(
        method=event["httpMethod"],
        resource=event["resource"],
        request_id=request_id,
        deadline=deadline,
        # API Gateway hands a greedy parameter over as it was sent, so a slash in a model's name may arrive as %2F.
        path_parameters={name: unquote(value) for name, value in (event.get("pathParameters") or {}).items()},
        query=event.get("queryStringParameters") or {},
        headers=_headers(event),
        body=_body(event),
        caller=key_context.caller(authorizer, request_id),
        actor=_actor(event),
    )


def _check_size(body: bytes, most: int | None) -> None:
    if most is not None and len(body) > most:
        raise RequestTooLargeError(f"The body may have at most {most} bytes on this route; it has {len(body)}.")


def _actor(event: dict[str, Any]) -> str | None:
    # API Gateway fills this in where it has checked a signature, and only there.
    return (event.get("requestContext", {}).get("identity") or {}).get("userArn") or None


def _headers(event: dict[str, Any]) -> dict[str, str]:
    return {name.lower(): value for name, value in (event.get("headers") or {}).items()}


def request_id_of(event: dict[str, Any]) -> str:
    """The id of the request behind an event of API Gateway, for the route or its authorizer.

    It is the caller's own ``x-request-id`` when that is harmless, else API Gateway's.
    """
    proposed = _headers(event).get("x-request-id", "")
    if _ACCEPTED_REQUEST_ID.fullmatch(proposed):
        return proposed
    return str(event.get("requestContext", {}).get("requestId") or new_id("req"))


def _body(event: dict[str, Any]) -> bytes:
    body = event.get("body") or ""
    if not event.get("isBase64Encoded"):
        return str(body).encode()
    try:
        return base64.b64decode(body, validate=True)
    except binascii.Error as exc:
        raise InvalidRequestError("The body is not valid base64.") from exc


def _proxy_response(response: ApiResponse, request_id: str) -> dict[str, Any]:
    body = response.body if isinstance(response.body, bytes) else msgspec.json.encode(response.body)
    return {
        "statusCode": response.status,
        "headers": {"content-type": "application/json", **response.headers, "x-request-id": request_id},
        "body": body.decode(),
        "isBase64Encoded": False,
    }
