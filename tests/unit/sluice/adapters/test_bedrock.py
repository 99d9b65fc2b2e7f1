import io
import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    ParamValidationError,
    ReadTimeoutError,
    SSLError,
)
from botocore.response import StreamingBody
from botocore.stub import Stubber

from sluice.adapters import bedrock
from sluice.adapters.bedrock import Bedrock, rung
from sluice.domain import errors
from sluice.domain.inference import ChatRequest, EmbeddingRequest, FinishReason, Message, Usage
from sluice.testing.routes import target

CANARY = "canary-that-must-not-be-passed-on"
TARGET = target("bedrock/one")
ASK = ChatRequest(model="auto", messages=(Message("user", "hello"),))
URL = {"endpoint_url": f"https://internal/{CANARY}"}


class World:
    """The adapter over a real botocore client whose answers are stubbed, and checked against botocore's own model."""

    def __init__(self) -> None:
        self.client = boto3.client(
            "bedrock-runtime", region_name="us-east-1", config=Config(retries={"mode": "standard"})
        )
        self.stub = Stubber(self.client)
        self.stub.activate()
        self.timeouts: list[float] = []
        self.adapter = Bedrock(self._client_for, longest_timeout_s=20.0)

    def _client_for(self, timeout_s: float) -> Any:
        self.timeouts.append(timeout_s)
        return self.client

    def answers(self, *, text: str = "hi", stop: str = "end_turn", expected: Any = None, **usage: int) -> None:
        counted = {"inputTokens": 12, "outputTokens": 3, "totalTokens": 15, **usage}
        message = {"role": "assistant", "content": [{"text": text}]}
        answer = {
            "output": {"message": message},
            "stopReason": stop,
            "usage": counted,
            "metrics": {"latencyMs": 5},
        }
        self.stub.add_response("converse", answer, expected)

    def embeds(self, text: str, *, body: bytes | None = None, **extra: Any) -> None:
        expected = {
            "modelId": "model-of-bedrock/one",
            "body": json.dumps({"inputText": text, **extra}, separators=(",", ":")).encode(),
            "contentType": "application/json",
            "accept": "application/json",
        }
        body = body or json.dumps({"embedding": [0.5, len(text)], "inputTextTokenCount": len(text)}).encode()
        stream = StreamingBody(io.BytesIO(body), len(body))
        self.stub.add_response("invoke_model", {"body": stream, "contentType": "application/json"}, expected)


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.stub.assert_no_pending_responses()


def test_a_conversation_is_put_as_converse_wants_it(world: World) -> None:
    world.answers(
        expected={
            "modelId": "model-of-bedrock/one",
            "system": [{"text": "be brief"}, {"text": "be kind"}],
            "messages": [
                {"role": "user", "content": [{"text": "one"}, {"text": "two"}]},
                {"role": "assistant", "content": [{"text": "three"}]},
                {"role": "user", "content": [{"text": "four"}]},
            ],
            "inferenceConfig": {"maxTokens": 9, "temperature": 0.5, "topP": 0.9, "stopSequences": ["END"]},
        }
    )
    request = ChatRequest(
        model="auto",
        messages=(
            Message("system", "be brief"),
            Message("user", "one"),
            Message("system", "be kind"),
            Message("user", "two"),
            Message("assistant", "three"),
            Message("user", "four"),
        ),
        max_tokens=9,
        temperature=0.5,
        top_p=0.9,
        stop=("END",),
    )
    assert world.adapter.chat(TARGET, request, timeout_s=20).text == "hi"


def test_what_is_not_asked_for_is_not_sent(world: World) -> None:
    messages = [{"role": "user", "content": [{"text": "hello"}]}]
    world.answers(expected={"modelId": "model-of-bedrock/one", "messages": messages})
    world.adapter.chat(TARGET, ASK, timeout_s=20)


