"""Tokens of special price: how many of a chat model's real tokens count as cached or as reasoning.

A model this small caches nothing and does not reason, yet what is billed at other rates has to be reported, priced and
recorded by everyone who uses it. So a test says how many tokens of a call belong to which class, and every usage
block of every protocol then says so in its own words.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta
from starlette.responses import JSONResponse
from starlette.routing import Route

from local.models.chat import End
from local.models.settings import CHAT_MODEL

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from local.models.chat import ChatEngine, ChatRequest, Item, Usage

Count = Annotated[int, Meta(ge=0, le=1_000_000)]


class TokenClasses(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How many tokens of a call are what.

    Read from and written to the cache are parts of the prompt, as far as it goes; those kept for an hour are a part of
    the written ones. Reasoning is written on top of the answer, where nobody sees it.
    """

    cache_read: Count = 0
    cache_write: Count = 0
    cache_write_1h: Count = 0
    reasoning: Count = 0

    def of(self, usage: Usage) -> Usage:
        """``usage`` with its tokens sorted into these classes."""
        read = min(self.cache_read, usage.input_tokens)
        written = min(self.cache_write, usage.input_tokens - read)
        return replace(
            usage,
            output_tokens=usage.output_tokens + self.reasoning,
            cache_read_tokens=read,
            cache_write_tokens=written,
            cache_write_1h_tokens=min(self.cache_write_1h, written),
            reasoning_tokens=self.reasoning,
        )


class ClassBook:
    """The classes now set. Only used from the event loop, so nothing here is locked."""

    def __init__(self) -> None:
        self.now = TokenClasses()


class SortedChat:
    """A chat engine whose usage is sorted into classes."""

    def __init__(self, engine: ChatEngine, book: ClassBook) -> None:
        self._engine = engine
        self._book = book

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Item]:
        """Answer ``request``, as the engine does."""
        classes = self._book.now
        async with aclosing(self._engine.stream(request)) as items:
            async for item in items:
                yield replace(item, usage=classes.of(item.usage)) if isinstance(item, End) else item


def routes(book: ClassBook) -> list[Route]:
    """The control plane: ``PUT``, ``GET`` and ``DELETE /token-classes/extractive-v1``."""

    def guarded(handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            model = request.path_params["model"]
            if model != CHAT_MODEL:
                return JSONResponse({"error": f"model: {model!r} has no token classes; {CHAT_MODEL} has"}, 400)
            return await handler(request)

        return endpoint

    async def put(request: Request) -> Response:
        try:
            book.now = msgspec.json.decode(await request.body(), type=TokenClasses)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as wrong:
            return JSONResponse({"error": f"not token classes: {wrong}"}, 400)
        return _shown(book)

    async def get(_: Request) -> Response:
        return _shown(book)

    async def delete(_: Request) -> Response:
        book.now = TokenClasses()
        return _shown(book)

    return [
        Route("/token-classes/{model}", guarded(handler), methods=[method])
        for method, handler in (("PUT", put), ("GET", get), ("DELETE", delete))
    ]


def _shown(book: ClassBook) -> JSONResponse:
    shown: dict[str, Any] = msgspec.to_builtins(book.now)
    return JSONResponse(shown)
