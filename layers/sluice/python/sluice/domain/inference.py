"""What is asked of a model and what it answers, free of any provider's wire format."""

from enum import StrEnum
from typing import Literal

import msgspec

Role = Literal["system", "user", "assistant"]


class Operation(StrEnum):
    """What a target can do."""

    CHAT = "chat"
    EMBED = "embed"


class Mode(StrEnum):
    """The way a unit of work came in."""

    SYNC = "sync"
    ASYNC = "async"
    WORKFLOW = "workflow"


class FinishReason(StrEnum):
    """Why the model stopped, in OpenAI's words."""

    STOP = "stop"
    LENGTH = "length"
    CONTENT_FILTER = "content_filter"


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens as the provider counted them. ``input_tokens`` includes those read from or written to its cache."""

    input_tokens: int
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Input plus output."""
        return self.input_tokens + self.output_tokens


class Message(msgspec.Struct, frozen=True):
    """One turn of a conversation, text only."""

    role: Role
    content: str


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation to continue. ``model`` is an alias or a target name; at least one message."""

    model: str
    messages: tuple[Message, ...]
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None


class ChatResult(msgspec.Struct, frozen=True, kw_only=True):
    """One answer of a model."""

    text: str
    finish_reason: FinishReason
    usage: Usage


class EmbeddingRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Texts to embed, at least one. ``dimensions`` asks for shorter vectors where the model can."""

    model: str
    inputs: tuple[str, ...]
    dimensions: int | None = None


class EmbeddingResult(msgspec.Struct, frozen=True, kw_only=True):
    """One vector per input, in the order of the inputs."""

    vectors: tuple[tuple[float, ...], ...]
    usage: Usage


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks. ``allowed_models`` of ``None`` means every model."""

    key_id: str
    request_id: str
    allowed_models: tuple[str, ...] | None = None