def test_tokens_of_the_cache_are_part_of_the_input(world: World) -> None:
    world.answers(cacheReadInputTokens=100, cacheWriteInputTokens=50)
    assert world.adapter.chat(TARGET, ASK, timeout_s=20).usage == Usage(
        input_tokens=162, output_tokens=3, cache_read_tokens=100, cache_write_tokens=50
    )


@pytest.mark.parametrize(
    ("stop", "reason"),
    [
        ("end_turn", FinishReason.STOP),
        ("stop_sequence", FinishReason.STOP),
        ("max_tokens", FinishReason.LENGTH),
        ("guardrail_intervened", FinishReason.CONTENT_FILTER),
        ("content_filtered", FinishReason.CONTENT_FILTER),
    ],
)
def test_why_it_stopped_is_told_in_openais_words(world: World, stop: str, reason: FinishReason) -> None:
    world.answers(stop=stop)
    assert world.adapter.chat(TARGET, ASK, timeout_s=20).finish_reason is reason


def test_one_text_is_one_call(world: World) -> None:
    world.embeds("hello", dimensions=256)
    request = EmbeddingRequest(model="embed", inputs=("hello",), dimensions=256)
    assert world.adapter.embed(TARGET, request, timeout_s=20).vectors == ((0.5, 5.0),)


def test_many_texts_come_back_in_their_order(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    monkeypatch.setattr(bedrock, "CONCURRENT_EMBEDDINGS", 1)  # the stub hands its answers out one after the other
    for text in ("a", "bb", "ccc"):
        world.embeds(text)
    result = world.adapter.embed(TARGET, EmbeddingRequest(model="embed", inputs=("a", "bb", "ccc")), timeout_s=20)
    assert result.vectors == ((0.5, 1.0), (0.5, 2.0), (0.5, 3.0))
    assert result.usage == Usage(input_tokens=6)


def test_what_was_embedded_before_a_failure_is_told_as_one_call(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    monkeypatch.setattr(bedrock, "CONCURRENT_EMBEDDINGS", 1)
    for text in ("a", "bb"):
        world.embeds(text)
    world.stub.add_client_error("invoke_model", "ThrottlingException", "", 429)
    with pytest.raises(errors.ProviderThrottledError) as raised:
        world.adapter.embed(TARGET, EmbeddingRequest(model="embed", inputs=("a", "bb", "ccc", "d")), timeout_s=20)
    assert raised.value.calls == (Usage(input_tokens=3),)


def test_a_failure_of_the_first_text_has_cost_nothing(world: World) -> None:
    world.stub.add_client_error("invoke_model", "ThrottlingException", "", 429)
    with pytest.raises(errors.ProviderThrottledError) as raised:
        world.adapter.embed(TARGET, EmbeddingRequest(model="embed", inputs=("a",)), timeout_s=20)
    assert raised.value.calls == ()


@pytest.mark.parametrize("body", [b"garbage", b"{}", b'{"embedding": "x", "inputTextTokenCount": 1}', b'"\xff"'])
def test_an_embedding_that_cannot_be_understood_is_a_protocol_error(world: World, body: bytes) -> None:
    world.embeds("hello", body=body)
    with pytest.raises(errors.ProviderProtocolError):
        world.adapter.embed(TARGET, EmbeddingRequest(model="embed", inputs=("hello",)), timeout_s=20)


def test_without_time_left_no_text_is_embedded(world: World) -> None:
    with pytest.raises(errors.ProviderTimeoutError):
        world.adapter.embed(TARGET, EmbeddingRequest(model="embed", inputs=("a", "b")), timeout_s=0.1)
    assert world.timeouts == []


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("ThrottlingException", 429, errors.ProviderThrottledError),
        ("ServiceQuotaExceededException", 400, errors.ProviderThrottledError),
        ("ModelTimeoutException", 408, errors.ProviderTimeoutError),
        ("ModelNotReadyException", 429, errors.ProviderOverloadedError),
        ("ServiceUnavailableException", 503, errors.ProviderOverloadedError),
        ("InternalServerException", 500, errors.ProviderUnavailableError),
        ("ModelErrorException", 424, errors.ProviderUnavailableError),
        ("SomethingNew", 500, errors.ProviderUnavailableError),
        ("502", 502, errors.ProviderUnavailableError),
        ("ValidationException", 400, errors.ProviderRejectedError),
        ("SomethingNew", 400, errors.ProviderRejectedError),
        ("AccessDeniedException", 403, errors.ProviderAuthError),
        ("UnrecognizedClientException", 403, errors.ProviderAuthError),
        ("ExpiredTokenException", 403, errors.ProviderAuthError),
        ("ResourceNotFoundException", 404, errors.ProviderAuthError),
    ],
)
def test_every_refusal_of_bedrock_has_its_error(
    world: World, code: str, status: int, kind: type[errors.ProviderError]
) -> None:
    world.stub.add_client_error("converse", code, CANARY, status)
    with pytest.raises(errors.ProviderError) as raised:
        world.adapter.chat(TARGET, ASK, timeout_s=20)
    assert type(raised.value) is kind
    assert raised.value.target == "bedrock/one"
    assert CANARY not in raised.value.message


