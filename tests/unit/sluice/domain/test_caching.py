from typing import Any

import msgspec
import pytest

from sluice.domain.caching import Caching, caching_of, fingerprint_of, worth_keeping
from sluice.domain.classification import ClassificationRequest, Label
from sluice.domain.errors import InvalidRequestError
from sluice.domain.inference import (
    ChatRequest,
    ChatResult,
    EmbeddingRequest,
    EmbeddingResult,
    FinishReason,
    Message,
    NamedTool,
    Operation,
    ResponseFormat,
    Tool,
    ToolCall,
    Usage,
)
from sluice.domain.routing import Guardrail, Preferences, Target
from sluice.domain.scoring import ScoreRequest
from sluice.testing.routes import PRICE

USAGE = Usage(input_tokens=1)
TARGET = Target(name="bedrock/one", provider="bedrock", model="one-v1", operations=(Operation.CHAT,))
TOOL = Tool(name="look_up", parameters={"type": "object", "properties": {"a": {}, "b": {}}})
CHAT = ChatRequest(
    model="auto",
    messages=(Message("system", "Be brief."), Message("user", "Hello")),
    max_tokens=10,
    temperature=0.5,
    top_p=0.9,
    stop=("x",),
    seed=7,
    presence_penalty=0.1,
    frequency_penalty=0.2,
    tools=(TOOL,),
    tool_choice="auto",
    parallel_tool_calls=True,
    response_format=ResponseFormat(type="json_object"),
    user="ada",
    metadata={"team": "one"},
)


@pytest.mark.parametrize(
    ("cache", "cache_ttl", "route_ttl_s", "expected"),
    [
        (None, None, None, None),
        (None, "60", None, None),
        (None, None, 60, Caching(ttl_s=60)),
        (None, "5", 60, Caching(ttl_s=5)),
        ("on", None, None, Caching(ttl_s=3600)),
        ("on", None, 60, Caching(ttl_s=60)),
        ("on", "5", 60, Caching(ttl_s=5)),
        ("on", "86400", None, Caching(ttl_s=86_400)),
        ("refresh", None, None, Caching(ttl_s=3600, read=False)),
        ("refresh", "1", 60, Caching(ttl_s=1, read=False)),
        ("off", None, 60, None),
        ("off", "5", 60, None),
    ],
)
def test_the_request_decides_before_the_route(
    cache: str | None, cache_ttl: str | None, route_ttl_s: int | None, expected: Caching | None
) -> None:
    assert caching_of(Preferences(cache=cache, cache_ttl=cache_ttl), route_ttl_s) == expected


@pytest.mark.parametrize("cache", ["On", "yes", "true", "0", "no-cache"])
def test_another_word_is_refused(cache: str) -> None:
    with pytest.raises(InvalidRequestError, match="must be one of on, refresh, off") as raised:
        caching_of(Preferences(cache=cache), 60)
    assert (raised.value.code, raised.value.param) == ("invalid_cache", "x-sluice-cache")


@pytest.mark.parametrize("cache_ttl", ["0", "86401", "-1", "1.5", "1e3", "ten", "\u0661", "999999999999", " 5", "+5"])
@pytest.mark.parametrize("cache", [None, "on", "off"])
def test_another_time_is_refused_even_where_nothing_is_cached(cache: str | None, cache_ttl: str) -> None:
    with pytest.raises(InvalidRequestError, match="from 1 to 86400") as raised:
        caching_of(Preferences(cache=cache, cache_ttl=cache_ttl), None)
    assert (raised.value.code, raised.value.param) == ("invalid_cache_ttl", "x-sluice-cache-ttl")


def of(request: msgspec.Struct, target: Target = TARGET, operation: Operation = Operation.CHAT) -> str:
    return fingerprint_of(operation, request, target)


# One change for each field: a field that is added to the request has to be added here.
CHANGES: dict[str, Any] = {
    "model": "fast",
    "messages": (Message("user", "Hello"), Message("system", "Be brief.")),
    "max_tokens": 11,
    "temperature": 0.6,
    "top_p": None,
    "stop": ("x", "y"),
    "seed": None,
    "presence_penalty": 0.2,
    "frequency_penalty": None,
    "tools": (msgspec.structs.replace(TOOL, strict=True),),
    "tool_choice": NamedTool("auto"),
    "parallel_tool_calls": False,
    "response_format": ResponseFormat(type="json_schema", schema={"type": "object"}),
    "user": "grace",
    "metadata": {},
}


