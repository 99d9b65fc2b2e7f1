"""A function behind a URL, whatever runs it: requests in payload format 2.0, responses with their prelude."""

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from sluice.domain.errors import ConfigurationError, NotFoundError, ProviderThrottledError
from sluice.domain.keys import ApiKey, hash_secret, new_secret
from sluice.runtime import invocation
from sluice.runtime.api import ApiRequest, ApiResponse, EventStream
from sluice.runtime.streaming.function import UNKNOWN_URL, WRONG_KEY, StreamingFunction
from sluice.services.authorize import Authorize
from sluice.testing.invocations import FakeLambdaContext, streamed_response, url_event
from sluice.testing.keys import FakeKeys

SECRET = new_secret()
KEY = ApiKey(
    id="key_1",
    key_hash=hash_secret(SECRET),
    name="tests",
    prefix=SECRET[:14],
    created_at=1,
    allowed_models=("auto",),
)
BEARER = {"Authorization": f"Bearer {SECRET}"}
Respond = Callable[[ApiRequest], ApiResponse | EventStream]


def nothing() -> None:
    """There is nothing behind these events."""


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SLUICE_ENVIRONMENT", "test")
    monkeypatch.setenv("SLUICE_SERVICE", "echo")
    invocation._settings.cache_clear()
    yield
    invocation._settings.cache_clear()


@pytest.fixture
def keys() -> FakeKeys:
    return FakeKeys(KEY)


def function(keys: FakeKeys, respond: Respond) -> StreamingFunction:
    service = Authorize(keys, cache_seconds=60)
    return StreamingFunction({"/v1/echo": respond}, authorize=service.authorize)


def ask(keys: FakeKeys, respond: Respond, event: dict[str, Any] | None = None) -> tuple[int, dict[str, str], Any]:
    asked = url_event("POST", "/v1/echo", body={"a": 1}, headers=BEARER) if event is None else event
    prelude, body = streamed_response(function(keys, respond)(asked, FakeLambdaContext()))
    return prelude["statusCode"], prelude["headers"], json.loads(body) if body else None


def echo(request: ApiRequest) -> ApiResponse:
    return ApiResponse(200, {"body": request.body.decode(), "key": request.authenticated.key_id})


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def canonical(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    [line] = [line for line in lines(capsys) if line.get("event") == "request"]
    return line


def test_a_request_is_free_of_the_urls_form(keys: FakeKeys) -> None:
    seen: list[ApiRequest] = []

    def respond(request: ApiRequest) -> ApiResponse:
        seen.append(request)
        return ApiResponse(201, {})

    event = url_event("POST", "/v1/echo", body="text ü", headers={**BEARER, "X-Request-Id": "my-request-1"})
    status, headers, _ = ask(keys, respond, {**event, "queryStringParameters": {"a": "b"}})
    [request] = seen
    assert (status, headers["x-request-id"]) == (201, "my-request-1")
    assert (request.method, request.resource, request.body) == ("POST", "/v1/echo", "text ü".encode())
    assert (request.query, request.headers["authorization"]) == ({"a": "b"}, BEARER["Authorization"])
    caller = request.authenticated
    assert (caller.key_id, caller.request_id, caller.allowed_models) == ("key_1", "my-request-1", ("auto",))
    assert 27 < request.deadline.remaining_s() < 28


def test_a_base64_body_is_decoded(keys: FakeKeys) -> None:
    event = url_event("POST", "/v1/echo", body=base64.b64encode(b"text").decode(), headers=BEARER)
    assert ask(keys, echo, {**event, "isBase64Encoded": True})[2]["body"] == "text"


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/v1/echo"), ("POST", "/v1/other"), ("POST", "/echo"), ("POST", "/v1/echo/")]
)
def test_what_it_does_not_serve_is_unknown_to_everybody(keys: FakeKeys, method: str, path: str) -> None:
    for headers in (BEARER, {}):
        status, _, body = ask(keys, echo, url_event(method, path, headers=headers))
        assert status == 404
        assert body["error"] == {
            "message": UNKNOWN_URL,
            "type": "invalid_request_error",
            "param": None,
            "code": "unknown_url",
        }
    assert keys.reads == 0


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Bearer nonsense"}, {"Authorization": f"Bearer {new_secret()}"}]
)
def test_a_wrong_key_is_told_no_more_than_by_the_gateway(
    keys: FakeKeys, capsys: pytest.CaptureFixture[str], headers: dict[str, str]
) -> None:
    status, _, body = ask(keys, echo, url_event("POST", "/v1/echo", headers=headers))
    assert status == 401
    assert body["error"] == {
        "message": WRONG_KEY,
        "type": "authentication_error",
        "param": None,
        "code": "invalid_api_key",
    }
    line = canonical(capsys)
    assert line["level"] == "info"
    assert line["error_causes"][0].startswith("AuthenticationError: ")
    assert "key_id" not in line


