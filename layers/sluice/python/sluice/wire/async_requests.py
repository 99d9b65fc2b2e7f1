"""Asynchronous requests over HTTP."""

from typing import Final

import msgspec

from sluice.domain.jobs import JOB_PREFIX, AsyncJob, JobStatus, JobView
from sluice.wire.chat import ChatCompletionResponse, CompletionUsage
from sluice.wire.failures import WorkError
from sluice.wire.money import usd

CHAT_ENDPOINT: Final = "/v1/chat/completions"
_OBJECT: Final = "async.request"


class AsyncRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An asynchronous request. Times are epoch seconds; ``response`` is what the sync route would have answered.

    ``cost_usd`` is left out while it is unknown.
    """

    id: str
    object: str
    status: JobStatus
    endpoint: str
    model: str
    created_at: int
    completed_at: int | None = None
    attempts: int | None = None
    response: ChatCompletionResponse | None = None
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
            attempts=job.attempts,
            response=_response(view),
            error=WorkError.of(view.error),
            usage=CompletionUsage.of(job.usage) if job.usage else None,
            cost_usd=usd(job.cost_micro_usd),
        )


def location(job: AsyncJob) -> str:
    """Where to ask how it stands, as a path of the API."""
    return f"/v1/async/{job.id}"


def _response(view: JobView) -> ChatCompletionResponse | None:
    if view.answer is None:
        return None
    return ChatCompletionResponse.of(
        view.answer.result,
        model=view.answer.target,
        created=view.job.completed_at or view.job.updated_at,
        # Fixed, so that asking again gives the same document.
        completion_id=f"chatcmpl-{view.job.id.removeprefix(JOB_PREFIX + '_')}",
    )
