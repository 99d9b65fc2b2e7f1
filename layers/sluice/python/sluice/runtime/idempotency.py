"""Idempotency-Key on routes of the API: ``@idempotent`` answers a repeated request with what it was answered before."""

import functools
import re
from collections.abc import Callable, Generator
from typing import Final

import msgspec

from sluice.domain.replay import IDEMPOTENCY_HEADER, REPLAYED_HEADER, ReplayClaim, StoredResponse, fingerprint_of
from sluice.runtime.api import ApiRequest, ApiResponse, EventStream, Handler, encoded, is_too_large
from sluice.runtime.invocation import LARGEST_MARGIN_S
from sluice.services.idempotency import Idempotency
from sluice.telemetry import logs

_BOUNDARY: Final = re.compile(r'^multipart/form-data;.*\bboundary="?([^";]+)', re.IGNORECASE)


def idempotent(build: Callable[[], Idempotency]) -> Callable[[Handler], Handler]:
    """Do what a request with an Idempotency-Key asks for once. To be put under ``@requires``; ``build`` is cached.

    A response of success is kept, and given again with its status, headers and body, and ``idempotent-replayed: true``.
    Any other gives the key back, so that the request can be made again; so does a stream that broke off, and an answer
    that is too large to be sent. While the first request is at work the others get 409; those that ask for something
    else under the same key get 422.
    """

    def guard(handler: Handler) -> Handler:
        @functools.wraps(handler)
        def guarded(request: ApiRequest) -> ApiResponse | EventStream:
            header = request.headers.get(IDEMPOTENCY_HEADER)
            return handler(request) if header is None else _once(build(), header, handler, request)

        return guarded

    return guard


def _once(replays: Idempotency, header: str, handler: Handler, request: ApiRequest) -> ApiResponse | EventStream:
    claim = replays.claim(
        request.authenticated.key_id,
        header,
        _fingerprint(request),
        alive_s=request.deadline.remaining_s() + LARGEST_MARGIN_S,
    )
    stored = replays.begin(claim)
    if stored is not None:
        logs.canonical(replayed=True)
        return ApiResponse(stored.status, stored.body, {**stored.headers, REPLAYED_HEADER: "true"})
    try:
        made = handler(request)
        if isinstance(made, EventStream):
            return _Keeping(replays, claim, made, request).stream()
        response = StoredResponse(status=made.status, headers=made.headers, body=encoded(made))
    except BaseException:
        replays.release(claim)
        raise
    _finish(replays, claim, response, request)
    return ApiResponse(response.status, response.body, response.headers)


class _Keeping:
    """A stream that becomes the response to be given again once all of it has been sent."""

    def __init__(self, replays: Idempotency, claim: ReplayClaim, made: EventStream, request: ApiRequest) -> None:
        self._replays = replays
        self._claim = claim
        self._made = made
        self._request = request
        self._is_over = False

    def stream(self) -> EventStream:
        """The stream to be sent."""
        return msgspec.structs.replace(self._made, events=self._events(), abandon=self._abandon)

    def _events(self) -> Generator[bytes, None, None]:
        sent: list[bytes] = []
        for event in self._made.events:
            sent.append(event)
            yield event
        self._is_over = True
        response = StoredResponse(status=200, headers=self._made.closing(), body=b"".join(sent))
        _finish(self._replays, self._claim, response, self._request)

    def _abandon(self) -> None:
        self._made.close()
        if not self._is_over:
            self._is_over = True
            self._replays.release(self._claim)


def _finish(replays: Idempotency, claim: ReplayClaim, response: StoredResponse, request: ApiRequest) -> None:
    if _is_final(response) and not is_too_large(response.body, response.headers, request):
        replays.complete(claim, response)
    else:
        replays.release(claim)


def _fingerprint(request: ApiRequest) -> str:
    parameters = {**request.query, **{f"{{{name}}}": value for name, value in request.path_parameters.items()}}
    return fingerprint_of(request.method, request.resource, parameters, _told(request))


def _told(request: ApiRequest) -> bytes:
    """The body, without the boundary that a client thinks up anew each time it sends the same form."""
    boundary = _BOUNDARY.search(request.headers.get("content-type", ""))
    return request.body.replace(boundary[1].encode(), b"") if boundary else request.body


def _is_final(response: StoredResponse) -> bool:
    """Whether the request succeeded. A stream has its status long before it can know."""
    if not 200 <= response.status < 300:
        return False
    if not response.headers.get("content-type", "").startswith("text/event-stream"):
        return True
    # Loaded by whoever made the stream, and by nobody else.
    from sluice.wire.sse import DONE

    return response.body.endswith(DONE)
