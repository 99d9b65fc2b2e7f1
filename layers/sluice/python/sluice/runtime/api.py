"""Functions behind API Gateway: ``@api_function`` turns a plain function of a request into a Lambda entry point.

What leaves piece by piece, by a Function URL, is told in :mod:`sluice.runtime.streaming`, which shares what is here.
"""

import base64
import binascii
import contextlib
import functools
import re
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any, Final, Protocol, TypeVar
from urllib.parse import unquote

import msgspec

from sluice.domain.audit import Administrator
from sluice.domain.deadline import Deadline
from sluice.domain.errors import AnswerTooLargeError, InvalidRequestError, RequestTooLargeError, SluiceError
from sluice.domain.ids import new_id
from sluice.domain.inference import Caller
from sluice.domain.routing import Report
from sluice.runtime import http, inference_headers, key_context
from sluice.runtime.invocation import Invocation, LambdaContext
from sluice.telemetry import logs
from sluice.wire import sse

R = TypeVar("R")

# All of a response as Lambda hands it to API Gateway: JSON, in which the body is a text, its quotation marks escaped.
# Lambda takes 6,291,556 bytes (https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html); its runtime
# writes a little more between the fields than is written here.
LARGEST_RESPONSE_BYTES: Final = 6_291_556 - 1_024
# Not worth measuring: six bytes is the most that one of a text can become.
_SURELY_SENT_BYTES: Final = 1_000_000
# Limited by its rows, as POST /v1/score is, and not by the bytes that other routes of the same function may have.
_LIMITED_BY_ROWS: Final = "/v1/async/score"
_ACCEPTED_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{8,128}")


class ApiRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One HTTP request. ``resource`` is the route's template, header names are lower case, ``body`` is decoded.

    ``caller`` is ``None`` on routes that the authorizer does not guard, ``actor`` (an ARN) on those that IAM does not.
    ``behind_gateway``: a response may have :data:`LARGEST_RESPONSE_BYTES`, see :func:`is_too_large`.
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
    behind_gateway: bool = False

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


class Streamed(Protocol):
    """An answer whose first output is there, such as a :class:`~sluice.services.infer.ChatStream`."""

    def begun(self) -> Report:
        """How it has come about so far."""
        ...

    def report(self) -> Report:
        """How it came about; only after its end."""
        ...

    def close(self) -> None:
        """Nobody reads on. Changes nothing once it is over."""
        ...


class EventStream(msgspec.Struct, frozen=True, kw_only=True):
    """A response of status 200 that is made while it is sent: server-sent events, to be read to their end, once.

    ``headers`` are those that are known before the first event; ``closing`` gives those known after the last one.
    ``abandon`` settles what is behind the events when nobody reads on, even if nobody ever has.
    """

    events: Iterator[bytes]
    headers: Mapping[str, str]
    closing: Callable[[], Mapping[str, str]]
    abandon: Callable[[], None]

    @classmethod
    def of(cls, stream: Streamed, events: Iterator[bytes]) -> "EventStream":
        """The ``events`` of ``stream``."""
        return cls(
            events=events,
            headers={**inference_headers.of(stream.begun()), **sse.HEADERS},
            closing=lambda: {**inference_headers.of(stream.report()), **sse.HEADERS},
            abandon=stream.close,
        )

    def close(self) -> None:
        """Nobody reads on: all is settled now, not when the garbage is collected. Changes nothing after the end."""
        if isinstance(self.events, Generator):
            self.events.close()
        self.abandon()

    def whole(self) -> ApiResponse:
        """The response in one piece, for who cannot send it otherwise: its headers say what all of it cost."""
        with contextlib.closing(self):
            return ApiResponse(200, b"".join(self.events), self.closing())


Handler = Callable[[ApiRequest], ApiResponse | EventStream]
EntryPoint = Callable[[dict[str, Any], LambdaContext], dict[str, Any]]