@pytest.mark.parametrize(
    "message",
    [
        "Input is too long for requested model.",
        "Too many input tokens. Max input tokens: 8192, request input token count: 9000",
        "This model's maximum context length is 8192 tokens.",
    ],
)
def test_a_prompt_that_does_not_fit_is_told_apart(world: World, message: str) -> None:
    world.stub.add_client_error("converse", "ValidationException", message, 400)
    with pytest.raises(errors.ContextTooLongError):
        world.adapter.chat(TARGET, ASK, timeout_s=20)


def test_retry_after_is_passed_on(world: World) -> None:
    world.stub.add_client_error(
        "converse", "ThrottlingException", "", 429, response_meta={"HTTPHeaders": {"retry-after": "3"}}
    )
    with pytest.raises(errors.ProviderThrottledError) as raised:
        world.adapter.chat(TARGET, ASK, timeout_s=20)
    assert raised.value.retry_after_s == 3


@pytest.mark.parametrize(
    ("raised_by_botocore", "kind"),
    [
        (ReadTimeoutError(**URL), errors.ProviderTimeoutError),
        (ConnectTimeoutError(**URL), errors.ProviderTimeoutError),
        (EndpointConnectionError(**URL), errors.ProviderUnavailableError),
        (ConnectionClosedError(**URL), errors.ProviderUnavailableError),
        (SSLError(error=ValueError(CANARY), **URL), errors.ProviderUnavailableError),
        (ParamValidationError(report=CANARY), errors.ProviderRejectedError),
        (NoCredentialsError(), errors.ProviderAuthError),
    ],
)
def test_what_botocore_raises_itself_has_its_error_too(
    raised_by_botocore: BotoCoreError, kind: type[errors.ProviderError]
) -> None:
    error = bedrock.translate(raised_by_botocore, TARGET)
    assert type(error) is kind
    assert CANARY not in error.message


@pytest.mark.parametrize(
    ("timeout_s", "expected"),
    [(100, 20), (20, 20), (19.9, 10), (10, 10), (4, 2.5), (1, 0.625), (0.3, 0.15625), (0.001, 0.15625)],
)
def test_an_attempt_takes_the_longest_timeout_that_fits(timeout_s: float, expected: float) -> None:
    assert rung(timeout_s, longest_s=20) == expected


def test_the_ladder_of_clients_is_short() -> None:
    assert len({rung(tenths / 10, longest_s=20) for tenths in range(1, 300)}) <= 8


def test_the_client_is_asked_for_with_the_attempts_timeout(world: World) -> None:
    world.answers()
    world.adapter.chat(TARGET, ASK, timeout_s=12)
    assert world.timeouts == [10]
