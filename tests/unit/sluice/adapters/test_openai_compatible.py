import json

import pytest

from sluice.adapters.openai_compatible import translate
from sluice.domain import errors
from sluice.testing.routes import target

CANARY = "canary that must not be passed on"
TARGET = target("openai/one")


def body(code: object = None, *, message: str = CANARY, error_type: object = None, param: object = None) -> bytes:
    return json.dumps({"error": {"message": message, "type": error_type, "code": code, "param": param}}).encode()


@pytest.mark.parametrize(
    ("status", "answer", "kind"),
    [
        (400, body("invalid_value"), errors.ProviderRejectedError),
        (400, body("context_length_exceeded"), errors.ContextTooLongError),
        (400, body(message="This model's maximum context length is 4096 tokens"), errors.ContextTooLongError),
        (400, body("content_filter"), errors.ContentFilteredError),
        (400, body("content_policy_violation"), errors.ContentFilteredError),
        (400, b"<html>", errors.ProviderRejectedError),
        (401, body("invalid_api_key"), errors.ProviderAuthError),
        (402, body(), errors.ProviderAuthError),
        (403, body(), errors.ProviderAuthError),
        (404, body("model_not_found"), errors.ProviderAuthError),
        (408, b"", errors.ProviderTimeoutError),
        (409, body(), errors.ProviderRejectedError),
        (413, body(), errors.ProviderRejectedError),
        (422, body(422), errors.ProviderRejectedError),
        (429, body("rate_limit_exceeded"), errors.ProviderThrottledError),
        (429, b"\xff", errors.ProviderThrottledError),
        (429, body("insufficient_quota"), errors.ProviderAuthError),
        (429, body(error_type="insufficient_quota"), errors.ProviderAuthError),
        (500, b"", errors.ProviderUnavailableError),
        (502, b"<html>Bad gateway", errors.ProviderUnavailableError),
        (503, body(), errors.ProviderOverloadedError),
        (504, body(), errors.ProviderTimeoutError),
        (529, body("overloaded_error"), errors.ProviderOverloadedError),
        (302, b"", errors.ProviderProtocolError),
        (204, b"", errors.ProviderProtocolError),
    ],
)
def test_every_status_has_its_error(status: int, answer: bytes, kind: type[errors.ProviderError]) -> None:
    error = translate(status, {}, answer, TARGET)
    assert type(error) is kind
    assert error.target == "openai/one"
    assert CANARY not in error.message


@pytest.mark.parametrize("status", [429, 503, 500])
def test_retry_after_is_passed_on(status: int) -> None:
    assert translate(status, {"Retry-After": "4"}, b"", TARGET).retry_after_s == 4


def test_names_are_passed_on_and_anything_longer_is_not() -> None:
    error = translate(400, {}, body("unsupported_value", param="messages[0].role"), TARGET)
    assert "unsupported_value" in error.message
    assert error.param == "messages[0].role"
    error = translate(400, {}, body(f"code {CANARY}", param=CANARY), TARGET)
    assert CANARY not in error.message
    assert error.param is None