def test_a_revoked_key_opens_nothing(keys: FakeKeys, capsys: pytest.CaptureFixture[str]) -> None:
    [key] = keys.stored.values()
    keys.stored[key.key_hash] = msgspec.structs.replace(key, revoked_at=1)
    status, _, body = ask(keys, echo)
    assert (status, body["error"]["message"]) == (401, WRONG_KEY)
    assert "revoked" in canonical(capsys)["error_causes"][0]


def test_a_key_is_looked_up_once_a_minute(keys: FakeKeys) -> None:
    streaming = function(keys, echo)
    for _ in range(3):
        streaming(url_event("POST", "/v1/echo", headers=BEARER), FakeLambdaContext())
    assert keys.reads == 1


def test_a_body_that_is_too_large_is_refused(keys: FakeKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_INPUT_BYTES", "5")
    status, _, body = ask(keys, echo)
    assert (status, body["error"]["code"]) == (413, "request_too_large")


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (NotFoundError("No."), 404, "not_found"),
        (ProviderThrottledError("Later.", target="a/one", retry_after_s=7.0), 429, "provider_throttled"),
        (ConfigurationError("A secret variable is missing."), 500, "misconfigured"),
        (ValueError("canary"), 500, "internal_error"),
    ],
)
def test_errors_become_the_responses_that_they_become_elsewhere(
    keys: FakeKeys, capsys: pytest.CaptureFixture[str], error: Exception, status: int, code: str
) -> None:
    def respond(request: ApiRequest) -> ApiResponse:
        raise error

    answered, headers, body = ask(keys, respond)
    assert (answered, body["error"]["code"]) == (status, code)
    assert headers.get("retry-after") == ("7" if status == 429 else None)
    assert "secret" not in json.dumps(body)
    output = lines(capsys)
    [line] = [line for line in output if line.get("event") == "request"]
    assert (line["status"], line["level"]) == (status, "error" if status >= 500 else "info")
    [metrics] = [line for line in output if "_aws" in line]
    assert (metrics["Errors"], metrics["Throttles"]) == (int(status >= 500), int(status == 429))
    assert "canary" not in json.dumps(output)


def test_events_go_out_one_by_one_behind_the_prelude(keys: FakeKeys, capsys: pytest.CaptureFixture[str]) -> None:
    made: list[str] = []

    def events() -> Iterator[bytes]:
        for name in ("one", "two"):
            made.append(name)
            yield name.encode()

    stream = EventStream(events=events(), headers={"content-type": "text/event-stream"}, closing=dict, abandon=nothing)
    pieces = function(keys, lambda _: stream).stream(url_event("POST", "/v1/echo", headers=BEARER), FakeLambdaContext())
    prelude, rest = streamed_response(next(pieces).decode())
    assert (prelude["statusCode"], prelude["headers"]["content-type"], rest) == (200, "text/event-stream", "")
    assert made == []
    assert next(pieces) == b"one"
    assert made == ["one"]
    assert lines(capsys) == []
    assert list(pieces) == [b"two"]
    line = canonical(capsys)
    assert (line["status"], line["route"], line["key_id"], line["level"]) == (200, "/v1/echo", "key_1", "info")


def test_a_stream_that_nobody_reads_on_is_closed(keys: FakeKeys, capsys: pytest.CaptureFixture[str]) -> None:
    closed: list[bool] = []

    def events() -> Iterator[bytes]:
        try:
            yield b"one"
            yield b"two"
        finally:
            closed.append(True)

    stream = EventStream(events=events(), headers={}, closing=dict, abandon=nothing)
    pieces = function(keys, lambda _: stream).stream(url_event("POST", "/v1/echo", headers=BEARER), FakeLambdaContext())
    next(pieces)
    next(pieces)
    pieces.close()
    assert closed == [True]
    assert canonical(capsys)["level"] == "error"
