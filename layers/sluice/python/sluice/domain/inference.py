"""What is asked of a model and what it answers, free of any provider's wire format."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Literal

import msgspec

from sluice.domain.ledger import NO_LIMITS, Limits

Role = Literal["system", "user", "assistant", "tool"]


class Operation(StrEnum):
    """What a target can do."""

    CHAT = "chat"
    EMBED = "embed"
    CLASSIFY = "classify"
    SCORE = "score"


class Mode(StrEnum):
    """The way a unit of work came in. ``admin`` is an administrator's own, and calls no model."""

    SYNC = "sync"
    ASYNC = "async"
    BATCH = "batch"
    WORKFLOW = "workflow"
    ADMIN = "admin"


class FinishReason(StrEnum):
    """Why the model stopped, in OpenAI's words."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens as the provider counted them, or as they were reckoned where it sent no count (``estimated``).

    ``input_tokens`` includes those read from or written to the provider's cache, ``cache_write_tokens`` includes those
    kept for an hour, and ``output_tokens`` includes those that the model spent on reasoning.
    """

    input_tokens: int
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False

    @property
    def total_tokens(self) -> int:
        """Input plus output."""
        return self.input_tokens + self.output_tokens


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """A model's wish to have a tool called. ``arguments`` is JSON as the model wrote it, which may be malformed."""

    id: str
    name: str
    arguments: str


class Message(msgspec.Struct, frozen=True):
    """One turn of a conversation, text only.

    ``tool_calls`` are an assistant's; ``tool_call_id`` says which of them a message of the role ``tool`` answers.
    """

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """A function that the model may ask for. ``parameters`` is a JSON Schema; ``strict`` asks for exactly that."""

    name: str
    description: str | None = None
    parameters: Mapping[str, Any] = {}
    strict: bool | None = None


class NamedTool(msgspec.Struct, frozen=True):
    """The one tool that the model has to call."""

    name: str


ToolChoice = Literal["auto", "none", "required"] | NamedTool
"""Whether the model may, must not or has to call tools; ``required`` leaves the choice among them to the model."""


class ResponseFormat(msgspec.Struct, frozen=True, kw_only=True):
    """The form of an answer that is not free text. ``name`` and ``schema`` belong to ``json_schema``."""

    type: Literal["json_object", "json_schema"]
    name: str = ""
    description: str | None = None
    schema: Mapping[str, Any] = {}
    strict: bool | None = None


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation to continue. ``model`` is an alias or a target name; at least one message.

    ``response_format`` of ``None`` is free text. ``user`` and ``metadata`` are the caller's own labels: they never
    change an answer, and providers get them only where they have a place for them.
    """

    model: str
    messages: tuple[Message, ...]
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    user: str | None = None
    metadata: Mapping[str, str] = {}


class ChatResult(msgspec.Struct, frozen=True, kw_only=True):
    """One answer of a model: text, tool calls, or both; or a ``refusal``, in the model's own words, in their place."""

    text: str
    finish_reason: FinishReason
    usage: Usage
    tool_calls: tuple[ToolCall, ...] = ()
    refusal: str | None = None

    @property
    def said(self) -> str:
        """The text, else the refusal: for formats that have one place for both."""
        return self.text or self.refusal or ""


class TextDelta(msgspec.Struct, frozen=True, tag="text"):
    """A piece of the answer's text, never empty."""

    text: str


class RefusalDelta(msgspec.Struct, frozen=True, tag="refusal"):
    """A piece of the words in which the model refuses to answer, never empty."""

    text: str


class ReasoningDelta(msgspec.Struct, frozen=True, tag="reasoning"):
    """A piece of what the model writes before it answers: output that is billed, and that callers are not shown.

    It is empty where the provider keeps the text to itself.
    """

    text: str


class ToolCallDelta(msgspec.Struct, frozen=True, kw_only=True, tag="tool_call"):
    """A piece of the tool call with this ``index`` (from 0): the first has ``id`` and ``name``, all have arguments."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


class StreamEnd(msgspec.Struct, frozen=True, kw_only=True, tag="end"):
    """The last item of every stream that is whole. ``usage`` of ``None``: the provider did not say."""

    finish_reason: FinishReason
    usage: Usage | None = None


ChatDelta = TextDelta | RefusalDelta | ReasoningDelta | ToolCallDelta | StreamEnd
"""What a streamed answer is made of: output of every kind as it comes, then exactly one end."""


class EmbeddingRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Texts to embed, at least one. ``dimensions`` asks for shorter vectors where the model can."""

    model: str
    inputs: tuple[str, ...]
    dimensions: int | None = None
    user: str | None = None


class EmbeddingResult(msgspec.Struct, frozen=True, kw_only=True):
    """One vector per input, in the order of the inputs.

    ``tokens_by_input`` is how many tokens each input had, where the provider says so; else it is empty.
    """

    vectors: tuple[tuple[float, ...], ...]
    usage: Usage
    tokens_by_input: tuple[int, ...] = ()


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks. ``allowed_models`` of ``None`` means every model; no ``scopes`` means all of them."""

    key_id: str
    request_id: str
    allowed_models: tuple[str, ...] | None = None
    scopes: tuple[str, ...] = ()
    limits: Limits = NO_LIMITS
