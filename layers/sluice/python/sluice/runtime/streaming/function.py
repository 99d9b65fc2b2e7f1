"""Functions behind a Function URL in RESPONSE_STREAM mode (payload format 2.0).

What leaves is what such a URL expects: a prelude with status and headers as JSON, eight NUL bytes, and then the body as
it comes. https://docs.aws.amazon.com/lambda/latest/dg/response-streaming-tutorial.html
"""

import contextlib
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any, Final

import msgspec

from sluice.domain.errors import AuthenticationError, NotFoundError
from sluice.domain.inference import Caller
from sluice.domain.keys import ApiKey
from sluice.runtime import http
from sluice.runtime.api import (
    ApiRequest,
    ApiResponse,
    EventStream,
    Handler,
    answered,
    body_of,
    check_size,
    content_of,
    headers_of,
    request_id_of,
)
from sluice.runtime.events import UnexpectedFailureError
from sluice.runtime.invocation import Invocation, LambdaContext
from sluice.runtime.key_context import caller_of
from sluice.telemetry import logs
from sluice.wire import sse

PRELUDE_END: Final = b"\0" * 8

# As API Gateway says it on the other routes: infra/modules/rest_api/gateway_responses.tf.
WRONG_KEY: Final = "Incorrect or missing API key. Send it in the header Authorization, after Bearer, or in x-api-key."
UNKNOWN_URL: Final = "Unknown request URL or method."

Authorization = Callable[[Mapping[str, str]], ApiKey]
"""From a request's headers (names in lower case) to a good key. :raises AuthenticationError: there is none."""


class StreamingFunction:
    """The entry point of a function that streams. ``routes`` are POST only: path => what answers there.

    :mod:`sluice.runtime.streaming.loop` calls :meth:`stream` and sends each piece as it comes. Any other runtime calls
    the object itself and gets the same bytes at the end, as one text.
    """

    def __init__(self, routes: Mapping[str, Handler], *, authorize: Authorization) -> None:
        self._routes = routes
        self._authorize = authorize

    def __call__(self, event: dict[str, Any], context: LambdaContext) -> str:
        """All of the response at once."""
        return b"".join(self.stream(event, context)).decode()

    def stream(self, event: dict[str, Any], context: LambdaContext) -> Generator[bytes, None, None]:
        """The response piece by piece, the prelude first. To be read to its end, whoever is still there to hear it.

        One canonical line and the function's metrics are written at the end, whatever happens.

        :raises UnexpectedFailureError: it broke off by a fault of ours; the caller has been told.
        """
        invocation = Invocation(context)
        request_id = request_id_of(event)
        response = answered(lambda: self._serve(event, invocation, request_id))
        status, failed = (200, True) if isinstance(response, EventStream) else (response.status, True)
        try:
            yield from _pieces(response, request_id)
            failed = status >= 500
        finally:
            invocation.finish(failed=failed, throttled=status == 429, status=status)

    def _serve(self, event: dict[str, Any], invocation: Invocation, request_id: str) -> ApiResponse | EventStream:
        invocation.begin(request_id=request_id)
        method, path = event["requestContext"]["http"]["method"], event["rawPath"]
        handler = self._routes.get(path)
        if handler is None or method != "POST":
            raise NotFoundError(UNKNOWN_URL, code="unknown_url")
        logs.canonical(method=method, route=path)
        headers = headers_of(event)
        caller = self._caller(headers, request_id)
        logs.bind(key_id=caller.key_id)
        request = ApiRequest(
            method=method,
            resource=path,
            request_id=request_id,
            deadline=invocation.deadline,
            query=event.get("queryStringParameters") or {},
            headers=headers,
            body=body_of(event),
            caller=caller,
        )
        check_size(request.body, invocation.max_input_bytes)
        return handler(request)

    def _caller(self, headers: Mapping[str, str], request_id: str) -> Caller:
        try:
            return caller_of(self._authorize(headers), request_id)
        except AuthenticationError as error:
            # Why is for the log: a caller is told no more than by the gateway.
            raise AuthenticationError(WRONG_KEY) from error


def _pieces(response: ApiResponse | EventStream, request_id: str) -> Iterator[bytes]:
    if isinstance(response, ApiResponse):
        headers, body = content_of(response, request_id)
        yield _prelude(response.status, headers)
        yield body
        return
    yield _prelude(200, {**response.headers, "x-request-id": request_id})
    with contextlib.closing(response):
        try:
            yield from response.events
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller is told, and the text stays out of Lambda's log
            logs.canonical(**logs.describe(error))
            yield sse.event(http.unexpected_body())
            raise UnexpectedFailureError(f"{type(error).__name__}: see the log line 'request'.") from None


def _prelude(status: int, headers: Mapping[str, str]) -> bytes:
    return msgspec.json.encode({"statusCode": status, "headers": headers}) + PRELUDE_END
