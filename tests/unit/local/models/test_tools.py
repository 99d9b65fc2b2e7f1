"""A tool is called when the question is about it, with what the question says."""

from __future__ import annotations

import json

import pytest

from local.models.embeddings import Embedder
from local.models.forms import FormFiller
from local.models.tools import Tool, ToolCall, ToolCaller, ToolChoice, facts

CURRENCY = {"type": "string", "enum": ["USD", "EUR", "GBP"]}
TOOLS = (
    Tool(
        "get_weather",
        "Get the current weather in a city",
        {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    ),
    Tool(
        "search_orders",
        "Find the orders of a customer",
        {"type": "object", "properties": {"customer": {"type": "string"}}, "required": ["customer"]},
    ),
    Tool(
        "convert_currency",
        "Convert an amount of money between currencies",
        {
            "type": "object",
            "properties": {"amount": {"type": "number"}, "from_currency": CURRENCY, "to_currency": CURRENCY},
            "required": ["amount", "from_currency", "to_currency"],
        },
    ),
    Tool("get_time", "Tell the current time"),
)


@pytest.fixture(scope="module")
def caller(embedder: Embedder) -> ToolCaller:
    return ToolCaller(FormFiller(embedder))


def called(caller: ToolCaller, question: str, choice: ToolChoice | None = None, *, parallel: bool = True) -> object:
    calls = caller.calls(question, TOOLS, choice or ToolChoice(), parallel=parallel)
    return [(call.name, json.loads(call.arguments)) for call in calls]


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What is the weather in Paris?", [("get_weather", {"city": "Paris"})]),
        ("Will it rain in Oslo?", [("get_weather", {"city": "Oslo"})]),
        ("Weather in Paris and Rome?", [("get_weather", {"city": "Paris"}), ("get_weather", {"city": "Rome"})]),
        ("Show me the last orders of Ann Smith", [("search_orders", {"customer": "Ann Smith"})]),
        (
            "Convert 120 EUR to USD.",
            [("convert_currency", {"amount": 120, "from_currency": "EUR", "to_currency": "USD"})],
        ),
        ("What time is it?", [("get_time", {})]),
        ("Who wrote Hamlet?", []),
        ("Tell me a joke.", []),
    ],
)
def test_the_tool_that_is_meant_is_called(caller: ToolCaller, question: str, expected: object) -> None:
    assert called(caller, question) == expected


def test_a_choice_is_obeyed(caller: ToolCaller) -> None:
    named = ToolChoice(name="search_orders")
    assert called(caller, "Who is Ann Smith?", named) == [("search_orders", {"customer": "Ann Smith"})]
    assert called(caller, "Who wrote Hamlet?", ToolChoice(required=True))
    assert called(caller, "What is the weather in Paris?", ToolChoice(forbidden=True)) == []
    assert called(caller, "Weather in Paris and Rome?", parallel=False) == [("get_weather", {"city": "Paris"})]


def test_the_same_question_gives_the_same_ids(caller: ToolCaller) -> None:
    one, other = (caller.calls("Weather in Paris and Rome?", TOOLS, ToolChoice(), parallel=True) for _ in range(2))
    assert one == other
    assert len({call.id for call in one}) == 2


def test_an_object_is_told_by_its_members_and_text_as_it_is() -> None:
    call = ToolCall("call_1", "get_weather", '{"city": "Paris"}')
    assert facts('{"temperatureNow": 18, "sky": "overcast"}', call) == ["Paris: temperature Now 18, sky overcast."]
    assert facts('{"a": [1, 2]}', None) == ["a [1,2]."]
    assert facts("It is sunny.", call) == ["It is sunny."]
