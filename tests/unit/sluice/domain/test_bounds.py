"""No tokenizer finds more tokens than the bound says. The judge is one that spells in bytes: one token for each."""

import json
import random
from typing import Any

import msgspec
import pytest

from sluice.domain import bounds
from sluice.domain.inference import (
    ChatRequest,
    EmbeddingRequest,
    Message,
    ResponseFormat,
    Tool,
    ToolCall,
)

TEXTS = ("", "hello", "größer als", "漢字仮名交じり文", "👩‍👩‍👧‍👦 \U0001f600", "\x00\n\t", "\ud800")
SCHEMA = {"type": "object", "properties": {"größe": {"type": "string", "description": "漢字"}}}


def in_bytes(value: object) -> int:
    """Tokens of a tokenizer that knows no more than bytes."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return len(text.encode(errors="surrogatepass"))


def any_request(dice: random.Random) -> ChatRequest:
    def text() -> str:
        return "".join(dice.choices(TEXTS, k=dice.randrange(5)))

    calls = tuple(ToolCall(id="call_1", name="find", arguments=text()) for _ in range(dice.randrange(3)))
    messages = [Message("user", text()), Message("assistant", text(), calls), Message("tool", text(), (), "call_1")]
    tools = tuple(Tool(name="find", description=text(), parameters=SCHEMA) for _ in range(dice.randrange(3)))
    form = ResponseFormat(type="json_schema", name="form", description=text(), schema=SCHEMA)
    return ChatRequest(
        model="auto",
        messages=tuple(dice.choices(messages, k=dice.randrange(1, 6))),
        tools=tools,
        response_format=dice.choice([None, form]),
    )


def spelt_out(request: ChatRequest) -> int:
    said = sum(
        in_bytes(message.content)
        + in_bytes(message.tool_call_id or "")
        + sum(in_bytes(call.id) + in_bytes(call.name) + in_bytes(call.arguments) for call in message.tool_calls)
        for message in request.messages
    )
    offered = sum(
        in_bytes(tool.name) + in_bytes(tool.description or "") + in_bytes(dict(tool.parameters))
        for tool in request.tools
    )
    form = request.response_format
    return said + offered + (in_bytes(form.name + (form.description or "")) + in_bytes(SCHEMA) if form else 0)


def test_a_chat_has_at_most_as_many_tokens_as_bytes_and_some_for_what_is_around_them() -> None:
    dice = random.Random(3)
    for _ in range(500):
        request = any_request(dice)
        bound = bounds.of_chat(request)
        pieces = len(request.messages)
        assert bound.input_tokens >= spelt_out(request) + bounds.PER_CALL + pieces * bounds.PER_TEXT
        assert bound.calls == 1


def test_what_a_provider_says_of_tools_and_forms_is_allowed_for() -> None:
    plain = ChatRequest(model="auto", messages=(Message("user", "x"),))
    tools = msgspec.structs.replace(plain, tools=(Tool(name="find"),))
    history = msgspec.structs.replace(
        plain, messages=(Message("assistant", "", (ToolCall(id="c", name="find", arguments="{}"),)),)
    )
    form = msgspec.structs.replace(plain, response_format=ResponseFormat(type="json_object"))
    least = bounds.of_chat(plain).input_tokens
    assert bounds.of_chat(tools).input_tokens - least > 530
    assert bounds.of_chat(history).input_tokens - least > 530
    assert bounds.of_chat(form).input_tokens - least >= bounds.FOR_A_FORM


@pytest.mark.parametrize(
    ("max_tokens", "form", "expected"),
    [
        (None, None, (bounds.UNSAID_OUTPUT_TOKENS, bounds.LEAST_OUTPUT_TOKENS)),
        (4_000, None, (4_000, bounds.LEAST_OUTPUT_TOKENS)),
        (5, None, (5, 5)),
        (4_000, ResponseFormat(type="json_object"), (4_000, 4_000)),
    ],
)
def test_an_answer_can_be_shorter_unless_it_has_to_fit_a_form(
    max_tokens: int | None, form: Any, expected: tuple[int, int]
) -> None:
    request = ChatRequest(model="auto", messages=(Message("user", "x"),), max_tokens=max_tokens, response_format=form)
    bound = bounds.of_chat(request)
    assert (bound.output_tokens, bound.least_output_tokens) == expected


def test_an_embedding_writes_nothing() -> None:
    request = EmbeddingRequest(model="embed", inputs=TEXTS)
    bound = bounds.of_embedding(request)
    assert bound.input_tokens >= sum(map(in_bytes, TEXTS)) + len(TEXTS) * bounds.PER_TEXT
    assert (bound.output_tokens, bound.least_output_tokens) == (0, 0)
