"""Chat completions in OpenAI's format: https://platform.openai.com/docs/api-reference/chat/create."""

import secrets
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from sluice.domain.errors import InvalidRequestError
from sluice.domain.inference import ChatRequest, ChatResult, Message, Role, Usage
from sluice.wire.parsing import parse, unsupported

ModelName = Annotated[str, Meta(min_length=1, max_length=256, description="A model's or an alias's name.")]
StopText = Annotated[str, Meta(min_length=1)]
Tokens = Annotated[int, Meta(ge=1)]

# What would change the shape of the answer, and so cannot be ignored as unknown fields are.
_UNSUPPORTED: Final = (
    "tools", "tool_choice", "functions", "function_call", "audio", "logprobs", "top_logprobs", "logit_bias",
    "prediction", "web_search_options", "presence_penalty", "frequency_penalty",
)  # fmt: skip


class TextPart(msgspec.Struct, frozen=True):
    """A part of a message that is made of several; only text is served."""

    type: Literal["text"]
    text: str


class ChatMessage(msgspec.Struct, frozen=True):
    """One message of the conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[TextPart], Meta(min_length=1)]

    def to_domain(self) -> Message:
        """The message with its parts joined."""
        content = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        role: Role = "system" if self.role == "developer" else self.role
        return Message(role, content)


class ResponseFormat(msgspec.Struct, frozen=True):
    """The form of the answer; only ``text`` is served."""

    type: str


class ChatCompletionRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The body of ``POST /chat/completions``. Fields not named here are ignored."""

    model: ModelName
    messages: Annotated[list[ChatMessage], Meta(min_length=1)]
    max_tokens: Tokens | None = None
    max_completion_tokens: Tokens | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    stop: StopText | Annotated[list[StopText], Meta(max_length=4)] | None = None
    seed: int | None = None
    n: Literal[1] | None = None
    user: str | None = None
    metadata: dict[str, str] | None = None
    stream: bool | None = None
    stream_options: Any = None
    response_format: ResponseFormat | None = None
    modalities: list[str] | None = None
    tools: Any = None
    tool_choice: Any = None
    functions: Any = None
    function_call: Any = None
    audio: Any = None
    logprobs: Any = None
    top_logprobs: Any = None
    logit_bias: Any = None
    prediction: Any = None
    web_search_options: Any = None
    presence_penalty: Any = None
    frequency_penalty: Any = None

    def to_domain(self) -> ChatRequest:
        """What is asked of the model.

        :raises InvalidRequestError: a field asks for something that is not served, or nobody says anything.
        """
        self._refuse_unsupported()
        messages = tuple(message.to_domain() for message in self.messages)
        if all(message.role == "system" for message in messages):
            raise InvalidRequestError("'messages' needs at least one message of the user.", param="messages")
        return ChatRequest(
            model=self.model,
            messages=messages,
            max_tokens=self.max_completion_tokens or self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            stop=(self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ()),
            seed=self.seed,
        )

    def _refuse_unsupported(self) -> None:
        if self.stream:
            raise unsupported("stream", "Leave it out or send false: the answer comes in one piece.")
        if self.response_format is not None and self.response_format.type != "text":
            raise unsupported("response_format", "Leave it out or ask for the type 'text'.")
        if self.modalities is not None and self.modalities != ["text"]:
            raise unsupported("modalities", "Leave it out or ask for ['text'].")
        if self.tool_choice not in (None, "none", "auto"):
            raise unsupported("tool_choice")
        for name in _UNSUPPORTED:
            # Clients send a field's neutral value (0, false, an empty list) for what they do not use.
            if name != "tool_choice" and getattr(self, name):
                raise unsupported(name)


def parse_chat_request(body: bytes) -> ChatRequest:
    """The body of a chat completion request, checked and free of the wire format.

    :raises InvalidRequestError: naming the field.
    """
    return parse(body, ChatCompletionRequest).to_domain()


class PromptTokensDetails(msgspec.Struct, frozen=True, kw_only=True):
    """``cached_tokens`` of the prompt were read from the provider's cache."""

    cached_tokens: int


class CompletionUsage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens as the provider counted them."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails

    @classmethod
    def of(cls, usage: Usage) -> "CompletionUsage":
        """``usage`` in OpenAI's words."""
        return cls(
            prompt_tokens=usage.input_tokens,
            completion_tokens=usage.output_tokens,
            total_tokens=usage.total_tokens,
            prompt_tokens_details=PromptTokensDetails(cached_tokens=usage.cache_read_tokens),
        )


class AssistantMessage(msgspec.Struct, frozen=True, kw_only=True):
    """The model's answer."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: str | None = None


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """The only choice, as ``n`` is always 1."""

    index: int = 0
    message: AssistantMessage
    logprobs: None = None
    finish_reason: Literal["stop", "length", "content_filter"]


class ChatCompletionResponse(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to ``POST /chat/completions``. ``model`` is the target that answered."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: CompletionUsage

    @classmethod
    def of(
        cls, result: ChatResult, *, model: str, created: int, completion_id: str | None = None
    ) -> "ChatCompletionResponse":
        """``result`` as OpenAI would answer it; ``created`` is epoch seconds."""
        choice = Choice(message=AssistantMessage(content=result.text), finish_reason=result.finish_reason.value)
        return cls(
            id=completion_id or f"chatcmpl-{secrets.token_hex(16)}",
            created=created,
            model=model,
            choices=[choice],
            usage=CompletionUsage.of(result.usage),
        )
