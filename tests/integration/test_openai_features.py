"""Streams, tools and JSON through the API, asked for by the official client as its users do."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel

from tests.integration.support import Platform

CONTEXT = "The museum opens at nine. Admission is twelve euros. The cafe serves lunch until three."
ASK: Any = [{"role": "system", "content": CONTEXT}, {"role": "user", "content": "What does admission cost?"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the current weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]}},
            "required": ["city"],
        },
    },
}
QUESTION: Any = {"role": "user", "content": "What is the weather in Paris?"}
MODELS = ("bedrock/extractive-v1", "openai/extractive-v1")


class Person(BaseModel):
    name: str
    age: int
    mood: Literal["happy", "sad"]
    hobbies: list[str]


@pytest.mark.parametrize("model", MODELS)
def test_a_stream_is_whole_and_tells_its_tokens(platform: Platform, model: str) -> None:
    client = platform.openai()
    with client.chat.completions.create(
        model=model, messages=ASK, stream=True, stream_options={"include_usage": True}
    ) as stream:
        *chunks, last = stream
    whole = client.chat.completions.create(model=model, messages=ASK)
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert sum(bool(piece) for piece in pieces) > 3
    assert "".join(pieces) == whole.choices[0].message.content
    assert [chunk.choices[0].finish_reason for chunk in chunks[-2:]] == [None, "stop"]
    assert last.choices == []
    assert last.usage == whole.usage
    headers = stream.response.headers
    assert headers["content-type"].startswith("text/event-stream")
    assert (headers["x-sluice-target"], headers["x-sluice-attempts"]) == (model, "1")
    assert float(headers["x-sluice-cost-usd"]) > 0


def test_a_stream_may_be_read_asynchronously(platform: Platform) -> None:
    async def read() -> str:
        async with openai.AsyncOpenAI(
            base_url=platform.url, api_key=platform.key, max_retries=0, _strict_response_validation=True
        ) as client:
            stream = await client.chat.completions.create(model="auto", messages=ASK, stream=True)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    assert "twelve euros" in asyncio.run(read())


@pytest.mark.parametrize("model", MODELS)
def test_the_clients_stream_helper_adds_everything_up(platform: Platform, model: str) -> None:
    with platform.openai().chat.completions.stream(model=model, messages=[QUESTION], tools=[WEATHER]) as stream:
        done = [event for event in stream if event.type == "tool_calls.function.arguments.done"]
    [message] = [choice.message for choice in stream.get_final_completion().choices]
    assert [(event.name, json.loads(event.arguments)) for event in done] == [("get_weather", {"city": "Paris"})]
    assert message.tool_calls is not None
    assert message.tool_calls[0].id


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("streamed", [False, True])
def test_a_tool_round_trip(platform: Platform, model: str, *, streamed: bool) -> None:
    client = platform.openai()
    if streamed:
        with client.chat.completions.stream(model=model, messages=[QUESTION], tools=[WEATHER]) as stream:
            first: Any = stream.get_final_completion()
    else:
        first = client.chat.completions.create(model=model, messages=[QUESTION], tools=[WEATHER])
    choice = first.choices[0]
    assert choice.finish_reason == "tool_calls"
    [call] = choice.message.tool_calls
    assert json.loads(call.function.arguments) == {"city": "Paris"}
    result: Any = {"role": "tool", "tool_call_id": call.id, "content": '{"temperature": 18, "sky": "overcast"}'}
    history = [QUESTION, choice.message.model_dump(exclude_none=True), result]
    second = client.chat.completions.create(model=model, messages=history, tools=[WEATHER])
    assert second.choices[0].finish_reason == "stop"
    assert "overcast" in (second.choices[0].message.content or "")


@pytest.mark.parametrize("model", MODELS)
def test_an_answer_is_parsed_into_a_class(platform: Platform, model: str) -> None:
    completion = platform.openai().chat.completions.parse(
        model=model,
        messages=[
            {"role": "system", "content": "Extract the person."},
            {"role": "user", "content": "Ann Smith is 34 years old. She loves tennis and chess and smiles all day."},
        ],
        response_format=Person,
    )
    person = completion.choices[0].message.parsed
    assert person is not None
    assert (person.name, person.age, person.mood) == ("Ann Smith", 34, "happy")


@pytest.mark.parametrize("model", MODELS)
def test_any_json_object_will_do(platform: Platform, model: str) -> None:
    answer = platform.openai().chat.completions.create(
        model=model, messages=ASK, response_format={"type": "json_object"}
    )
    assert isinstance(json.loads(answer.choices[0].message.content or ""), dict)


def test_all_that_is_supported_at_once(platform: Platform) -> None:
    """What the client's own test of all parameters sends, less what is documented as unsupported."""
    body = {
        "model": "cheap",
        "messages": [{"role": "developer", "content": CONTEXT, "name": "name"}, ASK[1]],
        "frequency_penalty": -2,
        "function_call": "none",
        "logit_bias": {"foo": 0},
        "logprobs": False,
        "max_completion_tokens": 50,
        "max_tokens": 50,
        "metadata": {"foo": "string"},
        "modalities": ["text"],
        "n": 1,
        "parallel_tool_calls": True,
        "presence_penalty": -2,
        "prompt_cache_key": "prompt-cache-key-1234",
        "reasoning_effort": "none",
        "response_format": {"type": "text"},
        "safety_identifier": "safety-identifier-1234",
        "seed": -9007199254740991,
        "service_tier": "auto",
        "stop": "\n",
        "store": True,
        "stream": False,
        "stream_options": {"include_obfuscation": True, "include_usage": True},
        "temperature": 1,
        "tool_choice": "none",
        "tools": [WEATHER],
        "top_logprobs": 0,
        "top_p": 1,
        "user": "user-1234",
        "verbosity": "low",
    }
    answer = platform.call("POST", "/chat/completions", body)
    assert answer.status == 200, answer.body
    assert "twelve euros" in answer.body["choices"][0]["message"]["content"]


