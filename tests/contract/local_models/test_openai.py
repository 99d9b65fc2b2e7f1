"""The OpenAI protocol, as the official client understands it, with every answer checked against its types."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import openai
import pytest

from tests.contract.local_models.support import CHAT, EMBEDDINGS, KEY, SCORER, Server, says

CONTEXT = "The ferry leaves at seven. Bicycles travel free of charge. Dogs need a lead."
BIKES = says("Do bicycles cost anything?", CONTEXT)
ANSWER = "Bicycles travel free of charge."


def ask(server: Server, messages: Any = BIKES, **more: Any) -> Any:
    return server.openai().chat.completions.create(model=CHAT, messages=messages, **more)


def test_a_completion_answers_from_the_conversation_with_real_counts(server: Server) -> None:
    answer = ask(server)
    assert answer.choices[0].message.content == ANSWER
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == CHAT
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    counted = server.openai().embeddings.create(model=EMBEDDINGS, input=ANSWER, encoding_format="float")
    assert answer.usage.completion_tokens == counted.usage.prompt_tokens


def test_both_protocols_serve_the_same_model(server: Server) -> None:
    other = server.bedrock.converse(
        modelId=CHAT,
        system=[{"text": CONTEXT}],
        messages=[{"role": "user", "content": [{"text": BIKES[-1]["content"]}]}],
    )
    answer = ask(server)
    assert other["output"]["message"]["content"][0]["text"] == answer.choices[0].message.content
    assert other["usage"]["totalTokens"] == answer.usage.total_tokens


def test_content_may_come_in_parts_and_from_a_developer(server: Server) -> None:
    messages = [
        {"role": "developer", "content": CONTEXT},
        {"role": "assistant", "content": None},
        {
            "role": "user",
            "content": [{"type": "text", "text": "Do bicycles"}, {"type": "text", "text": "cost anything?"}],
        },
    ]
    assert "ree" in ask(server, messages).choices[0].message.content


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
def test_a_token_limit_cuts_the_answer(server: Server, limit: str) -> None:
    answer = ask(server, BIKES, **{limit: 3})
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 3
    assert ANSWER.startswith(answer.choices[0].message.content)


@pytest.mark.parametrize("stop", [" free", ["nowhere", " free"]])
def test_a_stop_sequence_ends_the_answer(server: Server, stop: Any) -> None:
    answer = ask(server, stop=stop)
    assert answer.choices[0].message.content == "Bicycles travel"
    assert answer.choices[0].finish_reason == "stop"


def test_a_stream_is_the_same_answer_in_pieces(server: Server) -> None:
    chunks = list(ask(server, stream=True, stream_options={"include_usage": True}))
    whole = ask(server)
    assert (chunks[0].choices[0].delta.role, chunks[0].choices[0].delta.content) == ("assistant", "")
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == ANSWER
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 2) + ["stop"]
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert {chunk.usage for chunk in chunks[:-1]} == {None}
    assert len({chunk.id for chunk in chunks}) == 1
    assert len(chunks) > 6


def test_a_stream_tells_its_usage_only_when_asked(server: Server) -> None:
    chunks = list(ask(server, stream=True))
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)


def test_a_stream_is_server_sent_events_with_an_end_mark(server: Server) -> None:
    answer = server.call(
        "POST",
        "/openai/v1/chat/completions",
        {"model": CHAT, "messages": BIKES, "stream": True},
        {"authorization": f"Bearer {KEY}"},
    )
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = answer.body.decode().split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    assert all(json.loads(event.removeprefix("data: "))["object"] == "chat.completion.chunk" for event in events[:-2])


def test_a_paraphrase_embeds_nearer_than_an_unrelated_sentence(server: Server) -> None:
    texts = ["a dog runs in the park", "a puppy is running outside", "quarterly tax accounting rules"]
    answer = server.openai().embeddings.create(model=EMBEDDINGS, input=texts, encoding_format="float")
    dog, puppy, tax = (one.embedding for one in answer.data)

    def dot(a: list[float], b: list[float]) -> float:
        return sum(x * y for x, y in zip(a, b, strict=True))

    assert dot(dog, puppy) > dot(dog, tax) + 0.2
    assert dot(dog, dog) == pytest.approx(1, abs=1e-5)
    assert [one.index for one in answer.data] == [0, 1, 2]
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 10


def test_base64_is_the_same_vector_in_little_endian_floats(server: Server) -> None:
    plain = (
        server.openai().embeddings.create(model=EMBEDDINGS, input="hello", encoding_format="float").data[0].embedding
    )
    # The client asks for base64 by itself and unpacks it, which its strict mode does not expect.
    assert server.openai(strict=False).embeddings.create(model=EMBEDDINGS, input="hello").data[0].embedding == plain
    raw = server.call(
        "POST",
        "/openai/v1/embeddings",
        {"model": EMBEDDINGS, "input": "hello", "encoding_format": "base64"},
        {"authorization": f"Bearer {KEY}"},
    )
    packed = base64.b64decode(raw.json["data"][0]["embedding"])
    assert list(struct.unpack("<256f", packed)) == plain


def test_fewer_dimensions_are_the_first_ones_at_unit_length(server: Server) -> None:
    client = server.openai()
    whole = client.embeddings.create(model=EMBEDDINGS, input="hello", encoding_format="float").data[0].embedding
    short = client.embeddings.create(model=EMBEDDINGS, input="hello", encoding_format="float", dimensions=64)
    vector = short.data[0].embedding
    length = sum(x * x for x in whole[:64]) ** 0.5
    assert vector == pytest.approx([x / length for x in whole[:64]], abs=1e-5)


def test_models_are_listed_and_fetched(server: Server) -> None:
    client = server.openai()
    assert [model.id for model in client.models.list()] == [CHAT, EMBEDDINGS]
    assert client.models.retrieve(CHAT).owned_by == "sluice-local"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("gpt-nothing")
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize("authorization", [None, "", "Bearer wrong", "Basic local-models-key", KEY])
@pytest.mark.parametrize("path", ["/chat/completions", "/embeddings", "/models", f"/models/{CHAT}"])
def test_nothing_is_told_without_the_key(server: Server, path: str, authorization: str | None) -> None:
    method = "GET" if "models" in path else "POST"
    headers = {} if authorization is None else {"authorization": authorization}
    answer = server.call(method, f"/openai/v1{path}", {} if method == "POST" else None, headers)
    assert answer.status == 401
    assert answer.json["error"]["code"] == "invalid_api_key"


def test_a_wrong_key_is_an_authentication_error_and_no_call(server: Server) -> None:
    with pytest.raises(openai.AuthenticationError) as caught:
        server.openai(key="wrong").chat.completions.create(model=CHAT, messages=BIKES)
    assert caught.value.code == "invalid_api_key"
    assert caught.value.request_id
    assert server.calls(CHAT) == 0


@pytest.mark.parametrize("model", ["gpt-nothing", SCORER])
def test_an_unknown_model_is_not_found(server: Server, model: str) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        server.openai().chat.completions.create(model=model, messages=BIKES)
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


USER = [{"role": "user", "content": "Hello."}]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": USER}, "model"),
        ({"model": 5, "messages": USER}, "model"),
        ({"model": EMBEDDINGS, "messages": USER}, "model"),
        ({"model": CHAT}, "messages"),
        ({"model": CHAT, "messages": []}, "messages"),
        ({"model": CHAT, "messages": "hi"}, "messages"),
        ({"model": CHAT, "messages": [{"role": "robot", "content": "hi"}]}, "messages[0].role"),
        ({"model": CHAT, "messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"model": CHAT, "messages": [{"role": "user"}]}, "messages[0].content"),
        ({"model": CHAT, "messages": [{"content": "hi"}]}, "messages[0].role"),
        ({"model": CHAT, "messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content"),
        ({"model": CHAT, "messages": USER, "temperature": 3}, "temperature"),
        ({"model": CHAT, "messages": USER, "top_p": -1}, "top_p"),
        ({"model": CHAT, "messages": USER, "max_tokens": 0}, "max_tokens"),
        ({"model": CHAT, "messages": USER, "stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"model": CHAT, "messages": USER, "n": 2}, "n"),
        ({"model": CHAT, "messages": USER, "tools": []}, "tools"),
        ({"model": CHAT, "messages": USER, "tool_choice": "required"}, "tool_choice"),
        ({"model": CHAT, "messages": USER, "parallel_tool_calls": True}, "parallel_tool_calls"),
        ({"model": CHAT, "messages": USER, "response_format": {"type": "xml"}}, "response_format.type"),
        ({"model": CHAT, "messages": USER, "response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"model": CHAT, "messages": USER, "logprobs": True}, "logprobs"),
        ({"model": CHAT, "messages": USER, "stream_options": {"include_usage": True}}, "stream_options"),
        ({"model": CHAT, "messages": USER, "maxTokens": 5}, "maxTokens"),
        ({"model": CHAT, "messages": [{"role": "user", "content": "word " * 40_000}]}, "messages"),
    ],
)
def test_a_malformed_completion_request_names_the_field(server: Server, body: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        server.openai().post("/chat/completions", body=body, cast_to=object)
    assert caught.value.param == param
    assert caught.value.type == "invalid_request_error"
    if "word " in str(body):
        assert caught.value.code == "context_length_exceeded"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"model": EMBEDDINGS}, "input"),
        ({"model": CHAT, "input": "hi"}, "model"),
        ({"model": EMBEDDINGS, "input": ""}, "input"),
        ({"model": EMBEDDINGS, "input": []}, "input"),
        ({"model": EMBEDDINGS, "input": ["a", ""]}, "input[1]"),
        ({"model": EMBEDDINGS, "input": [1, 2]}, "input[0]"),
        ({"model": EMBEDDINGS, "input": ["a"] * 2049}, "input"),
        ({"model": EMBEDDINGS, "input": "a", "dimensions": 512}, "dimensions"),
        ({"model": EMBEDDINGS, "input": "a", "encoding_format": "hex"}, "encoding_format"),
        ({"model": EMBEDDINGS, "input": "word " * 9_000}, "input"),
    ],
)
def test_a_malformed_embedding_request_names_the_field(server: Server, body: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        server.openai().post("/embeddings", body=body, cast_to=object)
    assert caught.value.param == param


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[]", b"null", b"5", b"[" * 100_000, b'{"a":' * 100_000])
@pytest.mark.parametrize("path", ["/chat/completions", "/embeddings"])
def test_a_body_that_is_no_json_object_is_refused_in_shape(server: Server, path: str, body: bytes) -> None:
    answer = server.call("POST", f"/openai/v1{path}", body, {"authorization": f"Bearer {KEY}"})
    assert answer.status == 400
    assert set(answer.json["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(("method", "path", "status"), [("POST", "/nothing", 404), ("GET", "/embeddings", 405)])
def test_an_unknown_address_is_refused_in_shape(server: Server, method: str, path: str, status: int) -> None:
    answer = server.call(method, f"/openai/v1{path}", headers={"authorization": f"Bearer {KEY}"})
    assert answer.status == status
    assert answer.json["error"]["message"] == f"Invalid URL ({method} /openai/v1{path})"
