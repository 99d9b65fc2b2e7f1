"""OpenAI's chat format: from a request of the domain to its body, and from its answers and events back.

https://platform.openai.com/docs/api-reference/chat/create
https://platform.openai.com/docs/api-reference/chat-streaming
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from sluice.domain.ids import new_id
from sluice.domain.inference import (
    ChatDelta,
    ChatRequest,
    ChatResult,
    FinishReason,
    Message,
    NamedTool,
    ReasoningDelta,
    RefusalDelta,
    ResponseFormat,
    StreamEnd,
    TextDelta,
    Tool,
    ToolCallDelta,
    Usage,
)
from sluice.domain.routing import Target
from sluice.domain.streaming import Collector

_FINISH_REASONS: Final = {
    "length": FinishReason.LENGTH,
    "content_filter": FinishReason.CONTENT_FILTER,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
}
_DONE: Final = b"[DONE]"


class CutStreamError(ValueError):
    """A stream that ended without saying why the model stopped."""


class StreamFailure(ValueError):  # noqa: N818 - what the provider reported is a failure, this is how it is handed on
    """The provider's error event. ``body`` is what an error response of its own would have held."""

    def __init__(self, body: bytes) -> None:
        super().__init__("The provider reported an error in mid-stream.")
        self.body = body


class _Function(msgspec.Struct, frozen=True):
    name: str
    arguments: str = ""


class _Call(msgspec.Struct, frozen=True):
    function: _Function
    id: str | None = None


class _Said(msgspec.Struct, frozen=True):
    """What a message and a piece of one have in common.

    Reasoning is no part of OpenAI's format. Servers add it by one of these names: DeepSeek by the first, Ollama and
    OpenRouter by the second, vLLM by either, and some by both at once.
    """

    content: str | None = None
    refusal: str | None = None
    reasoning_content: Any = None
    reasoning: Any = None

    def deltas(self) -> Iterator[ChatDelta]:
        """All of it but the tool calls."""
        reasoning = self.reasoning_content or self.reasoning
        if reasoning and isinstance(reasoning, str):
            yield ReasoningDelta(reasoning)
        if self.content:
            yield TextDelta(self.content)
        if self.refusal:
            yield RefusalDelta(self.refusal)


class _ChatMessage(_Said, frozen=True):
    tool_calls: list[_Call] | None = None


class _Choice(msgspec.Struct, frozen=True):
    message: _ChatMessage
    finish_reason: str | None = None


class _PromptDetails(msgspec.Struct, frozen=True):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class _CompletionDetails(msgspec.Struct, frozen=True):
    reasoning_tokens: int | None = None


class TokenUsage(msgspec.Struct, frozen=True):
    """Tokens as OpenAI counts them: cached ones are part of the prompt, reasoning is part of the completion."""

    prompt_tokens: int
    completion_tokens: int = 0
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None

    def to_domain(self) -> Usage:
        """The same in the domain's words."""
        read = self.prompt_tokens_details or _PromptDetails()
        written = self.completion_tokens_details or _CompletionDetails()
        return Usage(
            input_tokens=self.prompt_tokens,
            output_tokens=self.completion_tokens,
            cache_read_tokens=read.cached_tokens or 0,
            cache_write_tokens=read.cache_write_tokens or 0,
            reasoning_tokens=written.reasoning_tokens or 0,
        )


class ChatAnswer(msgspec.Struct, frozen=True):
    """The answer to a chat completion. Some servers leave the usage out."""

    choices: list[_Choice]
    usage: TokenUsage | None = None

    def to_domain(self, request: ChatRequest) -> ChatResult:
        """The same in the domain's words.

        :raises ValueError: there is no choice in it.
        """
        if not self.choices:
            raise ValueError("There is no choice in the answer.")
        choice = self.choices[0]
        collected = Collector()
        for delta in choice.message.deltas():
            collected.add(delta)
        for index, call in enumerate(choice.message.tool_calls or ()):
            function = call.function
            collected.add(
                ToolCallDelta(index=index, id=_call_id(call.id), name=function.name, arguments=function.arguments)
            )
        usage = self.usage.to_domain() if self.usage else None
        collected.add(StreamEnd(finish_reason=_finish_reason(choice.finish_reason), usage=usage))
        return collected.result(request)


class _FunctionPiece(msgspec.Struct, frozen=True):
    name: str | None = None
    arguments: str | None = None


class _CallPiece(msgspec.Struct, frozen=True):
    index: int = 0
    id: str | None = None
    function: _FunctionPiece = _FunctionPiece()


class _Delta(_Said, frozen=True):
    tool_calls: list[_CallPiece] | None = None


