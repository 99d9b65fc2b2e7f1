"""The official ``openai`` client, validating strictly, straight against the handlers: no server, no socket."""

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import openai
import pytest

from functions.chat_completions import handler as chat_completions
from functions.completions import handler as completions
from functions.embeddings import handler as embeddings
from functions.models import handler as models
from sluice.domain import errors
from sluice.runtime.http import status_of
from sluice.services.infer import Inference, RetryPolicy
from sluice.services.list_models import ListModels
from sluice.testing.invocations import CALLER, FakeLambdaContext, api_event
from sluice.testing.ledger import FakeLedger
from sluice.testing.providers import FakeProvider
from sluice.testing.request_log import FakeRequestLog
from sluice.testing.routes import FakeRoutes, alias, target
from sluice.testing.target_states import healthy

ASK: list[Any] = [{"role": "user", "content": "hello"}]
ROUTES = FakeRoutes(target("bedrock/one"), alias("auto", "bedrock/one"))


class Gateway:
    """API Gateway's part: from an HTTP request to an event, and from what a handler returns to a response."""

    def __init__(self) -> None:
        self.provider = FakeProvider()
        self.restriction: dict[str, str] = {}

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        path = request.url.raw_path.decode().removeprefix("/v1")
        handler, resource, parameters = self._route(path)
        event = api_event(
            request.method,
            resource,
            body=request.content.decode() or None,
            headers=dict(request.headers),
            path_parameters=parameters,
            authorizer={**CALLER, **self.restriction},
        )
        answer = handler(event, FakeLambdaContext())
        return httpx2.Response(answer["statusCode"], headers=answer["headers"], text=answer["body"])

    @staticmethod
    def _route(path: str) -> tuple[Any, str, dict[str, str] | None]:
        if path.startswith("/models/"):
            return models.handler, "/v1/models/{model+}", {"model": path.removeprefix("/models/")}
        handlers = {
            "/chat/completions": chat_completions.handler,
            "/completions": completions.handler,
            "/embeddings": embeddings.handler,
            "/models": models.handler,
        }
        return handlers[path], f"/v1{path}", None


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Gateway:
    gateway = Gateway()
    inference = Inference(
        routes=ROUTES,
        providers={"bedrock": gateway.provider},
        request_log=FakeRequestLog(),
        ledger=FakeLedger(),
        watch=healthy(),
        policy=RetryPolicy(max_attempts=1),
        http_status=status_of,
    )
    monkeypatch.setattr(chat_completions, "inference", lambda: inference)
    monkeypatch.setattr(completions, "inference", lambda: inference)
    monkeypatch.setattr(embeddings, "inference", lambda: inference)
    monkeypatch.setattr(models, "catalogue", lambda: ListModels(ROUTES))
    return gateway


def _client(gateway: Gateway, *, strict: bool) -> openai.OpenAI:
    return openai.OpenAI(
        api_key="sk-sluice-test",
        base_url="http://gateway/v1",
        max_retries=0,
        http_client=httpx2.Client(transport=httpx2.MockTransport(gateway)),
        _strict_response_validation=strict,
    )


@pytest.fixture
def client(gateway: Gateway) -> Iterator[openai.OpenAI]:
    with _client(gateway, strict=True) as client:
        yield client


def test_chat(client: openai.OpenAI) -> None:
    completion = client.chat.completions.create(model="auto", messages=ASK, max_completion_tokens=5)
    assert completion.choices[0].message.content == "answer of bedrock/one"
    assert completion.usage is not None
    assert completion.usage.total_tokens == 15
    assert completion._request_id == "gateway-request-1"


def test_a_refusal(gateway: Gateway, client: openai.OpenAI) -> None:
    gateway.provider.refusal = "I cannot help with that."
    [choice] = client.chat.completions.create(model="auto", messages=ASK).choices
    assert (choice.message.content, choice.message.refusal) == (None, "I cannot help with that.")
    with client.chat.completions.create(model="auto", messages=ASK, stream=True) as stream:
        assert [chunk.choices[0].delta.refusal for chunk in stream] == [None, "I cannot help with that.", None]


def test_embeddings(client: openai.OpenAI) -> None:
    answer = client.embeddings.create(model="auto", input=["a", "b"], encoding_format="float")
    assert [item.embedding for item in answer.data] == [[0.0, 0.5], [1.0, 0.5]]


