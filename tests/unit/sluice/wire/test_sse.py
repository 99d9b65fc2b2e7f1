import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from openai.types import Completion
from openai.types.chat import ChatCompletionChunk

from sluice.domain.errors import ProviderUnavailableError
from sluice.domain.inference import (
    ChatDelta,
    FinishReason,
    ReasoningDelta,
    RefusalDelta,
    StreamEnd,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from sluice.runtime.http import error_body
from sluice.wire import sse

USAGE = Usage(input_tokens=4, output_tokens=2, cache_read_tokens=1)
END = StreamEnd(finish_reason=FinishReason.STOP, usage=USAGE)


def events(
    deltas: Iterator[ChatDelta] | list[ChatDelta],
    *,
    render: Callable[..., Iterator[bytes]] = sse.chat_events,
    include_usage: bool = False,
) -> list[Any]:
    body = b"".join(
        render(
            deltas,
            completion_id="chatcmpl-1",
            model="bedrock/one",
            created=7,
            include_usage=include_usage,
            error_body=error_body,
        )
    ).decode()
    assert body.endswith("\n\n")
    lines = body.removesuffix("\n\n").split("\n\n")
    assert all(line.startswith("data: ") for line in lines)
    return [data if (data := line.removeprefix("data: ")) == "[DONE]" else json.loads(data) for line in lines]


def failing(*deltas: ChatDelta) -> Iterator[ChatDelta]:
    yield from deltas
    raise ProviderUnavailableError("It broke off.", target="bedrock/one")


def test_a_stream_is_a_role_its_pieces_its_end_and_done() -> None:
    *chunks, done = events([TextDelta("Hel"), TextDelta("lo\n\nthere \u2028"), END])
    parsed = [ChatCompletionChunk.model_validate(chunk, strict=True) for chunk in chunks]
    assert done == "[DONE]"
    assert [(chunk.id, chunk.created, chunk.model) for chunk in parsed] == [("chatcmpl-1", 7, "bedrock/one")] * 4
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [chunk["choices"][0]["delta"] for chunk in chunks[1:3]] == [
        {"content": "Hel"},
        {"content": "lo\n\nthere \u2028"},
    ]
    assert (chunks[3]["choices"][0]["delta"], chunks[3]["choices"][0]["finish_reason"]) == ({}, "stop")
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[:3]] == [None] * 3
    assert all("usage" not in chunk for chunk in chunks)


def test_usage_comes_last_and_only_when_asked_for() -> None:
    *chunks, last, done = events([TextDelta("hi"), END], include_usage=True)
    assert (last["choices"], last["usage"]["total_tokens"], done) == ([], 6, "[DONE]")
    assert last["usage"]["prompt_tokens_details"]["cached_tokens"] == 1
    assert [chunk["usage"] for chunk in chunks] == [None] * 3


def test_tool_calls_come_piece_by_piece_with_their_index() -> None:
    deltas: list[ChatDelta] = [
        ToolCallDelta(index=0, id="call_1", name="f"),
        ToolCallDelta(index=0, arguments='{"a":'),
        ToolCallDelta(index=0, arguments="1}"),
        ToolCallDelta(index=1, id="call_2", name="g", arguments="{}"),
        StreamEnd(finish_reason=FinishReason.TOOL_CALLS, usage=USAGE),
    ]
    _, *chunks, end, _done = events(deltas)
    calls = [chunk["choices"][0]["delta"]["tool_calls"][0] for chunk in chunks]
    assert calls[0] == {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": ""}}
    assert calls[1] == {"index": 0, "function": {"arguments": '{"a":'}}
    assert (calls[3]["index"], calls[3]["id"]) == (1, "call_2")
    assert end["choices"][0]["finish_reason"] == "tool_calls"
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk, strict=True)


def test_a_refusal_has_a_place_of_its_own() -> None:
    _, first, second, end, _done = events([RefusalDelta("I can"), RefusalDelta("not."), END])
    assert [chunk["choices"][0]["delta"] for chunk in (first, second, end)] == [
        {"refusal": "I can"},
        {"refusal": "not."},
        {},
    ]
    for chunk in (first, second):
        ChatCompletionChunk.model_validate(chunk, strict=True)


def test_a_completion_has_one_place_for_text_and_refusals() -> None:
    first, _end, _done = events([RefusalDelta("I cannot."), END], render=sse.completion_events)
    assert first["choices"][0]["text"] == "I cannot."


@pytest.mark.parametrize("render", [sse.chat_events, sse.completion_events])
def test_reasoning_is_shown_to_nobody(render: Callable[..., Iterator[bytes]]) -> None:
    thoughtful: list[ChatDelta] = [ReasoningDelta("Hm."), ReasoningDelta(""), TextDelta("Hello"), END]
    assert events(thoughtful, render=render) == events(thoughtful[2:], render=render)


@pytest.mark.parametrize("render", [sse.chat_events, sse.completion_events])
def test_a_failure_is_an_error_event_and_the_last_one(render: Callable[..., Iterator[bytes]]) -> None:
    *_, failure = events(failing(TextDelta("half")), render=render)
    assert failure == {
        "error": {"message": "It broke off.", "type": "server_error", "param": None, "code": "provider_unavailable"}
    }


def test_completions_are_streamed_in_their_own_form() -> None:
    deltas: list[ChatDelta] = [TextDelta("Hel"), TextDelta("lo"), END]
    *chunks, last, done = events(deltas, render=sse.completion_events, include_usage=True)
    assert done == "[DONE]"
    assert [chunk["choices"][0]["text"] for chunk in chunks] == ["Hel", "lo", ""]
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert (last["choices"], last["usage"]["total_tokens"]) == ([], 6)
    for text in ("Hel", "lo"):
        assert text in json.dumps(chunks)
    assert {chunk["object"] for chunk in [*chunks, last]} == {"text_completion"}
    # Its type wants a reason in every chunk, which OpenAI itself gives in the last one only.
    Completion.model_validate(last, strict=True)