class _ChunkChoice(msgspec.Struct, frozen=True):
    delta: _Delta = _Delta()
    finish_reason: str | None = None


class _Chunk(msgspec.Struct, frozen=True):
    choices: list[_ChunkChoice] = []
    usage: TokenUsage | None = None
    error: Any = None


def body(target: Target, request: ChatRequest, *, stream: bool) -> dict[str, Any]:
    """The body of a chat completion request; members that are ``None`` are to be left out."""
    return {
        "model": target.model,
        "messages": [_message(message) for message in request.messages],
        target.max_tokens_field: request.max_tokens or target.max_output_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "stop": list(request.stop) or None,
        "seed": request.seed,
        "presence_penalty": request.presence_penalty,
        "frequency_penalty": request.frequency_penalty,
        "tools": [_tool(tool) for tool in request.tools] or None,
        "tool_choice": _tool_choice(request),
        "parallel_tool_calls": request.parallel_tool_calls,
        "response_format": _response_format(request.response_format),
        "user": request.user,
        "stream": stream or None,
        "stream_options": {"include_usage": True} if stream else None,
    }


def deltas(chunks: Iterable[bytes]) -> Iterator[ChatDelta]:
    """The pieces of a streamed answer, of which ``chunks`` are the bytes as they arrive.

    :raises StreamFailure: the provider reports an error.
    :raises CutStreamError: the stream ends before its end.
    :raises msgspec.MsgspecError: an event is not of the agreed form.
    """
    decoder = msgspec.json.Decoder(_Chunk)
    reason: str | None = None
    usage: Usage | None = None
    started: set[int] = set()
    for data in events(chunks):
        if data == _DONE:
            break
        chunk = decoder.decode(data)
        if chunk.error is not None:
            raise StreamFailure(data)
        if chunk.usage is not None:
            usage = chunk.usage.to_domain()
        for choice in chunk.choices[:1]:
            yield from _pieces(choice.delta, started)
            reason = choice.finish_reason or reason
    if reason is None:
        raise CutStreamError("The stream has no finish_reason.")
    yield StreamEnd(finish_reason=_finish_reason(reason), usage=usage)


def events(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The data of every server-sent event; comments and other fields are left out, an event that is cut is dropped.

    https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
    """
    data: list[bytes] = []
    for line in _lines(chunks):
        if line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
        elif not line and data:
            yield b"\n".join(data)
            data = []


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    pending = b""
    for chunk in chunks:
        *lines, pending = (pending + chunk).split(b"\n")
        yield from (line.removesuffix(b"\r") for line in lines)


def _pieces(delta: _Delta, started: set[int]) -> Iterator[ChatDelta]:
    yield from delta.deltas()
    for call in delta.tool_calls or ():
        arguments = call.function.arguments or ""
        if call.index in started:
            yield ToolCallDelta(index=call.index, arguments=arguments)
        else:
            started.add(call.index)
            yield ToolCallDelta(
                index=call.index, id=_call_id(call.id), name=call.function.name or "", arguments=arguments
            )


def _message(message: Message) -> dict[str, Any]:
    if message.role == "tool":
        return {"role": "tool", "content": message.content, "tool_call_id": message.tool_call_id}
    if not message.tool_calls:
        return {"role": message.role, "content": message.content}
    calls = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in message.tool_calls
    ]
    return {"role": message.role, "content": message.content or None, "tool_calls": calls}


def _tool(tool: Tool) -> dict[str, Any]:
    given: Mapping[str, Any] = {
        "name": tool.name,
        "description": tool.description,
        "parameters": {"type": "object", **({} if tool.parameters else {"properties": {}}), **tool.parameters},
        "strict": tool.strict,
    }
    return {"type": "function", "function": {name: value for name, value in given.items() if value is not None}}


def _tool_choice(request: ChatRequest) -> Any:
    choice = request.tool_choice
    return {"type": "function", "function": {"name": choice.name}} if isinstance(choice, NamedTool) else choice


def _response_format(asked: ResponseFormat | None) -> dict[str, Any] | None:
    if asked is None:
        return None
    if asked.type == "json_object":
        return {"type": "json_object"}
    given = {"name": asked.name, "description": asked.description, "schema": asked.schema, "strict": asked.strict}
    return {"type": "json_schema", "json_schema": {name: value for name, value in given.items() if value is not None}}


def _finish_reason(reason: str | None) -> FinishReason:
    return _FINISH_REASONS.get(reason or "", FinishReason.STOP)


def _call_id(given: str | None) -> str:
    """Some servers give tool calls no id; answers to them would then have nothing to refer to."""
    return given or new_id("call")
