"""OpenAI's protocol at ``/openai/v1``: chat completions (also streamed), embeddings, models.

Tools are functions only. A temperature and the penalties are checked and then of no effect: the answer is
deterministic.
"""

from __future__ import annotations

import base64
import hmac
import math
import re
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn, TypeVar

import msgspec
from msgspec import Meta
from starlette.concurrency import run_in_threadpool

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
from local.models.replies import Frame, Reply, StreamReply, WireError, json_reply
from local.models.settings import (
    CHAT_MODEL,
    EMBEDDING_INPUT_TOKENS,
    EMBEDDING_MODEL,
    OPENAI_KEY,
    OPENAI_MAX_INPUTS,
)
from local.models.tools import Tool, ToolCall, ToolChoice
from local.models.upstream import UpstreamError

if TYPE_CHECKING:
    from starlette.requests import Request

T = TypeVar("T")

_UNKNOWN_FIELD = re.compile(r"unknown field `([^`]+)`")
_MISSING_FIELD = re.compile(r"missing required field `([^`]+)`")

# When these models were first served; a constant, because clients compare it.
_CREATED = 1_795_219_200
_MODELS = (CHAT_MODEL, EMBEDDING_MODEL)
_FINISH: dict[Finish, str] = {
    "end": "stop",
    "length": "length",
    "stop_sequence": "stop",
    "guardrail": "content_filter",
    "tool_calls": "tool_calls",
}
_DONE = b"data: [DONE]\n\n"