def test_every_field_that_may_affect_the_answer_counts_and_no_other() -> None:
    assert set(CHANGES) == set(ChatRequest.__struct_fields__)
    same = {name for name, value in CHANGES.items() if of(msgspec.structs.replace(CHAT, **{name: value})) == of(CHAT)}
    assert same == {"model", "user", "metadata"}


def test_different_changes_are_different_questions() -> None:
    prints = [of(msgspec.structs.replace(CHAT, **{name: value})) for name, value in CHANGES.items()]
    assert len(set(prints)) == len(CHANGES) - 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        # A model reads a schema from the first word to the last.
        (
            {"tools": (Tool(name="f", parameters={"a": 1, "b": 2}),)},
            {"tools": (Tool(name="f", parameters={"b": 2, "a": 1}),)},
        ),
        ({"messages": (Message("user", "ab"), Message("user", "c"))}, {"messages": (Message("user", "abc"),)}),
        ({"stop": ("a,b",)}, {"stop": ("a", "b")}),
        ({"seed": 0}, {"seed": None}),
        (
            {"messages": (Message("assistant", "", (ToolCall(id="1", name="f", arguments="{}"),)),)},
            {"messages": (Message("assistant", "", (ToolCall(id="2", name="f", arguments="{}"),)),)},
        ),
    ],
)
def test_what_only_looks_alike_is_told_apart(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert of(msgspec.structs.replace(CHAT, **one)) != of(msgspec.structs.replace(CHAT, **other))


@pytest.mark.parametrize(
    ("field", "value", "same"),
    [
        ("name", "bedrock/two", False),
        ("provider", "openai_compatible", False),
        ("model", "one-v2", False),
        ("base_url", "http://elsewhere", False),
        ("guardrail", Guardrail(id="g", version="1"), False),
        ("max_output_tokens", 100, False),
        ("operations", (Operation.CHAT, Operation.EMBED), False),
        ("created", 5, True),
        ("context_length", 5, True),
        ("attempt_timeout_s", 5.0, True),
        ("max_tokens_field", "max_completion_tokens", True),
        ("price", PRICE, True),
    ],
)
def test_it_counts_who_answers_and_how_but_not_at_what_price(field: str, value: object, same: bool) -> None:
    assert (of(CHAT, msgspec.structs.replace(TARGET, **{field: value})) == of(CHAT)) is same


def test_operations_do_not_share() -> None:
    texts = EmbeddingRequest(model="embed", inputs=("a",))
    assert of(texts, operation=Operation.EMBED) != of(texts, operation=Operation.CLASSIFY)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (EmbeddingRequest(model="m", inputs=("a", "b")), EmbeddingRequest(model="m", inputs=("b", "a"))),
        (EmbeddingRequest(model="m", inputs=("a",)), EmbeddingRequest(model="m", inputs=("a",), dimensions=64)),
        (
            ClassificationRequest(model="m", inputs=("a",), labels=(Label("x"), Label("y"))),
            ClassificationRequest(model="m", inputs=("a",), labels=(Label("x", "why"), Label("y"))),
        ),
        (ScoreRequest(model="m", rows=[[1.0, 2.0]]), ScoreRequest(model="m", rows=[[1.0], [2.0]])),
        (ScoreRequest(model="m", rows=[[0.1]]), ScoreRequest(model="m", rows=[[0.1 + 2**-56]])),
    ],
)
def test_the_other_operations_ask_exactly_too(one: msgspec.Struct, other: msgspec.Struct) -> None:
    assert of(one) != of(other)
    assert of(one) == of(msgspec.structs.replace(one, model="another alias"))


@pytest.mark.parametrize(
    ("finish", "whole"),
    [
        (FinishReason.STOP, True),
        (FinishReason.TOOL_CALLS, True),
        (FinishReason.LENGTH, True),
        (FinishReason.CONTENT_FILTER, False),
    ],
)
def test_only_whole_answers_are_kept(finish: FinishReason, whole: bool) -> None:
    assert worth_keeping(ChatResult(text="a", finish_reason=finish, usage=USAGE)) is whole


def test_what_is_no_conversation_is_always_whole() -> None:
    assert worth_keeping(EmbeddingResult(vectors=((0.1,),), usage=USAGE))
