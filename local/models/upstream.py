"""Chat forwarded to the OpenAI-compatible server that ``SLUICE_LOCAL_LLM_URL`` names (Ollama, llama.cpp, vLLM …)."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any, cast

from local.models import settings
from local.models.chat import CallDelta, ChatError, ChatRequest, Delta, End, Finish, Item, Usage
from local.models.embeddings import Embedder
from local.models.extractive import Turn

if TYPE_CHECKING:
    from openai import AsyncOpenAI, AsyncStream
    from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

_TIMEOUT_S = 120.0
_MODEL_NOT_LISTED = "the server behind SLUICE_LOCAL_LLM_URL lists no model; set SLUICE_LOCAL_LLM_MODEL"


class UpstreamError(ChatError):
    """Raised when the upstream refuses (its 4xx), fails (its 5xx), is too slow (504) or out of reach (503).

    ``retry_after`` is what the upstream asked for, in seconds.
    """

    def __init__(self, status: int, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.retry_after = retry_after


class UpstreamChat:
    """A ``ChatEngine`` that asks another server, always as a stream; its own retries are off."""

    def __init__(self, upstream: settings.Upstream, embedder: Embedder) -> None:
        # Takes most of a second to import, which only those who forward chat should wait for.
        from openai import AsyncOpenAI

        self._client = AsyncOpenAI(base_url=upstream.url, api_key=upstream.key, max_retries=0, timeout=_TIMEOUT_S)
        self._model = upstream.model
        self._embedder = embedder

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Item]:
        """Forward ``request`` and pass on what comes back.

        Raises:
            UpstreamError: before the first item, or in mid-stream when the upstream breaks off.
        """
        import openai

        try:
            async with await self._open(self._client, request) as chunks:
                async for item in self._items(request, chunks):
                    yield item
        except openai.APIStatusError as refused:
            wait = refused.response.headers.get("retry-after", "")
            after = float(wait) if wait.replace(".", "", 1).isdigit() else None
            raise UpstreamError(refused.status_code, refused.message, after) from refused
        except openai.APITimeoutError as slow:
            raise UpstreamError(504, "the upstream model did not answer in time") from slow
        except openai.APIError as lost:
            raise UpstreamError(503, f"the upstream model is unavailable: {lost.message}") from lost
        except ValueError as garbage:
            # A malformed event is not one of the client library's own errors.
            raise UpstreamError(503, "the upstream model is unavailable: its answer cannot be read") from garbage

    async def _open(self, client: AsyncOpenAI, request: ChatRequest) -> AsyncStream[ChatCompletionChunk]:
        from openai import omit

        return await client.chat.completions.create(
            model=self._model or await self._first_model(client),
            # mypy cannot tell the client's message types apart by role.
            messages=cast(
                "list[ChatCompletionMessageParam]",
                [_message(turn) for turn in request.turns],
            ),
            max_tokens=omit if request.max_tokens is None else request.max_tokens,
            stop=list(request.stop) or omit,
            temperature=omit if request.temperature is None else request.temperature,
            top_p=omit if request.top_p is None else request.top_p,
            extra_body=_tools_and_form(request),
            stream=True,
            stream_options={"include_usage": True},
        )

    async def _first_model(self, client: AsyncOpenAI) -> str:
        async for model in client.models.list():
            self._model = model.id
            return model.id
        raise UpstreamError(503, _MODEL_NOT_LISTED)

    async def _items(self, request: ChatRequest, chunks: AsyncStream[ChatCompletionChunk]) -> AsyncGenerator[Item]:
        finish: Finish = "end"
        usage: Usage | None = None
        written = 0
        async for chunk in chunks:
            if chunk.usage:
                usage = Usage(chunk.usage.prompt_tokens, chunk.usage.completion_tokens)
            for choice in chunk.choices[:1]:
                if choice.finish_reason == "length":
                    finish = "length"
                elif choice.finish_reason == "tool_calls":
                    finish = "tool_calls"
                for call in choice.delta.tool_calls or ():
                    arguments = (call.function.arguments if call.function else None) or ""
                    tokens = self._embedder.count(arguments)
                    written += tokens
                    name = call.function.name if call.function else None
                    yield CallDelta(call.index, tokens, id=call.id, name=name, arguments=arguments)
                if text := choice.delta.content:
                    tokens = self._embedder.count(text)
                    written += tokens
                    yield Delta(text, tokens)
        # Servers that report no usage get this server's own count.
        read = sum(self._embedder.count(turn.text) for turn in request.turns)
        yield End(finish, usage or Usage(read, written))


def _message(turn: Turn) -> dict[str, Any]:
    if turn.role == "tool":
        return {"role": "tool", "content": turn.text, "tool_call_id": turn.call_id}
    if not turn.calls:
        return {"role": turn.role, "content": turn.text}
    calls = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in turn.calls
    ]
    return {"role": turn.role, "content": turn.text or None, "tool_calls": calls}


def _tools_and_form(request: ChatRequest) -> dict[str, Any]:
    """What is asked for of tools and JSON, in OpenAI's words; nothing when nothing is."""
    body: dict[str, Any] = {}
    if request.tools and not request.tool_choice.forbidden:
        body["tools"] = [
            {
                "type": "function",
                "function": {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)},
            }
            for tool in request.tools
        ]
        if request.tool_choice.name:
            body["tool_choice"] = {"type": "function", "function": {"name": request.tool_choice.name}}
        elif request.tool_choice.required:
            body["tool_choice"] = "required"
        if not request.parallel_calls:
            body["parallel_tool_calls"] = False
    if request.form is not None and request.form.schema is None:
        body["response_format"] = {"type": "json_object"}
    elif request.form is not None:
        schema = {"name": request.form.name or "answer", "schema": dict(request.form.schema or {})}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    return body
