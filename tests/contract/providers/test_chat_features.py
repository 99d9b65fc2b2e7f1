"""Tools, JSON and streams, whatever protocol they are asked for in."""

from __future__ import annotations

import json
import time
from typing import Any

import jsonschema_rs
import msgspec
import pytest

from sluice.domain import errors
from sluice.domain.inference import (
    ChatDelta,
    ChatRequest,
    ChatResult,
    FinishReason,
    Message,
    NamedTool,
    ResponseFormat,
    StreamEnd,
    TextDelta,
    Tool,
    ToolCall,
)
from sluice.domain.streaming import Collector
from tests.contract.local_models.support import CHAT
from tests.contract.providers.conftest import Provider
from tests.contract.providers.test_providers import ASK

WEATHER = Tool(
    name="get_weather",
    description="Get the current weather in a city",
    parameters={
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "Name of the city"},
            "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
        },
        "required": ["city"],
        "additionalProperties": False,
    },
)
ORDERS = Tool(
    name="search_orders",
    description="Find the orders of a customer",
    parameters={
        "type": "object",
        "properties": {"customer": {"type": "string"}, "limit": {"type": "integer", "minimum": 1}},
        "required": ["customer"],
    },
)
QUESTION = Message("user", "What is the weather in Paris?")
CALLING = ChatRequest(model="auto", messages=(QUESTION,), tools=(ORDERS, WEATHER))
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer", "minimum": 0},
        "mood": {"enum": ["happy", "sad"]},
        "nickname": {"type": ["string", "null"]},
    },
    "required": ["name", "age", "mood", "nickname"],
    "additionalProperties": False,
}
STORY = Message("user", "Ann Smith is 34 years old. She loves her wonderful job and smiles all day.")


def answer(provider: Provider, request: ChatRequest) -> ChatResult:
    return provider.adapter.chat(provider.chat, request, timeout_s=10)


def stream(provider: Provider, request: ChatRequest) -> list[ChatDelta]:
    return list(provider.adapter.stream(provider.chat, request, timeout_s=10))


def collected(provider: Provider, request: ChatRequest) -> ChatResult:
    collector = Collector()
    for delta in stream(provider, request):
        collector.add(delta)
    return collector.result(request)


def changed(request: ChatRequest, **changes: Any) -> ChatRequest:
    return msgspec.structs.replace(request, **changes)


def test_a_stream_adds_up_to_the_answer_in_one_piece(provider: Provider) -> None:
    deltas = stream(provider, ASK)
    assert sum(isinstance(delta, TextDelta) for delta in deltas) > 3
    assert isinstance(deltas[-1], StreamEnd)
    assert collected(provider, ASK) == answer(provider, ASK)


@pytest.mark.parametrize("whole", [True, False])
def test_the_right_tool_is_called_with_what_the_question_holds(provider: Provider, *, whole: bool) -> None:
    result = answer(provider, CALLING) if whole else collected(provider, CALLING)
    [call] = result.tool_calls
    assert (call.name, json.loads(call.arguments)) == ("get_weather", {"city": "Paris"})
    assert call.id
    assert (result.text, result.finish_reason) == ("", FinishReason.TOOL_CALLS)
    assert result.usage.output_tokens > 3


@pytest.mark.parametrize("whole", [True, False])
def test_several_things_are_several_calls_unless_one_at_a_time_is_asked_for(provider: Provider, *, whole: bool) -> None:
    several = changed(CALLING, messages=(Message("user", "What is the weather in Paris, Rome and Oslo?"),))
    for request, cities in (
        (several, ["Paris", "Rome", "Oslo"]),
        (changed(several, parallel_tool_calls=False), ["Paris"]),
    ):
        result = answer(provider, request) if whole else collected(provider, request)
        assert [json.loads(call.arguments)["city"] for call in result.tool_calls] == cities
        assert len({call.id for call in result.tool_calls}) == len(cities)


def test_a_tool_is_called_only_when_it_fits(provider: Provider) -> None:
    request = changed(CALLING, messages=ASK.messages)
    result = answer(provider, request)
    assert (result.tool_calls, result.finish_reason) == ((), FinishReason.STOP)
    assert "twelve euros" in result.text


@pytest.mark.parametrize("choice", ["required", NamedTool("search_orders")])
def test_a_choice_is_obeyed(provider: Provider, choice: Any) -> None:
    request = changed(CALLING, messages=(Message("user", "Who is Ann Smith?"),), tool_choice=choice)
    [call] = answer(provider, request).tool_calls
    assert call.name in {"search_orders", "get_weather"}
    if isinstance(choice, NamedTool):
        assert (call.name, json.loads(call.arguments)) == ("search_orders", {"customer": "Ann Smith"})


@pytest.mark.parametrize("whole", [True, False])
def test_no_tool_is_called_when_none_may_be(provider: Provider, *, whole: bool) -> None:
    request = changed(CALLING, tool_choice="none")
    result = answer(provider, request) if whole else collected(provider, request)
    assert (result.tool_calls, result.finish_reason) == ((), FinishReason.STOP)
    assert result.text


@pytest.mark.parametrize("tools", [CALLING.tools, ()])
def test_what_a_tool_answers_is_told(provider: Provider, tools: tuple[Tool, ...]) -> None:
    call = ToolCall(id="call_1", name="get_weather", arguments='{"city":"Paris"}')
    history = (
        QUESTION,
        Message("assistant", "", (call,)),
        Message("tool", '{"temperature": 18, "sky": "overcast"}', tool_call_id="call_1"),
    )
    result = answer(provider, changed(CALLING, messages=history, tools=tools))
    assert result.finish_reason is FinishReason.STOP
    assert "18" in result.text
    assert "overcast" in result.text