_ERRORS = {
    401: ("invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    403: ("invalid_request_error", "permission_denied", "You are not allowed to use this model."),
    404: ("invalid_request_error", "model_not_found", "The model does not exist or you do not have access to it."),
    429: ("requests", "rate_limit_exceeded", "Rate limit reached for requests."),
    503: ("server_error", "service_unavailable", "That model is currently overloaded with other requests."),
}


class Part(msgspec.Struct, frozen=True):
    """A content part; only text is understood."""

    type: str
    text: str | None = None


class CalledFunction(msgspec.Struct, frozen=True):
    """A function and the JSON that it was called with."""

    name: str
    arguments: str


class MessageCall(msgspec.Struct, frozen=True):
    """A tool call in the history."""

    id: str
    type: Literal["function"]
    function: CalledFunction


class Message(msgspec.Struct, frozen=True):
    """A message; an assistant's may lack content."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[Part] | None = None
    tool_calls: list[MessageCall] | None = None
    tool_call_id: str | None = None


class StreamOptions(msgspec.Struct, frozen=True):
    """``include_usage`` asks for one more chunk that tells the tokens."""

    include_usage: bool = False


class JsonSchema(msgspec.Struct, frozen=True):
    """The schema of an answer."""

    name: str
    schema: dict[str, Any] = {}
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(msgspec.Struct, frozen=True):
    """The form of the answer."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class Function(msgspec.Struct, frozen=True):
    """A function on offer."""

    name: Annotated[str, Meta(pattern="^[a-zA-Z0-9_-]{1,64}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class OfferedTool(msgspec.Struct, frozen=True):
    """A tool; only functions are understood."""

    type: Literal["function"]
    function: Function


class NamedFunction(msgspec.Struct, frozen=True):
    """The function that has to be called."""

    name: str


class NamedTool(msgspec.Struct, frozen=True):
    """The tool that has to be called."""

    type: Literal["function"]
    function: NamedFunction


Penalty = Annotated[float, Meta(ge=-2, le=2)]
Count = Annotated[int, Meta(ge=1)]


class ChatCompletionRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What OpenAI documents and this model can be asked; what is only accepted has no effect."""

    model: str
    messages: Annotated[list[Message], Meta(min_length=1)]
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    stop: str | Annotated[list[str], Meta(max_length=4)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[list[OfferedTool], Meta(min_length=1, max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    functions: list[Any] | None = None
    function_call: Any = None
    parallel_tool_calls: bool | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    seed: int | None = None
    user: str | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: dict[str, float] | None = None
    metadata: dict[str, str] | None = None
    store: bool | None = None
    service_tier: str | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    prompt_cache_key: str | None = None
    safety_identifier: str | None = None


Text = Annotated[str, Meta(min_length=1)]


class EmbeddingRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Text only: token ids of another tokenizer would mean nothing here."""

    model: str
    input: Text | Annotated[list[Text], Meta(min_length=1, max_length=OPENAI_MAX_INPUTS)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1, le=DIMENSIONS)] | None = None
    user: str | None = None


class OpenaiDialect:
    """Errors the OpenAI way: ``{"error": {"message", "type", "param", "code"}}``."""

    name: ProtocolName = "openai"

    def throttled(self, status: int | None, retry_after: float | None) -> Reply:
        """429 ``rate_limit_exceeded``."""
        kind, code, message = _ERRORS[429]
        return _error(status or 429, message, kind=kind, code=code, retry_after=retry_after)

    def failed(self, status: int, retry_after: float | None) -> Reply:
        """The error that goes with ``status``."""
        if status in _ERRORS:
            kind, code, message = _ERRORS[status]
            return _error(status, message, kind=kind, code=code, retry_after=retry_after)
        if status < 500:
            return _error(status, "The request was refused.", retry_after=retry_after)
        message = "The server had an error while processing your request. Sorry about that!"
        return _error(status, message, kind="server_error", retry_after=retry_after)

    def refused(self, error: ChatError) -> Reply:
        """A conversation that is too long, or what the upstream said."""
        if isinstance(error, UpstreamError):
            kind, code, _ = _ERRORS.get(error.status, (_kind(error.status), None, ""))
            return _error(error.status, error.message, kind=kind, code=code, retry_after=error.retry_after)
        if isinstance(error, ContextTooLongError):
            message = (
                f"This model's maximum context length is {error.limit} tokens. However, your messages "
                f"resulted in {error.tokens} tokens. Please reduce the length of the messages."
            )
            return _error(400, message, param="messages", code="context_length_exceeded")
        return self.failed(500, None)

    def error_frame(self, reply: Reply) -> Frame:
        """The error object as an event: the client raises it as an ``APIError``."""
        return Frame(b"data: " + reply.body + b"\n\n")

    def damaged(self, frame: Frame) -> Frame:
        """The event with half of its JSON."""
        return Frame(frame.data[: len(frame.data) // 2] + b"<garbage\n\n")


def authorise(request: Request) -> None:
    """Check the key; raises ``WireError`` (401) for a missing or wrong one."""
    sent = request.headers.get("authorization", "")
    if hmac.compare_digest(sent.encode(), f"Bearer {OPENAI_KEY}".encode()):
        return
    message = "Incorrect API key provided." if sent else "You didn't provide an API key."
    raise WireError(_error(401, message, code="invalid_api_key"))


def identify(model: str) -> Callable[[Request, bytes], Call]:
    """Check the key, then read the model from the body: it must be ``model``.

    The returned function raises ``WireError`` for a wrong key, malformed JSON or another model.
    """

    def call(request: Request, body: bytes) -> Call:
        authorise(request)
        try:
            asked = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as malformed:
            message = "We could not parse the JSON body of your request."
            raise WireError(_error(400, message)) from malformed
        if not isinstance(asked, dict):
            _invalid("The body of your request must be a JSON object.")
        name = asked.get("model")
        if not name:
            _invalid("you must provide a model parameter", "model")
        if not isinstance(name, str):
            _invalid("Invalid type for 'model': expected a string.", "model")
        _known(name)
        if name != model:
            _invalid(f"The model '{name}' cannot be used with this endpoint.", "model")
        return Call(model, asked.get("stream") is True, body, dict(request.headers))

    return call


def chat_completions(engine: ChatEngine) -> Answer:
    """``POST /chat/completions``."""

    async def answer(call: Call) -> Reply | StreamReply:
        started = time.monotonic()
        asked = _decode(call.body, ChatCompletionRequest)
        request = _chat_request(asked, prose=call.prose)
        head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": call.model}
        if asked.stream:
            usage = asked.stream_options is not None and asked.stream_options.include_usage
            items = await opened(engine, request)
            return StreamReply(
                _frames(items, head, with_usage=usage), "text/event-stream; charset=utf-8", _headers(started)
            )
        reply = await complete(engine, request)
        choice = {
            "index": 0,
            "message": _answer_message(reply),
            "logprobs": None,
            "finish_reason": _FINISH[reply.end.finish],
        }
        body = {**head, "object": "chat.completion", "choices": [choice], "usage": _usage(reply.end.usage)}
        return json_reply(200, body, _headers(started))

    return answer


def embeddings(embedder: Embedder) -> Answer:
    """``POST /embeddings``."""

    async def answer(call: Call) -> Reply:
        started = time.monotonic()
        asked = _decode(call.body, EmbeddingRequest)
        texts = [asked.input] if isinstance(asked.input, str) else asked.input
        counts = await run_in_threadpool(lambda: [embedder.count(text) for text in texts])
        if (longest := max(counts)) > EMBEDDING_INPUT_TOKENS:
            _invalid(
                f"This model's maximum context length is {EMBEDDING_INPUT_TOKENS} tokens, however you requested "
                f"{longest} tokens. Please reduce your prompt.",
                "input",
                code="context_length_exceeded",
            )
        vectors = await run_in_threadpool(embedder.embed, texts, dimensions=asked.dimensions or DIMENSIONS)
        packed = asked.encoding_format == "base64"
        data = [
            {
                "object": "embedding",
                "index": i,
                "embedding": base64.b64encode(row.astype("<f4").tobytes()).decode() if packed else row.tolist(),
            }
            for i, row in enumerate(vectors)
        ]
        usage = {"prompt_tokens": sum(counts), "total_tokens": sum(counts)}
        return json_reply(200, {"object": "list", "data": data, "model": call.model, "usage": usage}, _headers(started))

    return answer


def list_models() -> Reply:
    """``GET /models``."""
    return json_reply(200, {"object": "list", "data": [_model(name) for name in _MODELS]})


def get_model(name: str) -> Reply:
    """``GET /models/{id}``; raises ``WireError`` (404) for an unknown one."""
    return json_reply(200, _model(_known(name)))


def unknown_route(method: str, path: str, status: int) -> Reply:
    """What OpenAI says to an address it does not have."""
    return _error(status, f"Invalid URL ({method} {path})")


async def _frames(items: AsyncGenerator[Any], head: dict[str, Any], *, with_usage: bool) -> AsyncGenerator[Frame]:
    head = {**head, "object": "chat.completion.chunk"}
    # Asked for usage, every chunk has the member; only the last one fills it.
    blank: dict[str, Any] = {"usage": None} if with_usage else {}
    yield _event({**head, "choices": [_choice({"role": "assistant", "content": ""})], **blank})
    try:
        async for item in items:
            if isinstance(item, Delta):
                yield _event({**head, "choices": [_choice({"content": item.text})], **blank}, tokens=item.tokens)
                continue
            if isinstance(item, CallDelta):
                delta = {"tool_calls": [_call_delta(item)]}
                yield _event({**head, "choices": [_choice(delta)], **blank}, tokens=item.tokens)
                continue
            yield _event({**head, "choices": [_choice({}, _FINISH[item.finish])], **blank}, closing=True)
            if with_usage:
                yield _event({**head, "choices": [], "usage": _usage(item.usage)}, closing=True)
            yield Frame(_DONE, closing=True)
    except ChatError as broken:
        dialect = OpenaiDialect()
        yield dialect.error_frame(dialect.refused(broken))
    finally:
        await items.aclose()


def _event(chunk: object, *, tokens: int = 0, closing: bool = False) -> Frame:
    return Frame(b"data: " + msgspec.json.encode(chunk) + b"\n\n", tokens, closing)


def _choice(delta: Mapping[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}


def _answer_message(reply: ChatReply) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": reply.text, "refusal": None}
    if reply.calls:
        calls = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in reply.calls
        ]
        message |= {"content": reply.text or None, "tool_calls": calls}
    return message


def _call_delta(delta: CallDelta) -> dict[str, Any]:
    if delta.id is None:
        return {"index": delta.index, "function": {"arguments": delta.arguments}}
    function = {"name": delta.name, "arguments": delta.arguments}
    return {"index": delta.index, "id": delta.id, "type": "function", "function": function}


def _chat_request(asked: ChatCompletionRequest, *, prose: bool) -> ChatRequest:
    for name in ("functions", "function_call"):
        if getattr(asked, name) is not None:
            _invalid(
                f"Unsupported parameter: '{name}' is not supported with this model.", name, code="unsupported_parameter"
            )
    if asked.n not in {None, 1}:
        _invalid("Unsupported value: 'n' must be 1 with this model.", "n", code="unsupported_value")
    if asked.logprobs or asked.top_logprobs:
        _invalid("You are not allowed to request logprobs from this model", "logprobs")
    if asked.stream_options is not None and not asked.stream:
        _invalid("The 'stream_options' parameter is only allowed when 'stream' is enabled.", "stream_options")
    if asked.parallel_tool_calls is not None and not asked.tools:
        _invalid("'parallel_tool_calls' is only allowed when 'tools' are specified.", "parallel_tool_calls")
    turns = tuple(_turn(i, message) for i, message in enumerate(asked.messages))
    _refuse_loose_ends(turns)
    return ChatRequest(
        turns=turns,
        max_tokens=asked.max_completion_tokens or asked.max_tokens,
        stop=(asked.stop,) if isinstance(asked.stop, str) else tuple(asked.stop or ()),
        temperature=asked.temperature,
        top_p=asked.top_p,
        tools=tuple(
            Tool(tool.function.name, tool.function.description or "", tool.function.parameters or {})
            for tool in asked.tools or ()
        ),
        tool_choice=_tool_choice(asked),
        parallel_calls=asked.parallel_tool_calls is not False,
        form=_form(asked.response_format),
        prose=prose,
    )


def _tool_choice(asked: ChatCompletionRequest) -> ToolChoice:
    choice = asked.tool_choice
    if choice is not None and not asked.tools:
        _invalid("'tool_choice' is only allowed when 'tools' are specified.", "tool_choice")
    if isinstance(choice, NamedTool):
        name = choice.function.name
        if all(tool.function.name != name for tool in asked.tools or ()):
            _invalid(f"Tool choice '{name}' not found in 'tools' parameter.", "tool_choice")
        return ToolChoice(name=name)
    return ToolChoice(required=choice == "required", forbidden=choice == "none")


def _form(asked: ResponseFormat | None) -> Form | None:
    if asked is None or asked.type == "text":
        return None
    if asked.type == "json_object":
        return Form()
    if asked.json_schema is None:
        _invalid("Missing required parameter: 'response_format.json_schema'.", "response_format.json_schema")
    return Form(asked.json_schema.schema, asked.json_schema.name, asked.json_schema.description or "")


def _refuse_loose_ends(turns: tuple[Turn, ...]) -> None:
    """Every answer of a tool belongs to a call, and every call has an answer before anybody else speaks."""
    waiting: set[str] = set()
    for i, turn in enumerate(turns):
        if turn.role == "tool":
            if turn.call_id not in waiting:
                _invalid(
                    "messages with role 'tool' must be a response to a preceeding message with 'tool_calls'.",
                    f"messages.[{i}].role",
                )
            waiting.discard(turn.call_id or "")
            continue
        if waiting:
            _invalid(
                "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
                "'tool_call_id'.",
                f"messages.[{i}].role",
            )
        waiting = {call.id for call in turn.calls}


def _turn(index: int, message: Message) -> Turn:
    role = "system" if message.role == "developer" else message.role
    calls = tuple(ToolCall(call.id, call.function.name, call.function.arguments) for call in message.tool_calls or ())
    if message.content is None:
        if role != "assistant":
            _invalid("Invalid value for 'content': expected a string, got null.", f"messages[{index}].content")
        return Turn(role, "", calls)
    if role == "tool" and message.tool_call_id is None:
        _invalid("Missing required parameter: 'tool_call_id'.", f"messages[{index}].tool_call_id")
    if isinstance(message.content, str):
        return Turn(role, message.content, calls, message.tool_call_id)
    for part in message.content:
        if part.type != "text" or part.text is None:
            _invalid(f"Invalid content type. {part.type} is not supported by this model.", f"messages[{index}].content")
    return Turn(role, "\n".join(part.text or "" for part in message.content), calls, message.tool_call_id)


def _decode(body: bytes, kind: type[T]) -> T:
    """Read a request; a refusal names the field, as ``param``."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as wrong:
        message, _, place = str(wrong).partition(" - at `$")
        if unknown := _UNKNOWN_FIELD.search(message):
            _invalid(f"Unrecognized request argument supplied: {unknown[1]}", unknown[1])
        if missing := _MISSING_FIELD.search(message):
            _invalid(f"Missing required parameter: '{missing[1]}'.", f"{place.strip('.`')}.{missing[1]}".lstrip("."))
        param = place.strip(".`") or None
        _invalid(f"Invalid value for '{param}': {message}.", param)


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": _CREATED, "owned_by": "sluice-local"}


def _known(name: str) -> str:
    if name in _MODELS:
        return name
    message = f"The model `{name}` does not exist or you do not have access to it."
    raise WireError(_error(404, message, param="model", code="model_not_found"))


def _invalid(message: str, param: str | None = None, *, code: str | None = None) -> NoReturn:
    raise WireError(_error(400, message, param=param, code=code))


def _kind(status: int) -> str:
    return "server_error" if status >= 500 else "invalid_request_error"


def _error(
    status: int,
    message: str,
    *,
    kind: str = "invalid_request_error",
    param: str | None = None,
    code: str | None = None,
    retry_after: float | None = None,
) -> Reply:
    headers = {"x-request-id": f"req_{uuid.uuid4().hex}"}
    if retry_after is not None:
        headers["retry-after"] = str(math.ceil(retry_after))
        headers["retry-after-ms"] = str(round(retry_after * 1000))
    body = {"error": {"message": message, "type": kind, "param": param, "code": code}}
    return json_reply(status, body, headers)


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.cache_read_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def _headers(started: float) -> dict[str, str]:
    taken = max(1, round((time.monotonic() - started) * 1000))
    return {"x-request-id": f"req_{uuid.uuid4().hex}", "openai-processing-ms": str(taken)}
