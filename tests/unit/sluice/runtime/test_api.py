import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from sluice.domain.errors import ConfigurationError, InvalidRequestError, ProviderThrottledError
from sluice.runtime import invocation
from sluice.runtime.api import LARGEST_RESPONSE_BYTES, ApiRequest, ApiResponse, EventStream, api_function
from sluice.testing.invocations import ADMINISTRATOR, CALLER, FakeLambdaContext, api_event
from sluice.wire import sse

CANARY = "canary-that-must-not-be-logged"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SLUICE_ENVIRONMENT", "test")
    monkeypatch.setenv("SLUICE_SERVICE", "echo")
    invocation._settings.cache_clear()
    yield
    invocation._settings.cache_clear()


def call(handler: Any, event: dict[str, Any] | None = None, **context: Any) -> dict[str, Any]:
    event = api_event("POST", "/v1/echo", body={"a": 1}) if event is None else event
    return api_function(handler)(event, FakeLambdaContext(**context))


def seen(event: dict[str, Any], **context: Any) -> ApiRequest:
    requests: list[ApiRequest] = []

    def handler(request: ApiRequest) -> ApiResponse:
        requests.append(request)
        return ApiResponse(200, {})

    assert call(handler, event, **context)["statusCode"] == 200
    return requests[0]


def raiser(error: Exception) -> Any:
    def handler(request: ApiRequest) -> ApiResponse:
        raise error

    return handler


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_request_is_free_of_api_gateways_form() -> None:
    request = seen(
        api_event(
            "POST",
            "/v1/models/{model+}",
            body="text ü",
            headers={"X-Custom": "1"},
            path_parameters={"model": "bedrock%2Fone"},
            authorizer={**CALLER, "allowed_models": "auto,fast"},
        )
    )
    assert (request.method, request.resource, request.body) == ("POST", "/v1/models/{model+}", "text ü".encode())
    assert request.headers == {"x-custom": "1"}
    assert request.path_parameters == {"model": "bedrock/one"}
    assert request.authenticated.key_id == "key_1"
    assert request.authenticated.request_id == "gateway-request-1"
    assert request.authenticated.allowed_models == ("auto", "fast")


def test_a_key_without_restriction_may_use_every_model() -> None:
    assert seen(api_event("GET", "/", authorizer=CALLER)).authenticated.allowed_models is None


def test_a_route_without_the_authorizer_never_passes_for_a_guarded_one() -> None:
    response = call(lambda request: ApiResponse(200, request.authenticated), api_event("GET", "/"))
    assert response["statusCode"] == 500


def test_a_base64_body_is_decoded() -> None:
    event = api_event("POST", "/", body=base64.b64encode(b"\x00\x01").decode())
    assert seen({**event, "isBase64Encoded": True}).body == b"\x00\x01"


def test_a_broken_base64_body_is_the_callers_mistake() -> None:
    event = {**api_event("POST", "/", body="***"), "isBase64Encoded": True}
    assert call(lambda request: ApiResponse(200, {}), event)["statusCode"] == 400


def test_the_deadline_leaves_the_gateway_time_to_pass_the_answer_on() -> None:
    """API Gateway gives up a second before Lambda does, and has begun to count before the function: infra/sync.tf."""
    assert 26.5 < seen(api_event("GET", "/"), seconds=30).deadline.remaining_s() <= 27
    assert 1.3 < seen(api_event("GET", "/"), seconds=3).deadline.remaining_s() <= 1.6


@pytest.mark.parametrize(("size", "status"), [(10, 200), (11, 413)])
def test_a_body_is_held_to_the_routes_limit(monkeypatch: pytest.MonkeyPatch, size: int, status: int) -> None:
    monkeypatch.setenv("MAX_INPUT_BYTES", "10")
    response = call(lambda _: ApiResponse(200, {}), api_event("POST", "/v1/echo", body="x" * size))
    assert response["statusCode"] == status
    assert status == 200 or json.loads(response["body"])["error"]["code"] == "request_too_large"


def test_the_limit_counts_bytes_as_they_are_and_not_as_they_were_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_INPUT_BYTES", "10")
    event = api_event("POST", "/v1/echo", body=base64.b64encode(b"x" * 10).decode()) | {"isBase64Encoded": True}
    assert call(lambda _: ApiResponse(200, {}), event)["statusCode"] == 200
    too_many = api_event("POST", "/v1/echo", body="é" * 6)
    assert call(lambda _: ApiResponse(200, {}), too_many)["statusCode"] == 413


