"""A guardrail for the Bedrock protocol: denied topics by meaning, denied words by letter, on the way in and out.

What Amazon Bedrock Guardrails do with Converse: text that is refused on the way in never reaches the model and costs
no tokens; text that is refused on the way out is paid for and not shown. Either way the answer is a message of the
guardrail's own, and its stop reason says so.
https://docs.aws.amazon.com/bedrock/latest/userguide/guardrails-use-converse-api.html
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse
from starlette.routing import Route

from local.models.chat import Delta, End, Usage
from local.models.text import sentences

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from local.models.chat import ChatEngine, ChatRequest, Item
    from local.models.embeddings import Embedder

# AWS's own default texts.
BLOCKED_INPUT = "Sorry, the model cannot answer this question."
BLOCKED_OUTPUT = "Sorry, the model cannot answer this question."
# Mean word vectors of two sentences about one thing are rarely less alike, of two about different things rarely more.
SAME_TOPIC = 0.45

Text = Annotated[str, Meta(min_length=1, max_length=1000)]


class Topic(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A topic that is denied: what is said about it, by example."""

    name: Text
    examples: Annotated[list[Text], Meta(min_length=1, max_length=50)]


class Guardrail(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One version of a guardrail. ``likeness`` is the cosine from which a sentence is of a topic."""

    version: Text = "DRAFT"
    denied_topics: Annotated[list[Topic], Meta(max_length=30)] = []
    denied_words: Annotated[list[Text], Meta(max_length=1000)] = []
    blocked_input: Text = BLOCKED_INPUT
    blocked_output: Text = BLOCKED_OUTPUT
    likeness: Annotated[float, Meta(gt=0, le=1)] = SAME_TOPIC


# There from the start, so that a guarded route can be tried without setting anything.
BUILT_IN = "locallimits"
_BUILT_IN = Guardrail(
    version="1",
    denied_topics=[
        Topic(
            name="Financial advice",
            examples=[
                "Which stocks should I buy?",
                "Where should I invest my savings?",
                "Is this fund a good investment?",
            ],
        )
    ],
    denied_words=["guardrail-test"],
)


class GuardrailBook:
    """The guardrails now set, by id and version. Only used from the event loop, so nothing here is locked."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._set = {(BUILT_IN, _BUILT_IN.version): _BUILT_IN}

    def put(self, name: str, guardrail: Guardrail) -> None:
        """Set a version of the guardrail ``name``."""
        self._set[name, guardrail.version] = guardrail

    def clear(self, name: str | None = None) -> int:
        """Delete every version of ``name``, or of all; returns how many there were."""
        doomed = [key for key in self._set if name in {None, key[0]}]
        for key in doomed:
            del self._set[key]
        return len(doomed)

    def shown(self) -> list[dict[str, Any]]:
        """Every guardrail with its id."""
        return [{"id": name, **msgspec.to_builtins(one)} for (name, _), one in sorted(self._set.items())]

    def guarded(self, engine: ChatEngine, config: Mapping[str, Any] | None) -> ChatEngine:
        """``engine`` behind the guardrail that a request's ``guardrailConfig`` names; itself where there is none.

        Raises:
            LookupError: there is no such guardrail, or not in this version.
        """
        if config is None:
            return engine
        # An ARN ends in the id.
        name = str(config.get("guardrailIdentifier", "")).rpartition("/")[2]
        found = self._set.get((name, str(config.get("guardrailVersion", ""))))
        if found is None:
            raise LookupError("The guardrail identifier or version provided in the request does not exist.")
        return GuardedChat(engine, found, self._embedder)


class GuardedChat:
    """A chat engine behind a guardrail. An answer is shown whole or not at all, so nothing leaks out of a stream."""

    def __init__(self, engine: ChatEngine, guardrail: Guardrail, embedder: Embedder) -> None:
        self._engine = engine
        self._guardrail = guardrail
        self._embedder = embedder

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Item]:
        """Answer ``request``, or refuse to."""
        asked = "\n".join(turn.text for turn in request.turns if turn.role == "user")
        if await self._denies(asked):
            for item in self._refusal(self._guardrail.blocked_input, Usage(0, 0)):
                yield item
            return
        async with aclosing(self._engine.stream(request)) as items:
            answer = [item async for item in items]
        usage = next(item.usage for item in answer if isinstance(item, End))
        if await self._denies("".join(item.text for item in answer if isinstance(item, Delta))):
            answer = self._refusal(self._guardrail.blocked_output, usage)
        for item in answer:
            yield item

    async def _denies(self, text: str) -> bool:
        return await run_in_threadpool(denies, self._guardrail, self._embedder, text)

    def _refusal(self, text: str, usage: Usage) -> list[Any]:
        return [Delta(text, self._embedder.count(text)), End("guardrail", usage)]


def denies(guardrail: Guardrail, embedder: Embedder, text: str) -> bool:
    """Whether ``text`` holds a denied word, or a sentence about a denied topic."""
    if any(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE) for word in guardrail.denied_words):
        return True
    examples = [example for topic in guardrail.denied_topics for example in topic.examples]
    said = sentences(text)
    if not examples or not said:
        return False
    likeness = embedder.embed(said) @ embedder.embed(examples).T
    return bool(likeness.max() >= guardrail.likeness)


def routes(book: GuardrailBook) -> list[Route]:
    """The control plane: ``PUT /guardrails/{id}``, ``GET /guardrails``, ``DELETE /guardrails[/{id}]``."""

    async def put(request: Request) -> Response:
        try:
            guardrail = msgspec.json.decode(await request.body(), type=Guardrail)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as wrong:
            return JSONResponse({"error": f"not a guardrail: {wrong}"}, 400)
        book.put(request.path_params["id"], guardrail)
        return JSONResponse({"guardrails": book.shown()})

    async def get(_: Request) -> Response:
        return JSONResponse({"guardrails": book.shown()})

    async def delete(request: Request) -> Response:
        return JSONResponse({"deleted": book.clear(request.path_params.get("id"))})

    table: tuple[tuple[str, str, Callable[[Request], Awaitable[Response]]], ...] = (
        ("/guardrails", "GET", get),
        ("/guardrails", "DELETE", delete),
        ("/guardrails/{id}", "PUT", put),
        ("/guardrails/{id}", "DELETE", delete),
    )
    return [Route(path, endpoint, methods=[method]) for path, method, endpoint in table]
