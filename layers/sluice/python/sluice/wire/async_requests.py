"""Asynchronous requests over HTTP."""

from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from sluice.domain.errors import InvalidRequestError
from sluice.domain.jobs import AsyncJob, JobStatus, JobView
from sluice.wire.chat import CompletionUsage
from sluice.wire.failures import WorkError
from sluice.wire.money import usd
from sluice.wire.parsing import parse

CALLBACK_HEADER: Final = "x-sluice-callback-url"
CALLBACK_FIELD: Final = "callback_url"
RESULT_TTL_HEADER: Final = "x-sluice-result-ttl"
SHORTEST_RESULT_TTL_S: Final = 60
_OBJECT: Final = "async.request"
_ROUTE: Final = "/v1/async"


class _Callback(msgspec.Struct, frozen=True):
    """What a body may say beside what its sync route reads, which ignores it."""

    callback_url: str | None = None


class AsyncRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An asynchronous request. Times are epoch seconds; ``response`` is what the sync route would have answered.

    ``cost_usd`` is left out while it is unknown. ``expires_at`` is when it is forgotten.
    """

    id: str
    object: str
    status: JobStatus
    endpoint: str
    model: str
    created_at: int
    completed_at: int | None = None
    cancelled_at: int | None = None
    expires_at: int | None = None
    attempts: int | None = None
    callback_url: str | None = None
    response: msgspec.Raw | None = None
    error: WorkError | None = None
    usage: CompletionUsage | None = None
    cost_usd: str | None = None

    @classmethod
    def accepted(cls, job: AsyncJob) -> "AsyncRequest":
        """The answer to its submission."""
        return cls(
            id=job.id,
            object=_OBJECT,
            status=job.status,
            endpoint=job.endpoint,
            model=job.model,
            created_at=job.created_at,
            expires_at=job.forgotten_at,
            callback_url=job.callback_url,
        )

    @classmethod
    def of(cls, view: JobView) -> "AsyncRequest":
        """How it stands now."""
        job = view.job
        return cls(
            id=job.id,
            object=_OBJECT,
            status=view.status,
            endpoint=job.endpoint,
            model=job.model,
            created_at=job.created_at,
            completed_at=job.completed_at,
            cancelled_at=job.cancelled_at,
            expires_at=job.forgotten_at,
            attempts=job.attempts,
            callback_url=job.callback_url,
            response=None if view.answer is None else msgspec.Raw(view.answer),
            error=WorkError.of(view.error),
            usage=CompletionUsage.of(job.usage) if job.usage else None,
            cost_usd=usd(job.cost_micro_usd),
        )


class AsyncRequestList(msgspec.Struct, frozen=True, kw_only=True):
    """A page of asynchronous requests, newest first, without answers. ``last_id`` is the next page's ``after``."""

    object: Literal["list"] = "list"
    data: tuple[AsyncRequest, ...]
    first_id: str | None
    last_id: str | None
    has_more: bool

    @classmethod
    def of(cls, views: Sequence[JobView], *, has_more: bool) -> "AsyncRequestList":
        """``views`` in their order."""
        data = tuple(map(AsyncRequest.of, views))
        return cls(
            data=data,
            first_id=data[0].id if data else None,
            last_id=data[-1].id if data else None,
            has_more=has_more,
        )


def endpoint_of(resource: str) -> str:
    """The sync route that a route of asynchronous requests stands for: ``/v1/async/chat`` is for ``/v1/chat``."""
    return "/v1" + resource.removeprefix(_ROUTE)


def callback_of(header: str | None, body: bytes) -> tuple[str, str] | None:
    """The URL to call back, and which header or field it came in; ``None`` when nobody is to be called.

    ``header`` is what the header of that name says. An empty one says nothing.

    :raises InvalidRequestError: the header and the body name different ones, or the body is no JSON object.
    """
    field = parse(body, _Callback).callback_url
    if not header:
        return None if field is None else (field, CALLBACK_FIELD)
    if field is not None and field != header:
        raise InvalidRequestError(
            f"'{CALLBACK_FIELD}' and the header '{CALLBACK_HEADER}' differ. Send one of them.",
            code="invalid_value",
            param=CALLBACK_FIELD,
        )
    return header, CALLBACK_HEADER


def result_ttl_s(text: str | None, *, most: int) -> int | None:
    """How long an answer is to be kept, by the header of that name: 60 to ``most`` seconds.

    :raises InvalidRequestError: it is no number, or out of range.
    """
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 10 or not SHORTEST_RESULT_TTL_S <= int(text) <= most:
        raise InvalidRequestError(
            f"'{RESULT_TTL_HEADER}' must be a number of seconds from {SHORTEST_RESULT_TTL_S} to {most}.",
            code="invalid_value",
            param=RESULT_TTL_HEADER,
        )
    return int(text)


def location(job: AsyncJob) -> str:
    """Where to ask how it stands, as a path of the API."""
    return f"/v1/async/{job.id}"
