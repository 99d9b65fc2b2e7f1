"""Chat, whatever the protocol: a request, a stream of deltas, and the engine that answers by itself.

``ChatError``
 ├── ``ContextTooLongError``   the conversation does not fit the model
 └── ``UpstreamError``         the server that chat is forwarded to refused or failed (``upstream.py``)
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Literal, Protocol

from starlette.concurrency import run_in_threadpool

from local.models.embeddings import Embedder
from local.models.extractive import ExtractiveModel, Turn
from local.models.settings import CHAT_CONTEXT_TOKENS, CHAT_OUTPUT_TOKENS

Finish = Literal["end", "length", "stop_sequence"]


class ChatError(Exception):
    """Base of everything that keeps a chat request from an answer."""


class ContextTooLongError(ChatError):
    """Raised when a conversation has more tokens than the model reads at once."""

    def __init__(self, tokens: int, limit: int) -> None:
        super().__init__(f"{tokens} tokens do not fit a context of {limit}")
        self.tokens = tokens
        self.limit = limit


@dataclass(frozen=True)
class ChatRequest:
    """``max_tokens`` bounds the answer; ``stop`` ends it before the first of these texts.

    ``temperature`` and ``top_p`` only matter to a forwarded request: ``extractive-v1`` never samples.
    """

    turns: tuple[Turn, ...]
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    temperature: float | None = None
    top_p: float | None = None


@dataclass(frozen=True)
class Usage:
    """Tokens read and written."""

    input_tokens: int
    output_tokens: int

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
class End:
    """The last item of every stream: why it ended and what it used."""

    finish: Finish
    usage: Usage


@dataclass(frozen=True)
class ChatReply:
    """A whole answer."""

    text: str
    end: End


class ChatEngine(Protocol):
    """Answers a conversation as deltas and one final ``End``."""

    def stream(self, request: ChatRequest) -> AsyncGenerator[Delta | End]:
        """Answer ``request``; every ``ChatError`` is raised before the first item if it can be known then."""
        ...


class LocalChat:
    """The ``extractive-v1`` engine: the model's answer, cut where the request says."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._model = ExtractiveModel(embedder)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Delta | End]:
        """Answer ``request``.

        Raises:
            ContextTooLongError: the turns exceed ``CHAT_CONTEXT_TOKENS``.
        """
        for item in await run_in_threadpool(lambda: list(self._items(request))):
            yield item

    def _items(self, request: ChatRequest) -> Iterator[Delta | End]:
        read = sum(self._embedder.count(turn.text) for turn in request.turns)
        if read > CHAT_CONTEXT_TOKENS:
            raise ContextTooLongError(read, CHAT_CONTEXT_TOKENS)
        text, stopped = before_stop(self._model.answer(request.turns), request.stop)
        finish: Finish = "stop_sequence" if stopped else "end"
        room = min(request.max_tokens or CHAT_OUTPUT_TOKENS, CHAT_OUTPUT_TOKENS)
        written = 0
        for piece in self._embedder.pieces(text):
            if written + piece.tokens > room:
                finish = "length"
                break
            written += piece.tokens
            yield Delta(piece.text, piece.tokens)
        yield End(finish, Usage(read, written))


def before_stop(text: str, stop: tuple[str, ...]) -> tuple[str, bool]:
    """``text`` up to the first stop sequence in it, and whether there was one."""
    places = [place for place in (text.find(mark) for mark in stop if mark) if place >= 0]
    return (text[: min(places)], True) if places else (text, False)


async def complete(engine: ChatEngine, request: ChatRequest) -> ChatReply:
    """Collect a whole answer; raises what ``engine.stream`` raises."""
    text: list[str] = []
    end = End("end", Usage(0, 0))
    async for item in engine.stream(request):
        if isinstance(item, Delta):
            text.append(item.text)
        else:
            end = item
    return ChatReply("".join(text), end)


async def opened(engine: ChatEngine, request: ChatRequest) -> AsyncGenerator[Delta | End]:
    """Start a stream and wait for its first item, so that a refusal comes before any header is sent."""
    items = engine.stream(request)
    first = await anext(items)

    async def whole() -> AsyncGenerator[Delta | End]:
        async with aclosing(items):
            yield first
            async for item in items:
                yield item

    return whole()
