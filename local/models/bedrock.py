"""Amazon Bedrock Runtime: Converse, ConverseStream, and InvokeModel for Titan-v2-shaped embeddings.

Signatures are not checked; error names, statuses and messages are Bedrock's.
See https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import msgspec
from msgspec import Meta
from starlette.concurrency import run_in_threadpool

from local.models import eventstream
from local.models.chat import (
    CallDelta,
    ChatEngine,
    ChatError,
    ChatReply,
    ChatRequest,
    ContextTooLongError,
    Delta,
    Finish,
    Form,
    Usage,
    complete,
    opened,
)
from local.models.embeddings import DIMENSIONS, Embedder
from local.models.exchange import Answer, Call
from local.models.extractive import Turn
from local.models.faults import ProtocolName
from local.models.guardrails import GuardrailBook
from local.models.replies import Frame, Reply, StreamReply, WireError, json_reply
from local.models.settings import CHAT_MODEL, EMBEDDING_INPUT_TOKENS, EMBEDDING_MODEL
from local.models.tools import Tool, ToolCall, ToolChoice
from local.models.upstream import UpstreamError

if TYPE_CHECKING:
    from starlette.requests import Request

_STATUS = {
    "AccessDeniedException": 403,
    "InternalServerException": 500,
    "ModelErrorException": 424,
    "ModelTimeoutException": 408,
    "ResourceNotFoundException": 404,
    "SerializationException": 400,
    "ServiceUnavailableException": 503,
    "ThrottlingException": 429,
    "ValidationException": 400,
}
_BY_STATUS = {
    400: "ValidationException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    408: "ModelTimeoutException",
    424: "ModelErrorException",
    429: "ThrottlingException",
    500: "InternalServerException",
    503: "ServiceUnavailableException",
    504: "ModelTimeoutException",
}
_MESSAGE = {
    "AccessDeniedException": "You don't have access to the model with the specified model ID.",
    "InternalServerException": "The system encountered an unexpected error during processing. Try your request again.",
    "ModelErrorException": "The model returned an error while processing the request.",
    "ModelTimeoutException": "The model took too long to process the request. Try your request again.",
    "ResourceNotFoundException": "Could not resolve the foundation model from the provided model identifier.",
    "ServiceUnavailableException": "Bedrock is unable to process your request.",
    "ThrottlingException": "Too many requests, please wait before trying again.",
    "ValidationException": "The provided request is not valid.",
}
# The exceptions that ConverseStream may send in mid-stream, named as its event stream names them.
_STREAM_EXCEPTIONS = {
    "InternalServerException": "internalServerException",
    "ServiceUnavailableException": "serviceUnavailableException",
    "ThrottlingException": "throttlingException",
    "ValidationException": "validationException",
}
_STOP_REASON: dict[Finish, str] = {
    "end": "end_turn",
    "length": "max_tokens",
    "stop_sequence": "stop_sequence",
    "tool_calls": "tool_use",
    "guardrail": "guardrail_intervened",
}

Unit = Annotated[float, Meta(ge=0, le=1)]


class Message(msgspec.Struct, frozen=True):
    """A turn; each block is a union of one key: ``text``, ``toolUse`` or ``toolResult``."""

    role: Literal["user", "assistant"]
    content: list[dict[str, Any]]


class InferenceConfig(msgspec.Struct, frozen=True):
    """``temperature`` and ``topP`` are checked and, unless chat is forwarded, of no effect."""

    maxTokens: Annotated[int, Meta(ge=1)] | None = None  # noqa: N815  (the wire's name)
    temperature: Unit | None = None
    topP: Unit | None = None  # noqa: N815
    stopSequences: list[Annotated[str, Meta(min_length=1)]] = []  # noqa: N815


class InputSchema(msgspec.Struct, frozen=True):
    """The JSON Schema of a tool's input."""

    json: dict[str, Any]


class ToolSpec(msgspec.Struct, frozen=True):
    """A tool on offer; ``strict`` is what this model does anyway."""

    name: Annotated[str, Meta(pattern="^[a-zA-Z0-9_-]{1,64}$")]
    inputSchema: InputSchema  # noqa: N815
    description: Annotated[str, Meta(min_length=1)] | None = None
    strict: bool | None = None


class OfferedTool(msgspec.Struct, frozen=True):
    """A member of the union of tools; only ``toolSpec`` is understood."""

    toolSpec: ToolSpec  # noqa: N815


