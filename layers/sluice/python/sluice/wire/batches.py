"""Batches in OpenAI's wire format, and what Sluice adds to it.

https://platform.openai.com/docs/api-reference/batch
"""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from sluice.domain.batches import Batch, BatchEndpoint, BatchError, NewBatch, OutputFormat
from sluice.domain.errors import InvalidRequestError
from sluice.domain.inference import Usage
from sluice.wire.files import ExpiresAfter
from sluice.wire.money import usd
from sluice.wire.parsing import parse

LONGEST_WINDOW_S: Final = 86_400
_WINDOW: Final = re.compile(r"([1-9][0-9]{0,3})([mh])")
_UNIT_S: Final = {"m": 60, "h": 3_600}

MetadataKey = Annotated[str, Meta(max_length=64)]
MetadataValue = Annotated[str, Meta(max_length=512)]


class BatchRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of ``POST /batches``.

    Sluice's own: windows shorter than ``24h`` (``90m``, ``6h``), ``callback_url`` and ``output_format``.
    """

    input_file_id: str
    endpoint: BatchEndpoint
    completion_window: str
    metadata: Annotated[dict[MetadataKey, MetadataValue], Meta(max_length=16)] | None = None
    output_expires_after: ExpiresAfter | None = None
    callback_url: str | None = None
    output_format: OutputFormat = OutputFormat.JSONL


class RequestCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Lines: all of them (0 until they are counted), those with an answer, and those with an error."""

    total: int
    completed: int
    failed: int


class BatchErrorObject(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with a batch, or with one ``line`` (counted from 1) of its input."""

    code: str
    message: str
    param: str | None
    line: int | None

    @classmethod
    def of(cls, error: BatchError) -> "BatchErrorObject":
        """``error`` as the batch's owner sees it."""
        return cls(code=error.code, message=error.message, param=error.param, line=error.line)


class BatchErrors(msgspec.Struct, frozen=True, kw_only=True):
    """A list of errors."""

    object: Literal["list"] = "list"
    data: tuple[BatchErrorObject, ...]


class InputTokensDetails(msgspec.Struct, frozen=True, kw_only=True):
    """Of the input tokens, those from the provider's cache."""

    cached_tokens: int


class OutputTokensDetails(msgspec.Struct, frozen=True, kw_only=True):
    """Of the output tokens, those spent on reasoning."""

    reasoning_tokens: int


class BatchUsage(msgspec.Struct, frozen=True, kw_only=True):
    """The tokens of all lines so far."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int

    @classmethod
    def of(cls, usage: Usage) -> "BatchUsage":
        """``usage`` in OpenAI's words."""
        return cls(
            input_tokens=usage.input_tokens,
            input_tokens_details=InputTokensDetails(cached_tokens=usage.cache_read_tokens),
            output_tokens=usage.output_tokens,
            output_tokens_details=OutputTokensDetails(reasoning_tokens=usage.reasoning_tokens),
            total_tokens=usage.total_tokens,
        )


class BatchObject(msgspec.Struct, frozen=True, kw_only=True):
    """A batch. Times are epoch seconds.

    Sluice's own: ``output_format``, ``callback_url``, and ``cost_usd``, what the lines so far have cost.
    """

    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    model: str | None
    errors: BatchErrors | None
    input_file_id: str
    completion_window: str
    status: str
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCounts
    usage: BatchUsage
    metadata: Mapping[str, str] | None
    output_format: OutputFormat
    callback_url: str | None
    cost_usd: str | None

    @classmethod
    def of(cls, batch: Batch) -> "BatchObject":
        """``batch`` as its owner sees it."""
        return cls(
            id=batch.id,
            endpoint=batch.endpoint.value,
            model=batch.model,
            errors=BatchErrors(data=tuple(map(BatchErrorObject.of, batch.errors))) if batch.errors else None,
            input_file_id=batch.input_file_id,
            completion_window=batch.completion_window,
            status=batch.status.value,
            output_file_id=batch.output_file_id,
            error_file_id=batch.error_file_id,
            created_at=batch.created_at,
            in_progress_at=batch.in_progress_at,
            expires_at=batch.expires_at,
            finalizing_at=batch.finalizing_at,
            completed_at=batch.completed_at,
            failed_at=batch.failed_at,
            expired_at=batch.expired_at,
            cancelling_at=batch.cancelling_at,
            cancelled_at=batch.cancelled_at,
            request_counts=RequestCounts(total=batch.lines, completed=batch.completed, failed=batch.failed),
            usage=BatchUsage.of(batch.usage or Usage(input_tokens=0)),
            metadata=batch.metadata,
            output_format=batch.output_format,
            callback_url=batch.callback_url,
            cost_usd=usd(batch.cost_micro_usd),
        )


class BatchList(msgspec.Struct, frozen=True, kw_only=True):
    """A page of batches, newest first. ``last_id`` is the next page's ``after``."""

    object: Literal["list"] = "list"
    data: tuple[BatchObject, ...]
    first_id: str | None
    last_id: str | None
    has_more: bool

    @classmethod
    def of(cls, batches: Sequence[Batch], *, has_more: bool) -> "BatchList":
        """``batches`` in their order."""
        return cls(
            data=tuple(map(BatchObject.of, batches)),
            first_id=batches[0].id if batches else None,
            last_id=batches[-1].id if batches else None,
            has_more=has_more,
        )


def new_batch(body: bytes) -> NewBatch:
    """What a body asks for. :raises InvalidRequestError: it is not what it should be."""
    asked = parse(body, BatchRequest)
    return NewBatch(
        endpoint=asked.endpoint,
        input_file_id=asked.input_file_id,
        completion_window=asked.completion_window,
        window_s=_window_s(asked.completion_window),
        output_format=asked.output_format,
        metadata=asked.metadata,
        callback_url=asked.callback_url,
        output_ttl_s=None if asked.output_expires_after is None else asked.output_expires_after.seconds,
    )


def _window_s(text: str) -> int:
    found = _WINDOW.fullmatch(text)
    seconds = int(found[1]) * _UNIT_S[found[2]] if found else 0
    if not 0 < seconds <= LONGEST_WINDOW_S:
        raise InvalidRequestError(
            "'completion_window' must be '24h', or a shorter time in minutes or hours, such as '90m' or '6h'.",
            code="invalid_value",
            param="completion_window",
        )
    return seconds
