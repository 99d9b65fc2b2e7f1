import json
from typing import Any

import pytest
from openai.types.chat import ChatCompletion

from sluice.domain.errors import InvalidRequestError
from sluice.domain.inference import (
    ChatResult,
    FinishReason,
    Message,
    NamedTool,
    ResponseFormat,
    Tool,
    ToolCall,
    Usage,
)
from sluice.wire.chat import ChatCompletionResponse, parse_chat_request

CANARY = "canary-that-must-not-be-quoted"
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}
MINIMAL: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": "hello"}]}


def parse(**changes: object) -> Any:
    return parse_chat_request(json.dumps({**MINIMAL, **changes}).encode())


def test_the_smallest_request_is_a_model_and_a_message() -> None:
    request = parse()
    assert request.model == "auto"
    assert request.messages == (Message("user", "hello"),)
    assert (request.max_tokens, request.temperature, request.stop) == (None, None, ())


def test_every_role_and_form_of_content_is_understood() -> None:
    request = parse(
        messages=[
            {"role": "developer", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]},
            {"role": "assistant", "content": "three", "refusal": None},
            {"role": "user", "content": "four", "name": "ann"},
        ]
    )
    assert request.messages == (
        Message("system", "be brief"),
        Message("user", "one two"),
        Message("assistant", "three"),
        Message("user", "four"),
    )


def test_a_conversation_with_tools_arrives() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}}
    request = parse(
        messages=[
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "content": [{"type": "text", "text": "sunny"}], "tool_call_id": "call_1"},
        ],
        tools=[{"type": "function", "function": {"name": "get_weather", "description": "d", "strict": True}}],
        tool_choice={"type": "function", "function": {"name": "get_weather"}},
        parallel_tool_calls=False,
    )
    asked = ToolCall(id="call_1", name="get_weather", arguments='{"city": "Paris"}')
    assert request.messages[1:] == (
        Message("assistant", "", (asked,)),
        Message("tool", "sunny", tool_call_id="call_1"),
    )
    assert request.tools == (Tool(name="get_weather", description="d", strict=True),)
    assert (request.tool_choice, request.parallel_tool_calls) == (NamedTool("get_weather"), False)


def test_a_schema_for_the_answer_arrives() -> None:
    schema = {"type": "object", "properties": {}}
    request = parse(
        response_format={"type": "json_schema", "json_schema": {"name": "person", "schema": schema, "strict": True}}
    )
    assert request.response_format == ResponseFormat(type="json_schema", name="person", schema=schema, strict=True)
    assert parse(response_format={"type": "json_object"}).response_format == ResponseFormat(type="json_object")


def test_instructions_alone_are_a_conversation() -> None:
    assert parse(messages=[{"role": "developer", "content": "Go."}]).messages == (Message("system", "Go."),)


def test_every_setting_arrives() -> None:
    request = parse(max_tokens=5, temperature=2, top_p=0.5, stop="END", seed=7, n=1, user="u", metadata={"a": "b"})
    assert (request.max_tokens, request.temperature, request.top_p) == (5, 2, 0.5)
    assert (request.stop, request.seed) == (("END",), 7)
    assert (request.user, request.metadata) == ("u", {"a": "b"})
    assert parse(presence_penalty=-2, frequency_penalty=0.5).presence_penalty == -2


def test_the_newer_name_of_max_tokens_wins() -> None:
    assert parse(max_tokens=5, max_completion_tokens=6).max_tokens == 6


@pytest.mark.parametrize(
    "ignored",
    [
        {"stream": False},
        {"stream": None},
        {"response_format": {"type": "text"}},
        {"modalities": ["text"]},
        {"tools": []},
        {"tool_choice": "none"},
        {"logprobs": False},
        {"logit_bias": {}},
        {"logit_bias": {"5": 0}},
        {"function_call": "none", "functions": []},
        {"stream_options": {"include_usage": True, "include_obfuscation": False}},
        {"presence_penalty": 0, "frequency_penalty": 0.0},
        {"store": True, "a_field_of_next_year": {"x": 1}},
    ],
)
def test_neutral_values_and_unknown_fields_do_no_harm(ignored: dict[str, object]) -> None:
    assert parse(**ignored) == parse()


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"model": ""}, "model"),
        ({"model": 5}, "model"),
        ({"model": None}, "model"),
        ({"model": "x" * 257}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": CANARY}, "messages"),
        ({"messages": [CANARY]}, "messages[0]"),
        ({"messages": [{"content": CANARY}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": CANARY, "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "tool", "content": "x", "tool_call_id": CANARY}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "tool", "tool_call_id": "call_1"}]}, "messages[0].content"),
        ({"messages": [{"role": "assistant"}]}, "messages[0].content"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"id": "c"}]}]}, "messages[0].tool_calls[0].function"),
        ({"messages": [{"role": "function", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": "x"}, {"role": "user", "content": 5}]}, "messages[1].content"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "user", "content": [{"type": CANARY}]}]}, "messages[0].content[0].type"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_completion_tokens": "5"}, "max_completion_tokens"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": CANARY}, "temperature"),
        ({"top_p": 1.1}, "top_p"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"stop": ["a", 5]}, "stop[1]"),
        ({"stop": ""}, "stop"),
        ({"seed": "x"}, "seed"),
        ({"n": 2}, "n"),
        ({"user": 5}, "user"),
        ({"metadata": {"a": 5}}, "metadata"),
        ({"metadata": {"a": "x" * 513}}, "metadata"),
        ({"metadata": {"x" * 65: "a"}}, "metadata"),
        ({"metadata": {str(i): "a" for i in range(17)}}, "metadata"),
        ({"stream": True}, "stream"),
        ({"stream": "yes"}, "stream"),
        ({"response_format": {"type": CANARY}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format.json_schema.name"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "with a space"}}},
            "response_format.json_schema.name",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": CANARY}}},
            "response_format.json_schema.schema",
        ),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"tools": [{"type": "custom", "custom": {"name": CANARY}}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"type": "function", "function": {"name": "with a space"}}]}, "tools[0].function.name"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": 5}}]}, "tools[0].function.parameters"),
        ({"tools": [TOOL] * 129}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": CANARY}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "allowed_tools"}}, "tool_choice.type"),
        (
            {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": CANARY}}},
            "tool_choice.function.name",
        ),
        ({"parallel_tool_calls": "no"}, "parallel_tool_calls"),
        ({"stream_options": {"include_usage": "yes"}}, "stream_options.include_usage"),
        ({"functions": [{}]}, "functions"),
        ({"function_call": "auto"}, "function_call"),
        ({"logprobs": True}, "logprobs"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"presence_penalty": 2.5}, "presence_penalty"),
        ({"frequency_penalty": "x"}, "frequency_penalty"),
        ({"prediction": {"type": "content", "content": CANARY}}, "prediction"),
        ({"audio": {"voice": "alloy", "format": "wav"}}, "audio"),
    ],
)
def test_what_is_wrong_is_named_and_never_quoted(changes: dict[str, object], param: str) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        parse(**changes)
    assert raised.value.param == param
    assert param in raised.value.message
    assert CANARY not in raised.value.message