class SpecificTool(msgspec.Struct, frozen=True):
    """The tool that has to be called."""

    name: str


class Choice(msgspec.Struct, frozen=True):
    """A union of one member."""

    auto: dict[str, Any] | None = None
    any: dict[str, Any] | None = None
    tool: SpecificTool | None = None


class ToolConfig(msgspec.Struct, frozen=True):
    """The tools on offer and whether one has to be called."""

    tools: Annotated[list[OfferedTool], Meta(min_length=1)]
    toolChoice: Choice | None = None  # noqa: N815


class JsonSchema(msgspec.Struct, frozen=True):
    """The schema of an answer, as JSON text."""

    schema: str
    name: str = ""
    description: str = ""


class FormatStructure(msgspec.Struct, frozen=True):
    """A union of one member."""

    jsonSchema: JsonSchema  # noqa: N815


class TextFormat(msgspec.Struct, frozen=True):
    """The form of the answer."""

    type: Literal["json_schema"]
    structure: FormatStructure


class OutputConfig(msgspec.Struct, frozen=True):
    """How to answer."""

    textFormat: TextFormat | None = None  # noqa: N815


class ConverseRequest(msgspec.Struct, frozen=True):
    """What Converse and ConverseStream are sent; unknown members are ignored, as AWS does."""

    messages: list[Message] = []
    system: list[dict[str, Any]] = []
    inferenceConfig: InferenceConfig = InferenceConfig()  # noqa: N815
    toolConfig: ToolConfig | None = None  # noqa: N815
    guardrailConfig: dict[str, Any] | None = None  # noqa: N815
    outputConfig: OutputConfig | None = None  # noqa: N815
    additionalModelRequestFields: dict[str, Any] | None = None  # noqa: N815


class BedrockDialect:
    """Errors the Bedrock way: the name in ``x-amzn-ErrorType``, ``{"message"}`` in the body."""

    name: ProtocolName = "bedrock"

    def throttled(self, status: int | None, retry_after: float | None) -> Reply:
        """``ThrottlingException`` (429)."""
        return _error("ThrottlingException", status=status, retry_after=retry_after)

    def failed(self, status: int, retry_after: float | None) -> Reply:
        """The exception of ``status``; for the others ``InternalServerException`` (5xx) or ``ValidationException``."""
        fallback = "InternalServerException" if status >= 500 else "ValidationException"
        return _error(_BY_STATUS.get(status, fallback), status=status, retry_after=retry_after)

    def refused(self, error: ChatError) -> Reply:
        """A conversation that is too long, or what the upstream said."""
        if isinstance(error, UpstreamError):
            return _error(
                _BY_STATUS.get(error.status, "ModelErrorException"), error.message, retry_after=error.retry_after
            )
        if isinstance(error, ContextTooLongError):
            return _error("ValidationException", "Input is too long for requested model.")
        return self.failed(500, None)

    def error_frame(self, reply: Reply) -> Frame:
        """An exception message of the event stream."""
        name = reply.headers["x-amzn-ErrorType"]
        return Frame(eventstream.exception(_STREAM_EXCEPTIONS.get(name, "modelStreamErrorException"), reply.body))

    def damaged(self, frame: Frame) -> Frame:
        """The frame with one bit of its checksum turned over."""
        return Frame(frame.data[:-1] + bytes([frame.data[-1] ^ 1]))


def identify(model: str, *, streaming: bool) -> Callable[[Request, bytes], Call]:
    """Read the model from the path: it must be ``model``, by id or by ARN.

    The returned function raises ``WireError`` for another one.
    """

    def call(request: Request, body: bytes) -> Call:
        asked: str = request.path_params["model"]
        name = asked.rpartition("/")[2] if asked.startswith("arn:") else asked
        if name == model:
            return Call(model, streaming, body, dict(request.headers))
        if name in {CHAT_MODEL, EMBEDDING_MODEL}:
            _invalid(
                "This action doesn't support the model that you provided. "
                "Try again with a supported text or chat model."
            )
        if asked.startswith("arn:"):
            raise WireError(_error("ResourceNotFoundException"))
        _invalid("The provided model identifier is invalid.")

    return call


