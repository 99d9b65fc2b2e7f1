"""Chat, whatever the protocol: a request, a stream of deltas, and the engine that answers by itself.

``ChatError``
 ├── ``ContextTooLongError``   the conversation does not fit the model
 └── ``UpstreamError``         the server that chat is forwarded to refused or failed (``upstream.py``)
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import msgspec
from starlette.concurrency import run_in_threadpool

from local.models.embeddings import Embedder
from local.models.extractive import ExtractiveModel, Turn, answered, asked
from local.models.forms import FormFiller, Hint, asked_keys, keys_schema
from local.models.prompts import wants_json
from local.models.settings import CHAT_CONTEXT_TOKENS, CHAT_OUTPUT_TOKENS
from local.models.tools import ANY_CHOICE, Tool, ToolCall, ToolCaller, ToolChoice

Finish = Literal["end", "length", "stop_sequence", "tool_calls", "guardrail"]


class ChatError(Exception):
    """Base of everything that keeps a chat request from an answer."""


class ContextTooLongError(ChatError):
    """Raised when a conversation has more tokens than the model reads at once."""

    def __init__(self, tokens: int, limit: int) -> None:
        super().__init__(f"{tokens} tokens do not fit a context of {limit}")
        self.tokens = tokens
        self.limit = limit


@dataclass(frozen=True)
class Form:
    """The form of an answer in JSON: any object, or what conforms to ``schema``."""

    schema: Mapping[str, Any] | None = None
    name: str = ""
    description: str = ""


@dataclass(frozen=True)
class ChatRequest:
    """``max_tokens`` bounds the answer; ``stop`` ends it before the first of these texts.

    ``temperature`` and ``top_p`` only matter to a forwarded request: ``extractive-v1`` never samples. ``form`` of
    ``None`` is free text, unless the conversation itself asks for a JSON object; ``prose`` forgets about both.
    """

    turns: tuple[Turn, ...]
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    temperature: float | None = None
    top_p: float | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = ANY_CHOICE
    parallel_calls: bool = True
    form: Form | None = None
    prose: bool = False


@dataclass(frozen=True)
class Usage:
    """Tokens read and written, and how many of them count as something else (``token_classes.py``)."""

    input_tokens: int
    output_tokens: int
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    reasoning_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Both together."""
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True)
class Delta:
    """The next stretch of the answer; never empty."""

    text: str
    tokens: int


@dataclass(frozen=True)
class CallDelta:
    """The next stretch of the tool call with this ``index``; the first has its id and name, and no arguments yet."""

    index: int
    tokens: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


@dataclass(frozen=True)
class End:
    """The last item of every stream: why it ended and what it used."""

    finish: Finish
    usage: Usage


@dataclass(frozen=True)
class ChatReply:
    """A whole answer."""

    text: str
    end: End
    calls: tuple[ToolCall, ...] = ()


Item = Delta | CallDelta | End


class ChatEngine(Protocol):
    """Answers a conversation as deltas and one final ``End``."""

    def stream(self, request: ChatRequest) -> AsyncGenerator[Item]:
        """Answer ``request``; every ``ChatError`` is raised before the first item if it can be known then."""
        ...