def test_embeddings_in_the_form_that_the_client_asks_for_by_itself(gateway: Gateway) -> None:
    with _client(gateway, strict=False) as client:  # strict validation knows no base64, not even OpenAI's own
        answer = client.embeddings.create(model="auto", input="a")
    assert answer.data[0].embedding == [0.0, 0.5]


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["auto", "bedrock/one"]
    assert client.models.retrieve("bedrock/one").owned_by == "bedrock"


def test_an_unknown_model_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as raised:
        client.chat.completions.create(model="nonsense", messages=ASK)
    assert (raised.value.code, raised.value.param, raised.value.request_id) == (
        "model_not_found",
        "model",
        "gateway-request-1",
    )


def test_a_malformed_body_is_a_bad_request_that_names_the_field(client: openai.OpenAI) -> None:
    wrong: Any = [{"role": "user", "content": 5}]
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(model="auto", messages=wrong)
    assert (raised.value.param, raised.value.type) == ("messages[0].content", "invalid_request_error")


def test_a_stream_is_read_piece_by_piece(client: openai.OpenAI) -> None:
    with client.chat.completions.create(
        model="auto", messages=ASK, stream=True, stream_options={"include_usage": True}
    ) as stream:
        *chunks, last = stream
    assert stream.response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert stream.response.headers["x-sluice-target"] == "bedrock/one"
    assert [chunk.choices[0].delta.content for chunk in chunks] == ["", "answer", " of ", "bedrock/one", None]
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert last.usage is not None
    assert (last.choices, last.usage.total_tokens) == ([], 15)


def test_a_stream_that_breaks_off_raises_what_broke_it(client: openai.OpenAI, gateway: Gateway) -> None:
    gateway.provider.breaks = lambda where: errors.ProviderUnavailableError("It broke off.", target=where.name)
    gateway.provider.breaks_after = 2
    read: list[str | None] = []
    with (
        client.chat.completions.create(model="auto", messages=ASK, stream=True) as stream,
        pytest.raises(openai.APIError) as raised,
    ):
        read.extend(chunk.choices[0].delta.content for chunk in stream)
    assert (raised.value.code, raised.value.type) == ("provider_unavailable", "server_error")
    assert stream.response.status_code == 200


def test_a_stream_that_never_starts_is_an_ordinary_error(client: openai.OpenAI, gateway: Gateway) -> None:
    gateway.provider._failures = [lambda where: errors.ProviderThrottledError("Later.", target=where.name)]
    with pytest.raises(openai.RateLimitError):
        client.chat.completions.create(model="auto", messages=ASK, stream=True)


def test_a_completion_is_a_text(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="auto", prompt="hello ", echo=True)
    assert (answer.choices[0].text, answer.model) == ("hello answer of bedrock/one", "bedrock/one")
    assert answer.usage is not None
    assert answer.usage.total_tokens == 15


def test_a_completion_may_be_streamed(gateway: Gateway) -> None:
    # Its type wants a reason in every chunk, which OpenAI itself gives in the last one only.
    client = _client(gateway, strict=False)
    with client.completions.create(model="auto", prompt="hello ", echo=True, stream=True) as stream:
        assert "".join(chunk.choices[0].text for chunk in stream) == "hello answer of bedrock/one"


@pytest.mark.parametrize("field", [{"suffix": "."}, {"logprobs": 1}, {"best_of": 2}])
def test_what_a_completion_cannot_have_is_named(client: openai.OpenAI, field: dict[str, Any]) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.completions.create(model="auto", prompt="hello", **field)
    assert raised.value.param in field


def test_a_model_that_the_key_may_not_use_is_a_denied_permission(client: openai.OpenAI, gateway: Gateway) -> None:
    gateway.restriction = {"allowed_models": "fast"}
    with pytest.raises(openai.PermissionDeniedError):
        client.chat.completions.create(model="auto", messages=ASK)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (errors.ProviderThrottledError, openai.RateLimitError),
        (errors.ContextTooLongError, openai.BadRequestError),
        (errors.ProviderUnavailableError, openai.InternalServerError),
    ],
)
def test_what_a_provider_refuses_has_its_class(
    client: openai.OpenAI, gateway: Gateway, kind: type[errors.ProviderError], expected: type[openai.APIStatusError]
) -> None:
    gateway.provider._failures = [lambda where: kind("It failed.", target=where.name)]
    with pytest.raises(expected) as raised:
        client.chat.completions.create(model="auto", messages=ASK)
    assert json.loads(raised.value.response.text)["error"]["message"] == "It failed."