def converse(engine: ChatEngine, guardrails: GuardrailBook) -> Answer:
    """``POST /model/{modelId}/converse``."""

    async def answer(call: Call) -> Reply:
        started = time.monotonic()
        reply = await complete(_guarded(engine, guardrails, call.body), _chat_request(call))
        body = {
            "output": {"message": {"role": "assistant", "content": _content(reply)}},
            "stopReason": _STOP_REASON[reply.end.finish],
            "usage": _usage(reply.end.usage),
            "metrics": {"latencyMs": _since_ms(started)},
        }
        return json_reply(200, body, _request_id())

    return answer


def converse_stream(engine: ChatEngine, guardrails: GuardrailBook) -> Answer:
    """``POST /model/{modelId}/converse-stream``."""

    async def answer(call: Call) -> StreamReply:
        items = await opened(_guarded(engine, guardrails, call.body), _chat_request(call))
        return StreamReply(_frames(items), eventstream.MEDIA_TYPE, _request_id())

    return answer


def invoke_embeddings(embedder: Embedder) -> Answer:
    """``POST /model/{modelId}/invoke``, in and out as Titan Text Embeddings V2."""

    async def answer(call: Call) -> Reply:
        text, dimensions, normalise, kinds = _titan_request(call.body)
        tokens = embedder.count(text)
        if tokens > EMBEDDING_INPUT_TOKENS:
            _invalid(
                f"400 Bad Request: Too many input tokens. Max input tokens: {EMBEDDING_INPUT_TOKENS}, "
                f"request input token count: {tokens} "
            )
        vectors = await run_in_threadpool(embedder.embed, [text], dimensions=dimensions, normalise=normalise)
        vector = vectors[0].tolist()
        by_type = {"float": vector, "binary": [int(value > 0) for value in vector]}
        body = {
            "embedding": vector,
            "embeddingsByType": {kind: by_type[kind] for kind in kinds},
            "inputTextTokenCount": tokens,
        }
        return json_reply(200, body, {**_request_id(), "x-amzn-bedrock-input-token-count": str(tokens)})

    return answer


async def _frames(items: AsyncGenerator[Any]) -> AsyncGenerator[Frame]:
    started = time.monotonic()
    yield _event("messageStart", {"role": "assistant"})
    block = 0
    try:
        async for item in items:
            if isinstance(item, Delta):
                delta = {"contentBlockIndex": 0, "delta": {"text": item.text}}
                yield _event("contentBlockDelta", delta, tokens=item.tokens)
                continue
            if isinstance(item, CallDelta):
                if item.id is not None and item.index:
                    yield _event("contentBlockStop", {"contentBlockIndex": block})
                block = item.index
                yield _call_event(item)
                continue
            yield _event("contentBlockStop", {"contentBlockIndex": block}, closing=True)
            yield _event("messageStop", {"stopReason": _STOP_REASON[item.finish]}, closing=True)
            metadata = {"usage": _usage(item.usage), "metrics": {"latencyMs": _since_ms(started)}}
            yield _event("metadata", metadata, closing=True)
    except ChatError as broken:
        dialect = BedrockDialect()
        yield dialect.error_frame(dialect.refused(broken))
    finally:
        await items.aclose()


def _call_event(item: CallDelta) -> Frame:
    if item.id is not None:
        start = {"toolUse": {"toolUseId": item.id, "name": item.name}}
        return _event("contentBlockStart", {"contentBlockIndex": item.index, "start": start}, tokens=item.tokens)
    delta = {"toolUse": {"input": item.arguments}}
    return _event("contentBlockDelta", {"contentBlockIndex": item.index, "delta": delta}, tokens=item.tokens)


def _content(reply: ChatReply) -> list[dict[str, Any]]:
    calls = [
        # Cut by maxTokens, the arguments may be no JSON any more; Converse then has an empty input.
        {"toolUse": {"toolUseId": call.id, "name": call.name, "input": _input(call.arguments)}}
        for call in reply.calls
    ]
    return [*([{"text": reply.text}] if reply.text or not calls else []), *calls]