@pytest.mark.parametrize("missing", ["model", "messages"])
def test_a_missing_field_is_named(missing: str) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        parse_chat_request(json.dumps({name: value for name, value in MINIMAL.items() if name != missing}).encode())
    assert (raised.value.param, raised.value.code) == (missing, "missing_required_parameter")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"messages": [{"role": "function"}]}, "`assistant`, `developer`, `system`, `tool`, `user`"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "Expected one of `text`"),
        ({"n": 2}, "Expected one of `1`"),
        ({"temperature": 3}, "<= 2.0"),
        ({"messages": [{"role": "user", "content": 5}]}, "Expected `str | array | null`"),
        ({"stream": True}, "not supported"),
    ],
)
def test_the_message_says_what_is_expected(changes: dict[str, object], expected: str) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        parse(**changes)
    assert expected in raised.value.message


@pytest.mark.parametrize("finish_reason", [FinishReason.STOP, FinishReason.LENGTH, FinishReason.CONTENT_FILTER])
def test_the_answer_is_what_the_openai_client_expects(finish_reason: FinishReason) -> None:
    usage = Usage(input_tokens=12, output_tokens=3, cache_read_tokens=8)
    result = ChatResult(text="hi", finish_reason=finish_reason, usage=usage)
    body = json.loads(json_of(ChatCompletionResponse.of(result, model="bedrock/one", created=1_700_000_000)))
    completion = ChatCompletion.model_validate(body, strict=True)
    assert completion.id.startswith("chatcmpl-")
    assert (completion.object, completion.created, completion.model) == (
        "chat.completion",
        1_700_000_000,
        "bedrock/one",
    )
    assert completion.choices[0].message.content == "hi"
    assert completion.choices[0].finish_reason == finish_reason.value
    assert completion.usage is not None
    assert (completion.usage.prompt_tokens, completion.usage.total_tokens) == (12, 15)
    assert completion.usage.prompt_tokens_details is not None
    assert completion.usage.prompt_tokens_details.cached_tokens == 8


def test_an_answer_of_tool_calls_is_what_the_openai_client_expects() -> None:
    calls = (ToolCall(id="call_1", name="f", arguments="{}"),)
    usage = Usage(input_tokens=12, output_tokens=30, reasoning_tokens=20, cache_write_tokens=4)
    result = ChatResult(text="", finish_reason=FinishReason.TOOL_CALLS, usage=usage, tool_calls=calls)
    body = json_of(ChatCompletionResponse.of(result, model="bedrock/one", created=1))
    completion = ChatCompletion.model_validate(json.loads(body), strict=True)
    [choice] = completion.choices
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    assert choice.message.tool_calls is not None
    assert choice.message.tool_calls[0].id == "call_1"
    assert completion.usage is not None
    assert completion.usage.completion_tokens_details is not None
    assert completion.usage.completion_tokens_details.reasoning_tokens == 20
    # What came out may go in again as it is.
    message = {**json.loads(body)["choices"][0]["message"]}
    assert parse(messages=[message]).messages == (Message("assistant", "", calls),)


def test_a_refusal_is_what_the_openai_client_expects() -> None:
    usage = Usage(input_tokens=12, output_tokens=3)
    result = ChatResult(text="", finish_reason=FinishReason.STOP, usage=usage, refusal="I cannot help with that.")
    body = json_of(ChatCompletionResponse.of(result, model="openai/one", created=1))
    [choice] = ChatCompletion.model_validate(json.loads(body), strict=True).choices
    assert (choice.message.content, choice.message.refusal) == (None, "I cannot help with that.")
    assert json.loads(body)["choices"][0]["message"] == {
        "role": "assistant",
        "content": None,
        "refusal": "I cannot help with that.",
    }
    assert parse(messages=[json.loads(body)["choices"][0]["message"]]).messages == (
        Message("assistant", "I cannot help with that."),
    )


def json_of(struct: object) -> bytes:
    import msgspec

    return msgspec.json.encode(struct)
