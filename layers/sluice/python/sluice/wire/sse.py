"""Streamed answers as server-sent events: https://platform.openai.com/docs/api-reference/chat-streaming.

What comes out is one event per piece, as the provider made them. Each of them is whole, so it makes no difference to a
client whether they arrive one by one (the Function URL) or together (API Gateway, which is sent one body).
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Final, Literal

import msgspec
from msgspec import UNSET, UnsetType

from sluice.domain.errors import SluiceError
from sluice.domain.inference import ChatDelta, RefusalDelta, StreamEnd, TextDelta, ToolCallDelta
from sluice.wire.chat import CompletionUsage
from sluice.wire.completions import CompletionChunk, CompletionChunkChoice, finish_reason

CONTENT_TYPE: Final = "text/event-stream; charset=utf-8"
HEADERS: Final = {"content-type": CONTENT_TYPE, "cache-control": "no-cache"}
DONE: Final = b"data: [DONE]\n\n"

ErrorBody = Callable[[SluiceError], object]
"""How an error is told: the body that a response of its own would have had."""


class FunctionDelta(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a function call: its name comes once, its arguments piece by piece."""

    name: str | UnsetType = UNSET
    arguments: str


class ToolCallChunk(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of the tool call with this ``index``."""

    index: int
    id: str | UnsetType = UNSET
    type: Literal["function"] | UnsetType = UNSET
    function: FunctionDelta


class Delta(msgspec.Struct, frozen=True, kw_only=True):
    """What a chunk adds to the message."""

    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType = UNSET
    refusal: str | UnsetType = UNSET
    tool_calls: list[ToolCallChunk] | UnsetType = UNSET


class ChunkChoice(msgspec.Struct, frozen=True, kw_only=True):
    """The only choice; ``finish_reason`` is null until the end."""

    index: int = 0
    delta: Delta
    logprobs: None = None
    finish_reason: Literal["stop", "length", "tool_calls", "content_filter"] | None = None


class ChatCompletionChunk(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a streamed chat completion. ``usage`` is there only when asked for, and null until the end."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: CompletionUsage | UnsetType | None = UNSET


def chat_events(
    deltas: Iterable[ChatDelta],
    *,
    completion_id: str,
    model: str,
    created: int,
    include_usage: bool,
    error_body: ErrorBody,
) -> Iterator[bytes]:
    """The events of a chat completion: the role, every piece, the reason of the end, usage if asked for, ``[DONE]``.

    Reasoning is left out: OpenAI's format has no place for it. A failure of ``deltas`` becomes OpenAI's error event,
    and nothing comes after it.
    """
    no_usage: UnsetType | None = None if include_usage else UNSET

    def chunk(delta: Delta, finish: StreamEnd | None = None) -> bytes:
        choice = ChunkChoice(delta=delta, finish_reason=finish.finish_reason.value if finish else None)
        return event(
            ChatCompletionChunk(id=completion_id, created=created, model=model, choices=[choice], usage=no_usage)
        )

    def usage_chunk(end: StreamEnd) -> bytes:
        usage = CompletionUsage.of(end.usage) if end.usage else None
        return event(ChatCompletionChunk(id=completion_id, created=created, model=model, choices=[], usage=usage))

    yield chunk(Delta(role="assistant", content=""))
    try:
        for delta in deltas:
            if isinstance(delta, TextDelta):
                yield chunk(Delta(content=delta.text))
            elif isinstance(delta, RefusalDelta):
                yield chunk(Delta(refusal=delta.text))
            elif isinstance(delta, ToolCallDelta):
                yield chunk(Delta(tool_calls=[_tool_call(delta)]))
            elif isinstance(delta, StreamEnd):
                yield chunk(Delta(), delta)
                if include_usage:
                    yield usage_chunk(delta)
    except SluiceError as error:
        yield event(error_body(error))
        return
    yield DONE


def completion_events(
    deltas: Iterable[ChatDelta],
    *,
    completion_id: str,
    model: str,
    created: int,
    include_usage: bool,
    error_body: ErrorBody,
) -> Iterator[bytes]:
    """The events of a (legacy) completion; otherwise as :func:`chat_events`."""
    no_usage: UnsetType | None = None if include_usage else UNSET

    def chunk(text: str, end: StreamEnd | None = None) -> bytes:
        choice = CompletionChunkChoice(text=text, finish_reason=finish_reason(end.finish_reason) if end else None)
        return event(CompletionChunk(id=completion_id, created=created, model=model, choices=[choice], usage=no_usage))

    try:
        for delta in deltas:
            if isinstance(delta, TextDelta | RefusalDelta):
                yield chunk(delta.text)
            elif isinstance(delta, StreamEnd):
                yield chunk("", delta)
                if include_usage:
                    usage = CompletionUsage.of(delta.usage) if delta.usage else None
                    yield event(
                        CompletionChunk(id=completion_id, created=created, model=model, choices=[], usage=usage)
                    )
    except SluiceError as error:
        yield event(error_body(error))
        return
    yield DONE


def event(data: object) -> bytes:
    """One server-sent event. JSON has no line breaks outside of strings, where they are escaped."""
    return b"data: " + msgspec.json.encode(data) + b"\n\n"


def _tool_call(delta: ToolCallDelta) -> ToolCallChunk:
    first = delta.id is not None
    return ToolCallChunk(
        index=delta.index,
        id=delta.id if delta.id is not None else UNSET,
        type="function" if first else UNSET,
        function=FunctionDelta(name=delta.name if delta.name is not None else UNSET, arguments=delta.arguments),
    )