def test_the_answers_of_several_tools_and_a_new_question_are_taken_together(provider: Provider) -> None:
    calls = tuple(ToolCall(id=f"call_{city}", name="get_weather", arguments=f'{{"city":"{city}"}}') for city in "ab")
    history = (
        QUESTION,
        Message("assistant", "Let me see.", calls),
        *(Message("tool", f"It is sunny in {call.id}.", tool_call_id=call.id) for call in calls),
        Message("assistant", "Sunny in both."),
        Message("user", "And the weather in Oslo?"),
    )
    [call] = answer(provider, changed(CALLING, messages=history)).tool_calls
    assert json.loads(call.arguments) == {"city": "Oslo"}


@pytest.mark.parametrize("whole", [True, False])
def test_an_answer_conforms_to_its_schema(provider: Provider, *, whole: bool) -> None:
    request = ChatRequest(
        model="auto",
        messages=(Message("system", "Extract the person."), STORY),
        response_format=ResponseFormat(type="json_schema", name="person", schema=PERSON, strict=True),
    )
    result = answer(provider, request) if whole else collected(provider, request)
    person = json.loads(result.text)
    jsonschema_rs.validate(PERSON, person)
    assert (person["name"], person["age"], person["mood"]) == ("Ann Smith", 34, "happy")


def test_any_json_object_will_do(provider: Provider) -> None:
    asked = Message("user", "Who is it? Answer in JSON with the keys name and age.")
    request = ChatRequest(model="auto", messages=(STORY, asked), response_format=ResponseFormat(type="json_object"))
    assert json.loads(answer(provider, request).text) == {"name": "Ann Smith", "age": 34}
    free = json.loads(answer(provider, changed(request, messages=ASK.messages)).text)
    assert "twelve euros" in free["answer"]


def test_what_only_instructs_is_answered_too(provider: Provider) -> None:
    request = ChatRequest(model="auto", messages=(Message("system", "Admission is twelve euros."),))
    assert "twelve euros" in answer(provider, request).text


def test_labels_of_the_callers_own_do_no_harm(provider: Provider) -> None:
    request = changed(ASK, user="user-1", metadata={"team": "blue", "odd ~ key": "x", "odd value": "~"}, seed=7)
    assert "twelve euros" in answer(provider, request).text


@pytest.mark.parametrize("field", [{"presence_penalty": 0.5}, {"frequency_penalty": -1.0}, {"temperature": 1.5}])
def test_what_a_target_cannot_do_is_named_before_anything_is_sent(provider: Provider, field: dict[str, float]) -> None:
    request = changed(ASK, **field)
    if "openai" in provider.chat.name:
        assert answer(provider, request).text
        return
    for ask in (answer, stream):
        with pytest.raises(errors.UnsupportedByTargetError) as raised:
            ask(provider, request)
        assert raised.value.param in field
    assert provider.server.calls(CHAT) == 0


@pytest.mark.parametrize(
    ("fault", "kind", "deltas"),
    [
        ({"kind": "throttle"}, errors.ProviderThrottledError, 0),
        ({"kind": "error", "status": 503}, errors.ProviderOverloadedError, 0),
        ({"kind": "error", "status": 400}, errors.ProviderRejectedError, 0),
        ({"kind": "cut", "at": "start"}, errors.ProviderUnavailableError, 0),
        ({"kind": "cut", "at": "headers"}, errors.ProviderUnavailableError, 0),
        ({"kind": "cut", "at": "body"}, errors.ProviderUnavailableError, 1),
        ({"kind": "cut_stream", "after_tokens": 3}, errors.ProviderUnavailableError, 3),
        ({"kind": "cut_stream", "after_tokens": 0}, errors.ProviderUnavailableError, 0),
        ({"kind": "throttle", "after_tokens": 2}, errors.ProviderThrottledError, 2),
        ({"kind": "error", "status": 500, "after_tokens": 2}, errors.ProviderUnavailableError, 2),
        ({"kind": "error", "status": 503, "after_tokens": 2}, errors.ProviderOverloadedError, 2),
        ({"kind": "error", "status": 400, "after_tokens": 2}, errors.ProviderRejectedError, 2),
        ({"kind": "garbage"}, errors.ProviderProtocolError, 1),
    ],
    ids=str,
)
def test_every_fault_of_a_stream_has_its_error(
    provider: Provider, fault: dict[str, object], kind: type[errors.ProviderError], deltas: int
) -> None:
    provider.fault(**fault)
    received, error = until_it_fails(provider)
    assert type(error) is kind
    assert len(received) == deltas
    assert provider.server.url not in error.message


def until_it_fails(provider: Provider) -> tuple[list[ChatDelta], errors.ProviderError]:
    received: list[ChatDelta] = []
    pieces = provider.adapter.stream(provider.chat, ASK, timeout_s=10)
    try:
        while True:
            received.append(next(pieces))
    except errors.ProviderError as error:
        return received, error


def test_a_stream_that_hangs_is_given_up_in_time(provider: Provider) -> None:
    provider.fault(kind="hang", seconds=8)
    began = time.monotonic()
    with pytest.raises(errors.ProviderTimeoutError):
        list(provider.adapter.stream(provider.chat, ASK, timeout_s=0.5))
    assert time.monotonic() - began < 1


def test_nothing_is_sent_before_the_first_piece_is_asked_for(provider: Provider) -> None:
    provider.adapter.stream(provider.chat, ASK, timeout_s=5)
    assert provider.server.calls(CHAT) == 0


def test_a_stream_that_nobody_wants_any_more_is_closed(provider: Provider) -> None:
    deltas = provider.adapter.stream(provider.chat, ASK, timeout_s=5)
    next(deltas)
    deltas.close()
    assert list(deltas) == []
