"""Chat completions in OpenAI's format: https://platform.openai.com/docs/api-reference/chat/create."""

import secrets
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from sluice.domain.errors import InvalidRequestError
from sluice.domain.inference import (
    ChatRequest,
    ChatResult,
    Message,
    NamedTool,
    Role,
    Tool,
    ToolCall,
    Usage,
)
from sluice.domain.inference import ResponseFormat as DomainResponseFormat
from sluice.domain.inference import ToolChoice as DomainToolChoice
from sluice.wire.parsing import parse, unsupported

ModelName = Annotated[str, Meta(min_length=1, max_length=256, description="A model's or an alias's name.")]
StopText = Annotated[str, Meta(min_length=1)]
Stop = StopText | Annotated[list[StopText], Meta(max_length=4)]
Tokens = Annotated[int, Meta(ge=1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Temperature = Annotated[float, Meta(ge=0, le=2)]
TopP = Annotated[float, Meta(ge=0, le=1)]
FunctionName = Annotated[
    str, Meta(pattern="^[A-Za-z0-9_-]{1,64}$", description="Letters, digits, _ and -; 64 at most.")
]
# The length of a name is checked by hand: draft 4 of JSON Schema, which API Gateway takes, cannot say it.
Metadata = Annotated[dict[str, Annotated[str, Meta(max_length=512)]], Meta(max_length=16)]
LONGEST_METADATA_NAME: Final = 64
MAX_TOOLS: Final = 128

# What would change the shape of the answer, and so cannot be ignored as unknown fields are.
_UNSUPPORTED: Final = ("audio", "logprobs", "top_logprobs", "prediction", "web_search_options")


class TextPart(msgspec.Struct, frozen=True):
    """A part of a message that is made of several; only text is served."""

    type: Literal["text"]
    text: str


class FunctionCall(msgspec.Struct, frozen=True):
    """The function that is called; ``arguments`` is JSON as the model wrote it."""

    name: Annotated[str, Meta(min_length=1)]
    arguments: str


class ToolCallObject(msgspec.Struct, frozen=True, kw_only=True):
    """A tool call, in an answer and in the history of a conversation."""

    id: Annotated[str, Meta(min_length=1)]
    type: Literal["function"] = "function"
    function: FunctionCall

    @classmethod
    def of(cls, call: ToolCall) -> "ToolCallObject":
        """``call`` in OpenAI's words."""
        return cls(id=call.id, function=FunctionCall(call.name, call.arguments))


class ChatMessage(msgspec.Struct, frozen=True):
    """One message of the conversation. Only an assistant's may lack content, and only one that calls tools."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | Annotated[list[TextPart], Meta(min_length=1)] | None = None
    tool_calls: list[ToolCallObject] | None = None
    tool_call_id: Annotated[str, Meta(min_length=1)] | None = None
    refusal: str | None = None

    def to_domain(self, place: str) -> Message:
        """The message with its parts joined; ``place`` is where it stands, for what is wrong with it."""
        if self.role == "assistant":
            return self._assistant(place)
        if self.content is None:
            raise _required(f"{place}.content")
        if self.role == "tool":
            if self.tool_call_id is None:
                raise _required(f"{place}.tool_call_id")
            return Message("tool", self._text(), tool_call_id=self.tool_call_id)
        role: Role = "system" if self.role == "developer" else self.role
        return Message(role, self._text())

    def _assistant(self, place: str) -> Message:
        if self.content is None and not self.tool_calls and self.refusal is None:
            raise _required(f"{place}.content")
        calls = tuple(
            ToolCall(id=call.id, name=call.function.name, arguments=call.function.arguments)
            for call in self.tool_calls or ()
        )
        return Message("assistant", self._text(), calls)

    def _text(self) -> str:
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content)
        return self.content or self.refusal or ""


class FunctionDefinition(msgspec.Struct, frozen=True):
    """A function that the model may call; ``parameters`` is a JSON Schema, and none at all means no parameters."""

    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ToolDefinition(msgspec.Struct, frozen=True):
    """A tool; only functions are served."""

    type: Literal["function"]
    function: FunctionDefinition

    def to_domain(self) -> Tool:
        """The tool, free of the wire format."""
        function = self.function
        return Tool(
            name=function.name,
            description=function.description or None,
            parameters=function.parameters or {},
            strict=function.strict,
        )


class ChosenFunction(msgspec.Struct, frozen=True):
    """The name of the function to call."""

    name: str


class ChosenTool(msgspec.Struct, frozen=True):
    """The one tool that has to be called."""

    type: Literal["function"]
    function: ChosenFunction


ToolChoice = Literal["none", "auto", "required"] | ChosenTool


class JsonSchema(msgspec.Struct, frozen=True):
    """The schema that an answer has to conform to."""

    name: FunctionName
    schema: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(msgspec.Struct, frozen=True):
    """The form of the answer; ``json_schema`` belongs to the type of that name."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    def to_domain(self) -> DomainResponseFormat | None:
        """The form, or ``None`` for free text."""
        if self.type == "text":
            return None
        if self.type == "json_object":
            return DomainResponseFormat(type="json_object")
        if self.json_schema is None:
            raise _required("response_format.json_schema")
        asked = self.json_schema
        return DomainResponseFormat(
            type="json_schema",
            name=asked.name,
            description=asked.description or None,
            schema=asked.schema or {},
            strict=asked.strict,
        )


class StreamOptions(msgspec.Struct, frozen=True):
    """``include_usage`` asks for one more chunk that tells the tokens."""

    include_usage: bool | None = None


class ChatCompletionRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The body of ``POST /chat/completions``. Fields not named here are ignored."""

    model: ModelName
    messages: Annotated[list[ChatMessage], Meta(min_length=1)]
    max_tokens: Tokens | None = None
    max_completion_tokens: Tokens | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    stop: Stop | None = None
    seed: int | None = None
    n: Literal[1] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    tools: Annotated[list[ToolDefinition], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    user: str | None = None
    metadata: Metadata | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    modalities: list[str] | None = None
    functions: Any = None
    function_call: Any = None
    audio: Any = None
    logprobs: Any = None
    top_logprobs: Any = None
    logit_bias: dict[str, float] | None = None
    prediction: Any = None
    web_search_options: Any = None

    @property
    def include_usage(self) -> bool:
        """Whether a stream has to end with the tokens."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    def to_domain(self) -> ChatRequest:
        """What is asked of the model.

        :raises InvalidRequestError: a field asks for something that is not served, or contradicts another.
        """
        self._refuse_unsupported()
        return ChatRequest(
            model=self.model,
            messages=self._messages(),
            max_tokens=self.max_completion_tokens or self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            stop=stop_texts(self.stop),
            seed=self.seed,
            presence_penalty=self.presence_penalty or None,
            frequency_penalty=self.frequency_penalty or None,
            tools=tuple(tool.to_domain() for tool in self.tools or ()),
            tool_choice=self._tool_choice(),
            parallel_tool_calls=self.parallel_tool_calls if self.tools else None,
            response_format=self.response_format.to_domain() if self.response_format else None,
            user=self.user,
            metadata=self.metadata or {},
        )

    def _messages(self) -> tuple[Message, ...]:
        messages = tuple(message.to_domain(f"messages[{i}]") for i, message in enumerate(self.messages))
        called: set[str] = set()
        for i, message in enumerate(messages):
            called.update(call.id for call in message.tool_calls)
            if message.role == "tool" and message.tool_call_id not in called:
                param = f"messages[{i}].tool_call_id"
                raise InvalidRequestError(
                    f"'{param}' names no tool call of an earlier message.", code="invalid_value", param=param
                )
        return messages

    def _tool_choice(self) -> DomainToolChoice | None:
        names = {tool.function.name for tool in self.tools or ()}
        if not names:
            if self.tool_choice in (None, "none", "auto"):
                return None
            raise InvalidRequestError(
                "'tool_choice' is only of use together with 'tools'.", code="invalid_value", param="tool_choice"
            )
        if not isinstance(self.tool_choice, ChosenTool):
            return self.tool_choice
        if self.tool_choice.function.name not in names:
            raise InvalidRequestError(
                "'tool_choice.function.name' is none of the functions in 'tools'.",
                code="invalid_value",
                param="tool_choice.function.name",
            )
        return NamedTool(self.tool_choice.function.name)

    def _refuse_unsupported(self) -> None:
        if self.modalities is not None and self.modalities != ["text"]:
            raise unsupported("modalities", "Leave it out or ask for ['text'].")
        if self.functions:
            raise unsupported("functions", "Use 'tools'.")
        if self.function_call not in (None, "none"):
            raise unsupported("function_call", "Use 'tool_choice'.")
        refuse_bias(self.logit_bias)
        if any(len(name) > LONGEST_METADATA_NAME for name in self.metadata or ()):
            raise InvalidRequestError(
                f"'metadata' has a name of more than {LONGEST_METADATA_NAME} characters.",
                code="invalid_value",
                param="metadata",
            )
        for name in _UNSUPPORTED:
            # Clients send a field's neutral value (0, false, an empty list) for what they do not use.
            if getattr(self, name):
                raise unsupported(name)


def stop_texts(stop: str | list[str] | None) -> tuple[str, ...]:
    """The stop sequences, however they were given."""
    return (stop,) if isinstance(stop, str) else tuple(stop or ())


def refuse_bias(logit_bias: Mapping[str, float] | None) -> None:
    """Tokens mean something else in every model, so a bias that is not zero cannot be honoured.

    :raises InvalidRequestError: there is one.
    """
    if any((logit_bias or {}).values()):
        raise unsupported("logit_bias")


def _required(param: str) -> InvalidRequestError:
    return InvalidRequestError(f"'{param}' is required.", code="missing_required_parameter", param=param)


def decode_chat_request(body: bytes) -> ChatCompletionRequest:
    """The body of a chat completion request, its types checked.

    :raises InvalidRequestError: naming the field.
    """
    return parse(body, ChatCompletionRequest)


def parse_chat_request(body: bytes) -> ChatRequest:
    """The body of a chat completion request that is answered in one piece, free of the wire format.

    :raises InvalidRequestError: naming the field; ``stream`` when it asks for pieces.
    """
    asked = decode_chat_request(body)
    if asked.stream:
        raise unsupported("stream", "Leave it out or send false: this route answers in one piece.")
    return asked.to_domain()


class PromptTokensDetails(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of the prompt that were read from the provider's cache, and those that were written to it."""

    cached_tokens: int
    cache_write_tokens: int = 0


class CompletionTokensDetails(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of the answer that the model spent on reasoning."""

    reasoning_tokens: int


class CompletionUsage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens as the provider counted them."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails

    @classmethod
    def of(cls, usage: Usage) -> "CompletionUsage":
        """``usage`` in OpenAI's words."""
        return cls(
            prompt_tokens=usage.input_tokens,
            completion_tokens=usage.output_tokens,
            total_tokens=usage.total_tokens,
            prompt_tokens_details=PromptTokensDetails(
                cached_tokens=usage.cache_read_tokens, cache_write_tokens=usage.cache_write_tokens
            ),
            completion_tokens_details=CompletionTokensDetails(reasoning_tokens=usage.reasoning_tokens),
        )


class AssistantMessage(msgspec.Struct, frozen=True, kw_only=True):
    """The model's answer. ``content`` is null when it consists of tool calls alone, or of a ``refusal``."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: str | None = None
    tool_calls: list[ToolCallObject] | UnsetType = UNSET

    @classmethod
    def of(cls, result: ChatResult) -> "AssistantMessage":
        """``result`` as a message, which a client may send back as it is."""
        if not result.tool_calls and result.refusal is None:
            return cls(content=result.text)
        calls = [ToolCallObject.of(call) for call in result.tool_calls]
        return cls(content=result.text or None, refusal=result.refusal, tool_calls=calls or UNSET)


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """The only choice, as ``n`` is always 1."""

    index: int = 0
    message: AssistantMessage
    logprobs: None = None
    finish_reason: Literal["stop", "length", "tool_calls", "content_filter"]


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
        choice = Choice(message=AssistantMessage.of(result), finish_reason=result.finish_reason.value)
        return cls(
            id=completion_id or new_completion_id(),
            created=created,
            model=model,
            choices=[choice],
            usage=CompletionUsage.of(result.usage),
        )


def new_completion_id() -> str:
    """An id of OpenAI's form."""
    return f"chatcmpl-{secrets.token_hex(16)}"
