"""Idempotency-Key on routes of the API: ``@idempotent`` answers a repeated request with what it was answered before."""

import functools
from collections.abc import Callable

import msgspec

from sluice.domain.replay import IDEMPOTENCY_HEADER, REPLAYED_HEADER, StoredResponse, fingerprint_of
from sluice.runtime.api import ApiRequest, ApiResponse, Handler
from sluice.runtime.invocation import SAFETY_MARGIN_S
from sluice.services.idempotency import Idempotency
from sluice.telemetry import logs


def idempotent(build: Callable[[], Idempotency]) -> Callable[[Handler], Handler]:
    """Do what a request with an Idempotency-Key asks for once. To be put under ``@requires``; ``build`` is cached.

    A response of success is kept, and given again with its status, headers and body, and ``idempotent-replayed: true``.
    Any other gives the key back, so that the request can be made again; so does a stream that broke off. While the
    first request is at work the others get 409; those that ask for something else under the same key get 422.
    """

    def guard(handler: Handler) -> Handler:
        @functools.wraps(handler)
        def guarded(request: ApiRequest) -> ApiResponse:
            header = request.headers.get(IDEMPOTENCY_HEADER)
            return handler(request) if header is None else _once(build(), header, handler, request)

        return guarded

    return guard


def _once(replays: Idempotency, header: str, handler: Handler, request: ApiRequest) -> ApiResponse:
    claim = replays.claim(
        request.authenticated.key_id,
        header,
        _fingerprint(request),
        # The deadline leaves this much of the function's life for what comes after the work.
        alive_s=request.deadline.remaining_s() + SAFETY_MARGIN_S,
    )
    stored = replays.begin(claim)
    if stored is not None:
        logs.canonical(replayed=True)
        return ApiResponse(stored.status, stored.body, {**stored.headers, REPLAYED_HEADER: "true"})
    try:
        response = _encoded(handler(request))
    except BaseException:
        replays.release(claim)
        raise
    if _is_final(response):
        replays.complete(claim, response)
    else:
        replays.release(claim)
    return ApiResponse(response.status, response.body, response.headers)


def _fingerprint(request: ApiRequest) -> str:
    parameters = {**request.query, **{f"{{{name}}}": value for name, value in request.path_parameters.items()}}
    return fingerprint_of(request.method, request.resource, parameters, request.body)


def _encoded(response: ApiResponse) -> StoredResponse:
    body = response.body if isinstance(response.body, bytes) else msgspec.json.encode(response.body)
    return StoredResponse(status=response.status, headers=response.headers, body=body)


def _is_final(response: StoredResponse) -> bool:
    """Whether the request succeeded. A stream has its status long before it can know."""
    if not 200 <= response.status < 300:
        return False
    if not response.headers.get("content-type", "").startswith("text/event-stream"):
        return True
    # Loaded by whoever made the stream, and by nobody else.
    from sluice.wire.sse import DONE

    return response.body.endswith(DONE)