def _input(arguments: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(arguments, type=dict[str, Any])
    except msgspec.DecodeError:
        return {}


def _event(name: str, payload: object, *, tokens: int = 0, closing: bool = False) -> Frame:
    return Frame(eventstream.event(name, msgspec.json.encode(payload)), tokens, closing)


def _decoded(body: bytes) -> ConverseRequest:
    try:
        return msgspec.json.decode(body, type=ConverseRequest)
    except msgspec.ValidationError as wrong:
        _invalid(f"1 validation error detected: {wrong}")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as malformed:
        raise WireError(_error("SerializationException", str(malformed))) from malformed


def _guarded(engine: ChatEngine, guardrails: GuardrailBook, body: bytes) -> ChatEngine:
    try:
        return guardrails.guarded(engine, _decoded(body).guardrailConfig)
    except LookupError as unknown:
        _invalid(str(unknown))


def _chat_request(call: Call) -> ChatRequest:
    request = _decoded(call.body)
    _refuse_what_is_out_of_scope(request)
    if not request.messages or request.messages[0].role != "user":
        _invalid(
            "A conversation must start with a user message. "
            "Try again with a conversation that starts with a user message."
        )
    turns = [Turn("system", _text(block, f"system.{i}")) for i, block in enumerate(request.system)]
    waiting: set[str] = set()
    for i, message in enumerate(request.messages):
        if not message.content:
            _invalid(
                f"The content field in the Message object at messages.{i} is empty. "
                "Add a ContentBlock object to the content field and try again."
            )
        spoken = list(_turns(i, message))
        results = {turn.call_id for turn in spoken if turn.role == "tool"}
        if results != waiting:
            _invalid(
                f"The toolResult blocks at messages.{i}.content do not match the toolUse blocks of the previous turn."
            )
        waiting = {call.id for turn in spoken for call in turn.calls}
        turns += spoken
    if request.toolConfig is None and any(turn.calls or turn.role == "tool" for turn in turns):
        _invalid("The toolConfig field must be defined when using toolUse and toolResult content blocks.")
    config = request.inferenceConfig
    return ChatRequest(
        turns=tuple(turns),
        max_tokens=config.maxTokens,
        stop=tuple(config.stopSequences),
        temperature=config.temperature,
        top_p=config.topP,
        tools=_tools(request.toolConfig),
        tool_choice=_tool_choice(request.toolConfig),
        form=_form(request.outputConfig),
        prose=call.prose,
    )


def _turns(index: int, message: Message) -> Iterator[Turn]:
    """What one message of Converse says: answers of tools first, then its text and calls as one turn."""
    texts: list[str] = []
    calls: list[ToolCall] = []
    for j, block in enumerate(message.content):
        place = f"messages.{index}.content.{j}"
        if "toolResult" in block and message.role == "user":
            yield _tool_result(block["toolResult"], place)
        elif "toolUse" in block and message.role == "assistant":
            calls.append(_tool_use(block["toolUse"], place))
        else:
            texts.append(_text(block, place))
    if texts or calls:
        yield Turn(message.role, "\n".join(texts), tuple(calls))


def _tool_use(block: Any, place: str) -> ToolCall:
    try:
        return ToolCall(str(block["toolUseId"]), str(block["name"]), msgspec.json.encode(block["input"]).decode())
    except (KeyError, TypeError):
        _invalid(f"The toolUse block at {place} needs toolUseId, name and input.")


def _tool_result(block: Any, place: str) -> Turn:
    try:
        parts = [
            part["text"] if "text" in part else msgspec.json.encode(part["json"]).decode() for part in block["content"]
        ]
        return Turn("tool", "\n".join(parts), call_id=str(block["toolUseId"]))
    except (KeyError, TypeError):
        _invalid(f"The toolResult block at {place} needs toolUseId and content of text or json.")


def _tools(config: ToolConfig | None) -> tuple[Tool, ...]:
    specs = [offered.toolSpec for offered in config.tools] if config else []
    for i, spec in enumerate(specs):
        if spec.inputSchema.json.get("type") != "object":
            _invalid(
                f"The value at toolConfig.tools.{i}.toolSpec.inputSchema.json.type must be one of the following: "
                "object."
            )
    return tuple(Tool(spec.name, spec.description or "", spec.inputSchema.json) for spec in specs)


def _tool_choice(config: ToolConfig | None) -> ToolChoice:
    choice = config.toolChoice if config else None
    if config is None or choice is None:
        return ToolChoice()
    if choice.tool is not None:
        if all(offered.toolSpec.name != choice.tool.name for offered in config.tools):
            _invalid("The tool that toolConfig.toolChoice names is not among toolConfig.tools.")
        return ToolChoice(name=choice.tool.name)
    return ToolChoice(required=choice.any is not None)


def _form(config: OutputConfig | None) -> Form | None:
    if config is None or config.textFormat is None:
        return None
    asked = config.textFormat.structure.jsonSchema
    try:
        schema = msgspec.json.decode(asked.schema, type=dict[str, Any])
    except msgspec.DecodeError:
        _invalid("The schema at outputConfig.textFormat.structure.jsonSchema is not a JSON object.")
    return Form(schema, asked.name, asked.description)


def _refuse_what_is_out_of_scope(request: ConverseRequest) -> None:
    for extra in request.additionalModelRequestFields or {}:
        _invalid(
            "The model returned the following errors: Malformed input request: "
            f"#: extraneous key [{extra}] is not permitted, please reformat your input and try again."
        )


def _text(block: Mapping[str, Any], place: str) -> str:
    kind = next(iter(block), None)
    if len(block) != 1 or kind is None:
        _invalid(f"The ContentBlock object at {place} must set one and only one of its members.")
    text = block[kind]
    if kind != "text":
        _invalid(
            f"This model doesn't support the {kind} content block that you provided. "
            "Update the content block and try again."
        )
    if not isinstance(text, str) or not text.strip():
        _invalid(
            f"The text field in the ContentBlock object at {place} is blank. Add text to the text field, and try again."
        )
    return text


def _titan_request(body: bytes) -> tuple[str, int, bool, list[str]]:
    """Text, dimensions, normalise and embedding types of an embedding request; all refusals are Titan's."""
    try:
        asked = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        _malformed("not a JSON object")
    if not isinstance(asked, dict):
        _malformed("#: expected type: JSONObject")
    for key in asked.keys() - {"inputText", "dimensions", "normalize", "embeddingTypes"}:
        _malformed(f"#: extraneous key [{key}] is not permitted")
    if "inputText" not in asked:
        _malformed("#: required key [inputText] not found")
    text, size = asked["inputText"], asked.get("dimensions", DIMENSIONS)
    normalise, kinds = asked.get("normalize", True), asked.get("embeddingTypes", ["float"])
    if not isinstance(text, str):
        _malformed("#/inputText: expected type: String")
    if not text.strip():
        _malformed("expected minLength: 1, actual: 0")
    if type(size) is not int or not 1 <= size <= DIMENSIONS:
        _malformed(f"#/dimensions: expected an integer from 1 to {DIMENSIONS}")
    if not isinstance(normalise, bool):
        _malformed("#/normalize: expected type: Boolean")
    if not isinstance(kinds, list) or not kinds or not all(kind in ("float", "binary") for kind in kinds):
        _malformed("#/embeddingTypes: expected a list of float and binary")
    return text, size, normalise, kinds


def _malformed(why: str) -> NoReturn:
    _invalid(f"Malformed input request: {why}, please reformat your input and try again.")


def _invalid(message: str) -> NoReturn:
    raise WireError(_error("ValidationException", message))


def _error(
    name: str, message: str | None = None, *, status: int | None = None, retry_after: float | None = None
) -> Reply:
    headers = {**_request_id(), "x-amzn-ErrorType": name}
    if retry_after is not None:
        headers["Retry-After"] = str(math.ceil(retry_after))
    return json_reply(status or _STATUS[name], {"message": message or _MESSAGE[name]}, headers)


def _usage(usage: Usage) -> dict[str, Any]:
    counted: dict[str, Any] = {
        # What is read from or written to the cache is counted apart.
        "inputTokens": usage.input_tokens - usage.cache_read_tokens - usage.cache_write_tokens,
        "outputTokens": usage.output_tokens,
        "totalTokens": usage.total_tokens,
    }
    if usage.cache_read_tokens or usage.cache_write_tokens:
        counted["cacheReadInputTokens"] = usage.cache_read_tokens
        counted["cacheWriteInputTokens"] = usage.cache_write_tokens
    if usage.cache_write_tokens:
        by_ttl = {
            "1h": usage.cache_write_1h_tokens,
            "5m": usage.cache_write_tokens - usage.cache_write_1h_tokens,
        }
        counted["cacheDetails"] = [{"ttl": ttl, "inputTokens": tokens} for ttl, tokens in by_ttl.items() if tokens]
    return counted


def _request_id() -> dict[str, str]:
    return {"x-amzn-RequestId": str(uuid.uuid4())}


def _since_ms(started: float) -> int:
    return max(1, round((time.monotonic() - started) * 1000))