@pytest.mark.parametrize(
    ("field", "param"),
    [
        ({"presence_penalty": 1.5}, "presence_penalty"),
        ({"temperature": 1.5}, "temperature"),
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"stream": "yes"}, "stream"),
    ],
)
def test_what_cannot_be_done_is_named(platform: Platform, field: dict[str, Any], param: str) -> None:
    body = {"model": "bedrock/extractive-v1", "messages": ASK, **field}
    answer = platform.call("POST", "/chat/completions", body)
    assert (answer.status, answer.body["error"]["param"]) == (400, param)


def test_what_one_target_cannot_do_another_one_does(platform: Platform) -> None:
    answer = platform.call("POST", "/chat/completions", {"model": "auto", "messages": ASK, "temperature": 1.5})
    assert answer.status == 200, answer.body
    assert answer.body["model"] == "openai/extractive-v1"


@pytest.mark.parametrize("model", MODELS)
def test_a_completion_and_its_stream_say_the_same(platform: Platform, model: str) -> None:
    client = platform.openai(strict=False)
    prompt = f"{CONTEXT} What does admission cost?"
    whole = client.completions.create(model=model, prompt=prompt, echo=True)
    with client.completions.create(model=model, prompt=prompt, echo=True, stream=True) as stream:
        text = "".join(chunk.choices[0].text for chunk in stream)
    assert whole.choices[0].text == text
    assert text.startswith(prompt)
    assert "twelve euros" in text.removeprefix(prompt)


@pytest.mark.parametrize("model", ["bedrock/wordllama-256", "openai/wordllama-256"])
def test_embeddings_are_the_same_in_every_form(platform: Platform, model: str) -> None:
    client = platform.openai(strict=False)
    plain = client.embeddings.create(model=model, input=["one text", "another"], encoding_format="float")
    packed = client.embeddings.create(model=model, input=["one text", "another"])
    short = client.embeddings.create(model=model, input="one text", dimensions=64)
    for one, other in zip(plain.data, packed.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)
    assert len(short.data[0].embedding) == 64
    refused = platform.call("POST", "/embeddings", {"model": model, "input": [1, 2, 3]})
    assert (refused.status, refused.body["error"]["param"]) == (400, "input[0]")


def test_an_answer_that_lambda_cannot_carry_is_told_and_not_asked_for_again(platform: Platform) -> None:
    many = [f"text {number}" for number in range(2048)]
    with pytest.raises(openai.BadRequestError) as refused:
        platform.openai().embeddings.create(model="embed", input=many, encoding_format="float")
    headers = refused.value.response.headers
    assert refused.value.code == "answer_too_large"
    assert headers["x-should-retry"] == "false"
    # It was made, so it is billed.
    assert float(headers["x-sluice-cost-usd"]) > 0
    fewer = platform.openai().embeddings.create(model="embed", input=many[:500], encoding_format="float")
    assert len(fewer.data) == 500