class LocalChat:
    """The ``extractive-v1`` engine: the model's answer, cut where the request says."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._model = ExtractiveModel(embedder)
        self._filler = FormFiller(embedder)
        self._caller = ToolCaller(self._filler)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Item]:
        """Answer ``request``.

        Raises:
            ContextTooLongError: the turns exceed ``CHAT_CONTEXT_TOKENS``.
        """
        for item in await run_in_threadpool(lambda: list(self._items(request))):
            yield item

    def _items(self, request: ChatRequest) -> Iterator[Item]:
        read = self._read(request)
        if read > CHAT_CONTEXT_TOKENS:
            raise ContextTooLongError(read, CHAT_CONTEXT_TOKENS)
        room = min(request.max_tokens or CHAT_OUTPUT_TOKENS, CHAT_OUTPUT_TOKENS)
        if calls := self._calls(request):
            pieces: Iterator[Delta | CallDelta] = self._call_pieces(calls)
            finish: Finish = "tool_calls"
        else:
            text, stopped = before_stop(self._text(request), request.stop)
            pieces = (Delta(piece.text, piece.tokens) for piece in self._embedder.pieces(text))
            finish = "stop_sequence" if stopped else "end"
        written = 0
        for piece in pieces:
            if written + piece.tokens > room:
                finish = "length"
                break
            written += piece.tokens
            yield piece
        yield End(finish, Usage(read, written))

    def _read(self, request: ChatRequest) -> int:
        """Tokens of the conversation and of the tools on offer."""
        said = sum(
            self._embedder.count(turn.text) + sum(self._embedder.count(call.arguments) for call in turn.calls)
            for turn in request.turns
        )
        offered = (f"{tool.name} {tool.description} {_json(tool.parameters)}" for tool in request.tools)
        return said + sum(self._embedder.count(text) for text in offered)

    def _calls(self, request: ChatRequest) -> list[ToolCall]:
        choice = request.tool_choice
        # What a tool has answered is told, unless the caller insists on another call.
        if answered(request.turns) and not (choice.required or choice.name):
            return []
        question = asked(request.turns) or " ".join(turn.text for turn in request.turns)
        return self._caller.calls(question, request.tools, choice, parallel=request.parallel_calls)

    def _call_pieces(self, calls: list[ToolCall]) -> Iterator[Delta | CallDelta]:
        for index, call in enumerate(calls):
            yield CallDelta(index, self._embedder.count(call.name), id=call.id, name=call.name)
            for piece in self._embedder.pieces(call.arguments):
                yield CallDelta(index, piece.tokens, arguments=piece.text)

    def _text(self, request: ChatRequest) -> str:
        turns = [turn for turn in request.turns if turn.role != "tool" and (turn.text or not turn.calls)]
        told = self._model.report(request.turns)
        wanted = wants_json([turn.text for turn in turns if turn.role != "assistant"])
        form = request.form or (Form() if wanted else None)
        if form is None or request.prose:
            return told or self._model.answer(turns)
        return self._filled(form, turns, told)

    def _filled(self, form: Form, turns: list[Turn], told: str) -> str:
        # What was said last says most: the text is read from its start.
        texts = [told, *(turn.text for turn in reversed(turns) if turn.role != "system")]
        material = "\n".join(text for text in texts if text)
        hint = Hint(form.name, form.description)
        if form.schema is not None:
            return _json(self._filler.fill(form.schema, material, subject=hint))
        if keys := asked_keys("\n".join(turn.text for turn in turns)):
            return _json(self._filler.fill(keys_schema(keys), material, subject=hint))
        return _json({"answer": told or self._model.answer(turns)})


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def before_stop(text: str, stop: tuple[str, ...]) -> tuple[str, bool]:
    """``text`` up to the first stop sequence in it, and whether there was one."""
    places = [place for place in (text.find(mark) for mark in stop if mark) if place >= 0]
    return (text[: min(places)], True) if places else (text, False)


async def complete(engine: ChatEngine, request: ChatRequest) -> ChatReply:
    """Collect a whole answer; raises what ``engine.stream`` raises."""
    text: list[str] = []
    calls: dict[int, tuple[str, str, list[str]]] = {}
    end = End("end", Usage(0, 0))
    async for item in engine.stream(request):
        if isinstance(item, Delta):
            text.append(item.text)
        elif isinstance(item, CallDelta):
            calls.setdefault(item.index, (item.id or "", item.name or "", []))[2].append(item.arguments)
        else:
            end = item
    called = tuple(ToolCall(id_, name, "".join(arguments)) for id_, name, arguments in calls.values())
    return ChatReply("".join(text), end, called)


async def opened(engine: ChatEngine, request: ChatRequest) -> AsyncGenerator[Item]:
    """Start a stream and wait for its first item, so that a refusal comes before any header is sent."""
    items = engine.stream(request)
    first = await anext(items)

    async def whole() -> AsyncGenerator[Item]:
        async with aclosing(items):
            yield first
            async for item in items:
                yield item

    return whole()
