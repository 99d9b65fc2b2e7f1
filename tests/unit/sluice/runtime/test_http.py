import inspect
from decimal import Decimal
from typing import Any

import pytest

from sluice.domain import errors
from sluice.domain.ledger import Limit, Limits, Standing
from sluice.domain.routing import Report
from sluice.runtime import http

CASES: list[tuple[type[errors.SluiceError], int, str]] = [
    (errors.InvalidRequestError, 400, "invalid_request_error"),
    (errors.AuthenticationError, 401, "authentication_error"),
    (errors.PermissionDeniedError, 403, "permission_error"),
    (errors.AnswerTooLargeError, 400, "invalid_request_error"),
    (errors.NotFoundError, 404, "invalid_request_error"),
    (errors.AnswerNotTakenError, 408, "invalid_request_error"),
    (errors.RequestTooLargeError, 413, "invalid_request_error"),
    (errors.ConflictError, 409, "invalid_request_error"),
    (errors.RequestInFlightError, 409, "invalid_request_error"),
    (errors.IdempotencyMismatchError, 422, "invalid_request_error"),
    (errors.RateLimitedError, 429, "tokens"),
    (errors.BudgetExceededError, 429, "insufficient_quota"),
    (errors.RequestTooLargeError, 413, "invalid_request_error"),
    (errors.ProviderThrottledError, 429, "rate_limit_error"),
    (errors.ProviderOverloadedError, 503, "server_error"),
    (errors.ProviderTimeoutError, 504, "server_error"),
    (errors.AnswerUnfinishedError, 504, "server_error"),
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
    (errors.LeasedError, 409, "invalid_request_error"),
    (errors.WebhookError, 500, "server_error"),
    (errors.ConfigurationError, 500, "server_error"),
]


LIMITS = Limits(
    rpm=60, tpm=9_000, monthly_budget_micro_usd=Decimal(2_500_000), total_budget_micro_usd=Decimal(4_000_000)
)
STANDING = Standing(
    limits=LIMITS,
    month="202611",
    reset_s=12.3,
    month_reset_s=86_400.0,
    remaining_requests=0,
    remaining_tokens=40,
    spent_micro_usd=Decimal(1_000_000),
    held_micro_usd=Decimal(250_000),
    total_spent_micro_usd=Decimal(3_500_000),
)


def make(kind: type[errors.SluiceError]) -> errors.SluiceError:
    if issubclass(kind, errors.LeasedError):
        return kind(lease_until=1_795_000_000)
    arguments: dict[str, Any] = {}
    if issubclass(kind, errors.ProviderError):
        arguments = {"target": "a/one"}
    elif issubclass(kind, errors.LimitError):
        arguments = {"limit": Limit.TOKENS, "standing": STANDING, "retry_after_s": 12.3}
    elif issubclass(kind, errors.RequestInFlightError):
        arguments = {"retry_after_s": 12.3}
    return kind("What is wrong.", **arguments)


@pytest.mark.parametrize(("kind", "status", "error_type"), CASES)
def test_every_error_has_its_status_and_type(kind: type[errors.SluiceError], status: int, error_type: str) -> None:
    error = make(kind)
    assert http.status_of(error) == status
    assert http.error_body(error).error.type == error_type


def test_no_error_is_forgotten() -> None:
    bases = {errors.SluiceError, errors.CallerError, errors.LimitError, errors.ProviderError}
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
        (errors.AnswerTooLargeError, {"x-should-retry": "false"}),
    ],
)
def test_clients_that_retry_by_status_are_told_when_it_is_useless(
    kind: type[errors.SluiceError], expected: dict[str, str]
) -> None:
    assert http.error_headers(make(kind)) == expected


RATE_HEADERS = {
    "x-ratelimit-limit-requests": "60",
    "x-ratelimit-remaining-requests": "0",
    "x-ratelimit-reset-requests": "13s",
    "x-ratelimit-limit-tokens": "9000",
    "x-ratelimit-remaining-tokens": "40",
    "x-ratelimit-reset-tokens": "13s",
    "x-sluice-budget-remaining-usd": "0.5",
}


@pytest.mark.parametrize("limit", [Limit.REQUESTS, Limit.TOKENS])
def test_a_rate_limit_says_which_it_was_and_when_it_is_over_to_the_millisecond(limit: Limit) -> None:
    error = errors.RateLimitedError("Too many.", limit=limit, standing=STANDING, retry_after_s=12.3001)
    body = http.error_body(error).error
    assert (http.status_of(error), body.type, body.code) == (429, limit.value, "rate_limit_exceeded")
    assert http.error_headers(error) == RATE_HEADERS | {"retry-after": "13", "retry-after-ms": "12301"}


@pytest.mark.parametrize(
    ("retry_after_s", "headers"),
    [(1.0, {"retry-after": "1", "retry-after-ms": "1000"}), (None, {})],
)
def test_a_spent_budget_is_not_worth_a_retry_by_a_machine(retry_after_s: float | None, headers: dict[str, str]) -> None:
    error = errors.BudgetExceededError(
        "Spent.", limit=Limit.TOTAL_BUDGET, standing=STANDING, retry_after_s=retry_after_s
    )
    body = http.error_body(error).error
    assert (body.type, body.code) == ("insufficient_quota", "insufficient_quota")
    assert http.error_headers(error) == RATE_HEADERS | {"x-should-retry": "false"} | headers


def test_a_request_larger_than_its_limit_is_not_worth_a_retry_either() -> None:
    error = errors.RateLimitedError("Too large.", limit=Limit.TOKENS, standing=STANDING, retry_after_s=None)
    assert http.error_headers(error) == RATE_HEADERS | {"x-should-retry": "false"}


def test_what_a_refused_request_came_to_is_told_too() -> None:
    error = errors.BudgetExceededError("Spent.", limit=Limit.TOTAL_BUDGET, standing=STANDING, retry_after_s=None)
    error.report = Report(attempts=1, target="a/one", cost_micro_usd=Decimal(7), standing=STANDING)
    headers = http.error_headers(error)
    assert (headers["x-sluice-cost-usd"], headers["x-sluice-budget-remaining-usd"]) == ("0.000007", "0.5")


def test_a_request_in_flight_says_when_it_will_be_over() -> None:
    error = errors.RequestInFlightError("At work.", retry_after_s=2.5)
    assert http.error_headers(error) == {"retry-after": "3", "x-should-retry": "false"}
