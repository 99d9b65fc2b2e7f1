import inspect

import pytest

from sluice.domain import errors
from sluice.runtime import http

CASES: list[tuple[type[errors.SluiceError], int, str]] = [
    (errors.InvalidRequestError, 400, "invalid_request_error"),
    (errors.AuthenticationError, 401, "authentication_error"),
    (errors.PermissionDeniedError, 403, "permission_error"),
    (errors.NotFoundError, 404, "invalid_request_error"),
    (errors.RequestTooLargeError, 413, "invalid_request_error"),
    (errors.ConflictError, 409, "invalid_request_error"),
    (errors.RequestTooLargeError, 413, "invalid_request_error"),
    (errors.ProviderThrottledError, 429, "rate_limit_error"),
    (errors.ProviderOverloadedError, 503, "server_error"),
    (errors.ProviderTimeoutError, 504, "server_error"),
    (errors.AllTargetsUnavailableError, 503, "server_error"),
    (errors.ProviderUnavailableError, 502, "server_error"),
    (errors.ProviderProtocolError, 502, "server_error"),
    (errors.InvalidModelOutputError, 502, "server_error"),
    (errors.AllTargetsUnavailableError, 503, "server_error"),
    (errors.InvalidModelOutputError, 502, "server_error"),
    (errors.ProviderAuthError, 502, "server_error"),
    (errors.ProviderRejectedError, 400, "invalid_request_error"),
    (errors.UnsupportedByTargetError, 400, "invalid_request_error"),
    (errors.UnsupportedByTargetError, 400, "invalid_request_error"),
    (errors.ContextTooLongError, 400, "invalid_request_error"),
    (errors.ContentFilteredError, 400, "invalid_request_error"),
    (errors.StateError, 503, "server_error"),
    (errors.StateConflictError, 409, "invalid_request_error"),
    (errors.ConfigurationError, 500, "server_error"),
]


def make(kind: type[errors.SluiceError]) -> errors.SluiceError:
    target = {"target": "a/one"} if issubclass(kind, errors.ProviderError) else {}
    return kind("What is wrong.", **target)


@pytest.mark.parametrize(("kind", "status", "error_type"), CASES)
def test_every_error_has_its_status_and_type(kind: type[errors.SluiceError], status: int, error_type: str) -> None:
    error = make(kind)
    assert http.status_of(error) == status
    assert http.error_body(error).error.type == error_type


def test_no_error_is_forgotten() -> None:
    bases = {errors.SluiceError, errors.CallerError, errors.ProviderError}
    every = {kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.SluiceError)}
    assert {kind for kind, _, _ in CASES} == every - bases


def test_what_only_an_operator_can_mend_is_not_told_to_callers() -> None:
    body = http.error_body(errors.ConfigurationError("TABLE_NAME is missing.")).error
    assert "TABLE_NAME" not in body.message
    assert body.code == "misconfigured"


def test_when_to_ask_again_is_told_in_whole_seconds() -> None:
    error = errors.ProviderThrottledError("Slow down.", target="a/one", retry_after_s=1.2)
    assert http.error_headers(error) == {"retry-after": "2"}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (errors.ConfigurationError, {"x-should-retry": "false"}),
        (errors.ProviderAuthError, {"x-should-retry": "false"}),
        (errors.ConflictError, {"x-should-retry": "false"}),
        (errors.ProviderUnavailableError, {}),
        (errors.NotFoundError, {}),
    ],
)
def test_clients_that_retry_by_status_are_told_when_it_is_useless(
    kind: type[errors.SluiceError], expected: dict[str, str]
) -> None:
    assert http.error_headers(make(kind)) == expected