def api_function(handler: Handler) -> EntryPoint:
    """The Lambda entry point of ``handler``, for API Gateway's proxy events (payload 1.0).

    Errors become responses here and nowhere else; every response carries ``x-request-id``; one canonical line and the
    function's metrics are written whatever happens. ``__wrapped__`` is the handler itself.
    """

    @functools.wraps(handler)
    def entry_point(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
        invocation = Invocation(context, behind_gateway=True)
        request_id = request_id_of(event)
        response = answered(lambda: _serve(handler, event, invocation, request_id))
        invocation.finish(failed=response.status >= 500, throttled=response.status == 429, status=response.status)
        return _proxy_response(response, request_id)

    return entry_point


def answered(serve: Callable[[], R]) -> R | ApiResponse:
    """What ``serve`` returns, or else the response that tells the caller what it raised."""
    try:
        return serve()
    except SluiceError as error:
        logs.canonical(**logs.describe(error))
        return ApiResponse(http.status_of(error), http.error_body(error), http.error_headers(error))
    except Exception as error:  # noqa: BLE001 - the last place where an answer in OpenAI's shape can still be given
        logs.canonical(**logs.describe(error))
        return ApiResponse(500, http.unexpected_body())


def _serve(handler: Handler, event: dict[str, Any], invocation: Invocation, request_id: str) -> ApiResponse:
    authorizer = event.get("requestContext", {}).get("authorizer") or {}
    invocation.begin(request_id=request_id, key_id=authorizer.get("key_id"))
    logs.canonical(method=event.get("httpMethod"), route=event.get("resource"))
    request = _parse(event, invocation.deadline, request_id, authorizer)
    if request.resource != _LIMITED_BY_ROWS:
        check_size(request.body, invocation.max_input_bytes)
    made = handler(request)
    response = made.whole() if isinstance(made, EventStream) else made
    body = encoded(response)
    if is_too_large(body, response.headers, request):
        return _too_large(response.headers)
    return ApiResponse(response.status, body, response.headers)


def is_too_large(body: bytes, headers: Mapping[str, str], request: ApiRequest) -> bool:
    """Whether the response to ``request`` cannot be sent: Lambda would drop it, and API Gateway answer 502."""
    if not request.behind_gateway or len(body) <= _SURELY_SENT_BYTES:
        return False
    payload = _proxy_response(ApiResponse(200, body, headers), request.request_id)
    return len(msgspec.json.encode(payload)) > LARGEST_RESPONSE_BYTES


def _too_large(headers: Mapping[str, str]) -> ApiResponse:
    """What is said instead of the answer, with its own headers, which tell what it cost."""
    error = AnswerTooLargeError(
        "The answer is larger than the 6 MB that one response carries. What it cost is billed, and would be again. Ask"
        " for less at once (of embeddings: fewer inputs), or put the request into a batch."
    )
    logs.canonical(**logs.describe(error))
    told = {**headers, **http.error_headers(error), "content-type": "application/json"}
    return ApiResponse(http.status_of(error), http.error_body(error), told)


def _parse(event: dict[str, Any], deadline: Deadline, request_id: str, authorizer: dict[str, str]) -> ApiRequest:
    return ApiRequest(
        method=event["httpMethod"],
        resource=event["resource"],
        request_id=request_id,
        deadline=deadline,
        # API Gateway hands a greedy parameter over as it was sent, so a slash in a model's name may arrive as %2F.
        path_parameters={name: unquote(value) for name, value in (event.get("pathParameters") or {}).items()},
        query=event.get("queryStringParameters") or {},
        headers=headers_of(event),
        body=body_of(event),
        caller=key_context.caller(authorizer, request_id),
        actor=_actor(event),
        behind_gateway=True,
    )


def check_size(body: bytes, most: int | None) -> None:
    """Hold a body to its limit in bytes. :raises RequestTooLargeError: it is larger."""
    if most is not None and len(body) > most:
        raise RequestTooLargeError(f"The body may have at most {most} bytes on this route; it has {len(body)}.")


def _actor(event: dict[str, Any]) -> str | None:
    # API Gateway fills this in where it has checked a signature, and only there.
    return (event.get("requestContext", {}).get("identity") or {}).get("userArn") or None


def headers_of(event: dict[str, Any]) -> dict[str, str]:
    """The headers of a request, their names in lower case."""
    return {name.lower(): value for name, value in (event.get("headers") or {}).items()}


def request_id_of(event: dict[str, Any]) -> str:
    """The id of the request behind an event of API Gateway, for the route or its authorizer.

    It is the caller's own ``x-request-id`` when that is harmless, else API Gateway's.
    """
    proposed = headers_of(event).get("x-request-id", "")
    if _ACCEPTED_REQUEST_ID.fullmatch(proposed):
        return proposed
    return str(event.get("requestContext", {}).get("requestId") or new_id("req"))


def body_of(event: dict[str, Any]) -> bytes:
    """The body of a request as it was sent. :raises InvalidRequestError: it was to be base64, and is not."""
    body = event.get("body") or ""
    if not event.get("isBase64Encoded"):
        return str(body).encode()
    try:
        return base64.b64decode(body, validate=True)
    except binascii.Error as exc:
        raise InvalidRequestError("The body is not valid base64.") from exc


def content_of(response: ApiResponse, request_id: str) -> tuple[dict[str, str], bytes]:
    """The headers and the body of a response as they go out."""
    return {"content-type": "application/json", **response.headers, "x-request-id": request_id}, encoded(response)


def encoded(response: ApiResponse) -> bytes:
    """The body of a response as it goes out."""
    return response.body if isinstance(response.body, bytes) else msgspec.json.encode(response.body)


def _proxy_response(response: ApiResponse, request_id: str) -> dict[str, Any]:
    headers, body = content_of(response, request_id)
    return {"statusCode": response.status, "headers": headers, "body": body.decode(), "isBase64Encoded": False}
