"""Converse's words: from a request of the domain to its parameters, and from its answers and events back.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html
https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html
"""

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any, Final

import msgspec

from sluice.domain.errors import ProviderRejectedError, UnsupportedByTargetError
from sluice.domain.inference import (
    ChatDelta,
    ChatRequest,
    ChatResult,
    FinishReason,
    Message,
    NamedTool,
    ReasoningDelta,
    StreamEnd,
    TextDelta,
    Tool,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from sluice.domain.routing import Target

HIGHEST_TEMPERATURE: Final = 1.0
# Converse has a place for a schema but none for "any JSON object".
JSON_INSTRUCTION: Final = "Answer with one JSON object and nothing else."

# https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html#API_runtime_Converse_ResponseSyntax
_FINISH_REASONS: Final[Mapping[str, FinishReason]] = {
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "guardrail_intervened": FinishReason.CONTENT_FILTER,
    "content_filtered": FinishReason.CONTENT_FILTER,
    "tool_use": FinishReason.TOOL_CALLS,
}
_MALFORMED: Final = frozenset({"malformed_model_output", "malformed_tool_use"})
# What requestMetadata takes; pairs that do not fit are left out, as they are the caller's own labels and no more.
_METADATA: Final = re.compile(r"[a-zA-Z0-9\s:_@$#=/+,.-]{1,256}")


class MalformedAnswerError(ValueError):
    """An answer that the model itself got wrong, or that breaks off."""


class CutStreamError(MalformedAnswerError):
    """A stream that ended without its last event."""


def arguments(target: Target, request: ChatRequest) -> dict[str, Any]:
    """The parameters of Converse and ConverseStream.

    :raises UnsupportedByTargetError: Converse has no place for a field.
    :raises ProviderRejectedError: a tool call in the history has arguments that are not a JSON object.
    """
    _refuse_unsupported(target, request)
    given: dict[str, Any] = {
        "modelId": target.model,
        "messages": _turns(target, request.messages),
        "system": _system(request),
        "inferenceConfig": _inference(target, request),
        "toolConfig": _tools(request),
        "outputConfig": _output(request),
        "guardrailConfig": _guardrail(target),
        "requestMetadata": _metadata(request),
    }
    return {name: value for name, value in given.items() if value}


def result(answer: Any, request: ChatRequest) -> ChatResult:
    """The answer of Converse.

    :raises KeyError, TypeError, ValueError: it is not of the agreed form.
    """
    content = answer["output"]["message"]["content"]
    calls = [_call(block["toolUse"]) for block in content if "toolUse" in block]
    return ChatResult(
        text="".join(block["text"] for block in content if "text" in block),
        finish_reason=_finish_reason(answer["stopReason"], request),
        usage=usage(answer["usage"]),
        tool_calls=tuple(calls[: _most_calls(request)]),
    )


def deltas(events: Iterable[Any], request: ChatRequest) -> Iterator[ChatDelta]:
    """The pieces of ConverseStream's answer.

    :raises KeyError, TypeError, ValueError: an event is not of the agreed form, or the last one is missing.
    """
    most, calls = _most_calls(request), 0
    call_of_block: dict[int, int] = {}
    reason: FinishReason | None = None
    tokens: Usage | None = None
    for event in events:
        if start := event.get("contentBlockStart"):
            if (tool := start["start"].get("toolUse")) and calls < most:
                call_of_block[start["contentBlockIndex"]] = calls
                yield ToolCallDelta(index=calls, id=tool["toolUseId"], name=tool["name"])
                calls += 1
        elif block := event.get("contentBlockDelta"):
            yield from _piece(block, call_of_block)
        elif stop := event.get("messageStop"):
            reason = _finish_reason(stop["stopReason"], request)
        elif metadata := event.get("metadata"):
            tokens = usage(metadata["usage"])
    if reason is None:
        raise CutStreamError("The stream has no messageStop.")
    yield StreamEnd(finish_reason=reason, usage=tokens)


def usage(counted: Mapping[str, Any]) -> Usage:
    """Bedrock counts cached tokens apart from inputTokens; the domain's input is all of them."""
    read, written = int(counted.get("cacheReadInputTokens") or 0), int(counted.get("cacheWriteInputTokens") or 0)
    details = counted.get("cacheDetails") or ()
    return Usage(
        input_tokens=int(counted["inputTokens"]) + read + written,
        output_tokens=int(counted["outputTokens"]),
        cache_read_tokens=read,
        cache_write_tokens=written,
        cache_write_1h_tokens=min(written, sum(int(part["inputTokens"]) for part in details if part["ttl"] == "1h")),
    )


def _refuse_unsupported(target: Target, request: ChatRequest) -> None:
    for name in ("presence_penalty", "frequency_penalty"):
        if getattr(request, name):
            raise UnsupportedByTargetError(
                f"'{name}' is not supported by the model '{target.name}'. Leave it out.", target=target.name, param=name
            )
    if request.temperature is not None and request.temperature > HIGHEST_TEMPERATURE:
        raise UnsupportedByTargetError(
            f"'temperature' goes up to {HIGHEST_TEMPERATURE:g} for the model '{target.name}'.",
            target=target.name,
            param="temperature",
        )


def _system(request: ChatRequest) -> list[dict[str, str]]:
    said = [message.content for message in request.messages if message.role == "system" and message.content.strip()]
    if not _spoken(request.messages):
        # Converse needs a turn to answer: what only instructs is then asked.
        said = said[:-1]
    if request.response_format is not None and request.response_format.type == "json_object":
        said.append(JSON_INSTRUCTION)
    return [{"text": text} for text in said]


def _spoken(messages: Iterable[Message]) -> list[Message]:
    return [message for message in messages if message.role != "system"]


def _turns(target: Target, messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    """Converse wants user and assistant to take turns, so what one says twice in a row becomes one turn.

    What tools answered is part of the user's turn.
    """
    spoken = _spoken(messages) or [Message("user", messages[-1].content)]
    turns = groupby(spoken, key=lambda message: "assistant" if message.role == "assistant" else "user")
    return [
        {"role": role, "content": [block for message in group for block in _blocks(target, message)]}
        for role, group in turns
    ]


def _blocks(target: Target, message: Message) -> Iterator[dict[str, Any]]:
    # Converse refuses blank text.
    text = [{"text": message.content}] if message.content.strip() else []
    if message.role == "tool":
        yield {"toolResult": {"toolUseId": message.tool_call_id, "content": text}}
        return
    yield from text
    for call in message.tool_calls:
        given = _object(target, call)
        yield {"toolUse": {"toolUseId": call.id, "name": call.name, "input": given}}


def _object(target: Target, call: ToolCall) -> dict[str, Any]:
    try:
        return msgspec.json.decode(call.arguments or "{}", type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError) as exc:
        raise ProviderRejectedError(
            "The arguments of a tool call in 'messages' are not a JSON object.", target=target.name, param="messages"
        ) from exc


def _inference(target: Target, request: ChatRequest) -> dict[str, Any]:
    config = {
        "maxTokens": request.max_tokens or target.max_output_tokens,
        "temperature": request.temperature,
        "topP": request.top_p,
        "stopSequences": list(request.stop) or None,
    }
    return {name: value for name, value in config.items() if value is not None}


def _tools(request: ChatRequest) -> dict[str, Any] | None:
    tools = [{"toolSpec": _specification(tool)} for tool in _offered(request)]
    if not tools:
        return None
    choice: dict[str, Any] | None = None
    if request.tool_choice == "required":
        choice = {"any": {}}
    elif isinstance(request.tool_choice, NamedTool):
        choice = {"tool": {"name": request.tool_choice.name}}
    # "auto" is what Converse does by itself, and not every model lets it be said.
    return {"tools": tools, "toolChoice": choice} if choice else {"tools": tools}


def _offered(request: ChatRequest) -> tuple[Tool, ...]:
    """The tools of the request, less what it does not want called; Converse wants to know every tool of the history."""
    used = {call.name for message in request.messages for call in message.tool_calls}
    if not _calls_allowed(request) and not used:
        return ()
    known = {tool.name for tool in request.tools}
    return (*request.tools, *(Tool(name=name) for name in sorted(used - known)))


def _calls_allowed(request: ChatRequest) -> bool:
    return bool(request.tools) and request.tool_choice != "none"


def _most_calls(request: ChatRequest) -> int:
    """Converse can neither be told to call nothing while tools are known, nor to call one at a time."""
    if not _calls_allowed(request):
        return 0
    return 1 if request.parallel_tool_calls is False else sys.maxsize


def _specification(tool: Tool) -> dict[str, Any]:
    specification: dict[str, Any] = {
        "name": tool.name,
        "inputSchema": {"json": {"type": "object", **tool.parameters}},
    }
    if tool.description:
        specification["description"] = tool.description
    if tool.strict is not None:
        specification["strict"] = tool.strict
    return specification


def _output(request: ChatRequest) -> dict[str, Any] | None:
    asked = request.response_format
    if asked is None or asked.type != "json_schema":
        return None
    schema = {"schema": msgspec.json.encode(asked.schema).decode(), "name": asked.name}
    if asked.description:
        schema["description"] = asked.description
    return {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": schema}}}


def _guardrail(target: Target) -> dict[str, str] | None:
    if target.guardrail is None:
        return None
    return {"guardrailIdentifier": target.guardrail.id, "guardrailVersion": target.guardrail.version}


def _metadata(request: ChatRequest) -> dict[str, str]:
    return {
        key: value
        for key, value in request.metadata.items()
        if _METADATA.fullmatch(key) and (not value or _METADATA.fullmatch(value))
    }


def _finish_reason(stop_reason: str, request: ChatRequest) -> FinishReason:
    if stop_reason in _MALFORMED:
        raise MalformedAnswerError("The model's own output could not be understood.")
    reason = _FINISH_REASONS.get(stop_reason, FinishReason.STOP)
    if reason is FinishReason.TOOL_CALLS and not _calls_allowed(request):
        return FinishReason.STOP
    return reason


def _call(block: Mapping[str, Any]) -> ToolCall:
    return ToolCall(
        id=block["toolUseId"], name=block["name"], arguments=msgspec.json.encode(block.get("input") or {}).decode()
    )


def _piece(block: Mapping[str, Any], call_of_block: Mapping[int, int]) -> Iterator[ChatDelta]:
    delta = block["delta"]
    if text := delta.get("text"):
        yield TextDelta(text)
    elif (reasoning := delta.get("reasoningContent")) is not None:
        # Its signature, and what is redacted, have no text.
        yield ReasoningDelta(reasoning.get("text", ""))
    elif (tool := delta.get("toolUse")) and (index := call_of_block.get(block["contentBlockIndex"])) is not None:
        yield ToolCallDelta(index=index, arguments=tool["input"])