def as_lambda_counts(response: dict[str, Any]) -> int:
    """The bytes of a response as AWS's runtime for Python 3.13 sends it."""
    return len(json.dumps(response, ensure_ascii=False).encode())


# Of a text of quotation marks each is escaped twice: in the body's JSON, and in the JSON around the body.
@pytest.mark.parametrize(("text", "sent_as"), [("x", 1), ("é", 2), ('"', 4)])
def test_a_response_that_lambda_would_drop_is_told_instead(text: str, sent_as: int) -> None:
    fits = (LARGEST_RESPONSE_BYTES - 300) // sent_as
    response = call(lambda _: ApiResponse(200, text * fits, {"x-sluice-cost-usd": "0.5"}))
    assert response["statusCode"] == 200
    assert as_lambda_counts(response) <= 6_291_556

    response = call(lambda _: ApiResponse(200, text * (fits + 300), {"x-sluice-cost-usd": "0.5"}))
    assert (response["statusCode"], json.loads(response["body"])["error"]["code"]) == (400, "answer_too_large")
    assert response["headers"].items() >= {"x-should-retry": "false", "x-sluice-cost-usd": "0.5"}.items()


def test_a_stream_in_one_piece_is_held_to_it_too() -> None:
    def handler(request: ApiRequest) -> EventStream:
        events = iter([b"data: x\n\n" * 500_000] * 2)
        return EventStream(events=events, headers={}, closing=lambda: dict(sse.HEADERS), abandon=lambda: None)

    response = call(handler)
    assert (response["statusCode"], json.loads(response["body"])["error"]["code"]) == (400, "answer_too_large")
    assert response["headers"]["content-type"] == "application/json"


def test_whoever_signed_an_admin_route_is_known() -> None:
    request = seen(api_event("GET", "/v1/admin/keys", actor=ADMINISTRATOR))
    assert (request.administrator.actor, request.administrator.request_id) == (ADMINISTRATOR, "gateway-request-1")
    assert request.caller is None


@pytest.mark.parametrize("identity", [None, {}, {"userArn": None}, {"userArn": ""}, {"sourceIp": "10.0.0.1"}])
def test_a_request_that_nobody_signed_has_no_administrator(identity: dict[str, str] | None) -> None:
    event = api_event("GET", "/v1/models", authorizer=CALLER)
    event["requestContext"]["identity"] = identity
    with pytest.raises(RuntimeError, match="IAM"):
        _ = seen(event).administrator


def test_what_the_key_may_do_comes_with_the_caller() -> None:
    event = api_event("GET", "/v1/models", authorizer={**CALLER, "scopes": "batch", "rpm": "60", "shards": "2"})
    caller = seen(event).authenticated
    assert (caller.scopes, caller.limits.rpm, caller.limits.shards) == (("batch",), 60, 2)


def test_a_context_that_cannot_be_read_lets_nobody_in() -> None:
    event = api_event("GET", "/v1/models", authorizer={**CALLER, "rpm": "many"})
    assert call(lambda _: ApiResponse(200, {}), event)["statusCode"] == 500


def test_an_answer_is_json_with_the_request_id() -> None:
    response = call(lambda request: ApiResponse(201, {"id": "x"}, {"x-extra": "1"}))
    assert (response["statusCode"], json.loads(response["body"])) == (201, {"id": "x"})
    assert response["headers"] == {
        "content-type": "application/json",
        "x-extra": "1",
        "x-request-id": "gateway-request-1",
    }


def test_bytes_are_json_already() -> None:
    assert call(lambda request: ApiResponse(200, b'{"a":1}'))["body"] == '{"a":1}'


@pytest.mark.parametrize(
    ("sent", "used"),
    [
        ("my-request-0001", "my-request-0001"),
        ("short", "gateway-request-1"),
        ("with space in it", "gateway-request-1"),
        ("x" * 129, "gateway-request-1"),
        ('quote"quote', "gateway-request-1"),
    ],
)
def test_a_callers_own_request_id_is_used_when_it_is_harmless(sent: str, used: str) -> None:
    event = api_event("GET", "/", headers={"X-Request-Id": sent})
    assert call(lambda request: ApiResponse(200, {}), event)["headers"]["x-request-id"] == used


