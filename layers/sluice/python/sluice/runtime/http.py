"""Errors over HTTP: the one place where an error gets a status, and OpenAI's error shape."""

import math
from typing import Final

import msgspec

from sluice.domain import errors
from sluice.runtime import inference_headers

# The first class that an error is an instance of decides, so kinds stand above what they are a kind of.
_STATUS: Final[tuple[tuple[type[errors.SluiceError], int], ...]] = (
    (errors.AuthenticationError, 401),
    (errors.PermissionDeniedError, 403),
    (errors.NotFoundError, 404),
    (errors.AnswerNotTakenError, 408),
    (errors.ConflictError, 409),
    (errors.RequestTooLargeError, 413),
    (errors.IdempotencyMismatchError, 422),
    (errors.LimitError, 429),
    (errors.CallerError, 400),
    (errors.ProviderThrottledError, 429),
    (errors.AllTargetsUnavailableError, 503),
    (errors.ProviderOverloadedError, 503),
    (errors.ProviderTimeoutError, 504),
    (errors.ProviderRejectedError, 400),
    (errors.ProviderError, 502),
    (errors.StateConflictError, 409),
    (errors.StateError, 503),
)
# What the official clients know a spent budget by.
_OUT_OF_MONEY: Final = "insufficient_quota"
_TYPES: Final = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}

# https://github.com/openai/openai-python#retries
_RETRIED_BY_CLIENTS: Final = (409, 429, *range(500, 600))

OPERATORS_ONLY: Final = (
    "Sluice is misconfigured and cannot serve this request. Its operator can find out why by the request id."
)
UNEXPECTED: Final = "Something went wrong inside Sluice. Its operator can find out what by the request id."


class ErrorDetail(msgspec.Struct, frozen=True, kw_only=True):
    """OpenAI's error: ``type`` is the family, ``code`` the precise reason, ``param`` the field to blame."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(msgspec.Struct, frozen=True):
    """The body of every response that is not a success."""

    error: ErrorDetail


def status_of(error: errors.SluiceError) -> int:
    """The HTTP status of an error; 500 for one that only an operator can mend."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def error_type(status: int) -> str:
    """The ``type`` that goes with a status, in OpenAI's words."""
    return _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")


def error_body(error: errors.SluiceError) -> ErrorBody:
    """What the caller is told."""
    # A configuration error names variables, items and permissions: for the log, not for callers.
    hidden = isinstance(error, errors.ConfigurationError)
    return ErrorBody(
        ErrorDetail(
            message=OPERATORS_ONLY if hidden else error.message,
            type=_type_of(error),
            param=error.param,
            code=error.code,
        )
    )


def _type_of(error: errors.SluiceError) -> str:
    if isinstance(error, errors.BudgetExceededError):
        return _OUT_OF_MONEY
    # OpenAI tells by the type which of the two limits it was.
    return error.limit.value if isinstance(error, errors.RateLimitedError) else error_type(status_of(error))


def unexpected_body() -> ErrorBody:
    """What the caller is told of an exception nobody foresaw."""
    return ErrorBody(ErrorDetail(message=UNEXPECTED, type=error_type(500), code="internal_error"))


def error_headers(error: errors.SluiceError) -> dict[str, str]:
    """When to ask again, whether it is of any use (the ``openai`` clients obey both), and how far inference came."""
    headers = inference_headers.of(error.report) if error.report else {}
    retry_after_s: float | None = getattr(error, "retry_after_s", None)
    if retry_after_s is not None:
        headers["retry-after"] = str(max(1, math.ceil(retry_after_s)))
    if isinstance(error, errors.LimitError):
        headers |= inference_headers.of_standing(error.standing)
        if retry_after_s is not None:
            # To the millisecond, for clients that can be as exact as the window is.
            headers["retry-after-ms"] = str(max(1, math.ceil(retry_after_s * 1000)))
    never = isinstance(error, errors.LimitError) and retry_after_s is None
    # What is asked again costs as much again, whatever a client thinks of the status.
    never = never or isinstance(error, errors.AnswerTooLargeError)
    if never or (not error.retryable and status_of(error) in _RETRIED_BY_CLIENTS):
        headers["x-should-retry"] = "false"
    return headers