def test_an_error_becomes_openais_shape() -> None:
    response = call(raiser(InvalidRequestError("'model' is required.", code="missing", param="model")))
    assert response["statusCode"] == 400
    assert json.loads(response["body"]) == {
        "error": {
            "message": "'model' is required.",
            "type": "invalid_request_error",
            "param": "model",
            "code": "missing",
        }
    }
    assert response["headers"]["x-request-id"] == "gateway-request-1"


def test_a_throttle_says_when_to_come_back() -> None:
    response = call(raiser(ProviderThrottledError("Slow down.", target="a", retry_after_s=7)))
    assert (response["statusCode"], response["headers"]["retry-after"]) == (429, "7")


def test_an_unexpected_exception_tells_nobody_its_text(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise KeyError(CANARY)
    except KeyError as cause:
        error = RuntimeError(CANARY)
        error.__cause__ = cause
    response = call(raiser(error))
    assert response["statusCode"] == 500
    assert json.loads(response["body"])["error"]["code"] == "internal_error"
    output = capsys.readouterr().out
    assert CANARY not in output + response["body"]
    canonical = json.loads(output.splitlines()[0])
    assert (canonical["level"], canonical["error_type"], canonical["error_causes"]) == (
        "error",
        "RuntimeError",
        ["KeyError"],
    )
    assert any("test_api.py" in place for place in canonical["error_at"])


def test_one_line_sums_the_request_up(capsys: pytest.CaptureFixture[str]) -> None:
    call(lambda request: ApiResponse(200, {}), api_event("POST", "/v1/echo", body=CANARY, authorizer=CALLER))
    [canonical, metric] = lines(capsys)
    assert canonical["event"] == "request"
    assert (
        canonical.items()
        >= {
            "level": "info",
            "method": "POST",
            "route": "/v1/echo",
            "status": 200,
            "request_id": "gateway-request-1",
            "key_id": "key_1",
            "function": "echo",
            "environment": "test",
        }.items()
    )
    assert canonical["duration_ms"] >= 0
    assert isinstance(canonical["cold_start"], bool)
    assert CANARY not in json.dumps([canonical, metric])


def test_the_functions_metrics_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    call(lambda request: ApiResponse(200, {}))
    call(raiser(ProviderThrottledError("Slow down.", target="a")))
    call(raiser(ValueError()))
    metrics = [line for line in lines(capsys) if "_aws" in line]
    assert [(line["Requests"], line["Errors"], line["Throttles"]) for line in metrics] == [
        (1, 0, 0),
        (1, 0, 1),
        (1, 1, 0),
    ]
    assert {line["Function"] for line in metrics} == {"echo"}


def test_nothing_of_one_request_is_left_in_the_next(capsys: pytest.CaptureFixture[str]) -> None:
    call(raiser(InvalidRequestError("Wrong.", param="model")), api_event("GET", "/", authorizer=CALLER))
    capsys.readouterr()
    call(lambda request: ApiResponse(200, {}), api_event("GET", "/"))
    canonical = lines(capsys)[0]
    assert "key_id" not in canonical
    assert "error_code" not in canonical


def test_only_the_first_request_of_a_container_is_cold(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invocation, "_unused", [True])
    for _ in range(2):
        call(lambda request: ApiResponse(200, {}))
    assert [line["cold_start"] for line in lines(capsys) if "cold_start" in line] == [True, False]


def test_a_function_that_does_not_know_who_it_is_says_so_in_the_log_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLUICE_SERVICE")
    response = call(lambda request: ApiResponse(200, {}))
    assert (response["statusCode"], json.loads(response["body"])["error"]["code"]) == (500, "misconfigured")
    assert "SLUICE_SERVICE" not in response["body"]
    assert "SLUICE_SERVICE" in lines(capsys)[0]["error_message"]


def test_a_configuration_error_names_its_cause_in_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    error = ConfigurationError("The table refused a call.")
    error.__cause__ = ValueError(CANARY)
    call(raiser(error))
    assert lines(capsys)[0]["error_causes"] == ["ValueError"]
