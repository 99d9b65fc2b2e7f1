"""Prompts, answers and features are in no log line, no metric and no trace: every sync route, every way it can end."""

import json
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from functions.chat import handler as chat
from functions.chat_completions import handler as chat_completions
from functions.chat_stream import handler as chat_stream
from functions.classify import handler as classify
from functions.completions import handler as completions
from functions.embeddings import handler as embeddings
from functions.score import handler as score
from sluice.domain import errors
from sluice.domain.inference import (
    ChatDelta,
    ChatRequest,
    ChatResult,
    EmbeddingRequest,
    EmbeddingResult,
    FinishReason,
    Operation,
    StreamEnd,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from sluice.domain.keys import ApiKey, hash_secret, new_secret
from sluice.domain.ports import ModelProvider
from sluice.domain.routing import Capability, Target
from sluice.domain.scoring import LeadScore, ScoreRequest, ScoreResult
from sluice.runtime.events import UnexpectedFailureError
from sluice.runtime.http import status_of
from sluice.services.authorize import Authorize
from sluice.services.infer import Inference, RetryPolicy
from sluice.telemetry import logs, tracing
from sluice.testing.invocations import CALLER, FakeLambdaContext, api_event, streamed_response, url_event
from sluice.testing.keys import FakeKeys
from sluice.testing.ledger import FakeLedger
from sluice.testing.request_log import FakeRequestLog
from sluice.testing.routes import FakeRoutes, alias, target
from sluice.testing.target_states import healthy

CANARY = "canary-7b1e"
# A feature is a number, so its canary is one too.
CANARY_NUMBER = 4242.4242
ALL = (Operation.CHAT, Operation.EMBED, Operation.CLASSIFY, Operation.SCORE)
USAGE = Usage(input_tokens=10, output_tokens=5)
SCHEMA: dict[str, Any] = {"type": "object", "properties": {CANARY: {"const": CANARY}}, "required": [CANARY]}
TOOL = {"type": "function", "function": {"name": "look_up", "description": CANARY, "parameters": SCHEMA}}
FORMAT = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}
MESSAGES = [
    {"role": "system", "content": CANARY},
    {"role": "user", "content": [{"type": "text", "text": CANARY}]},
]


SECRET = new_secret()
KEY = ApiKey(id="key_1", key_hash=hash_secret(SECRET), name="tests", prefix=SECRET[:14], created_at=1)


class EchoProvider(ModelProvider):
    """Answers in the caller's words. ``error`` is raised instead; with ``late``, after the first piece of a stream."""

    def __init__(self) -> None:
        self.error: Callable[[Target], Exception] | None = None
        self.late = False
        self.answers = [json.dumps({CANARY: CANARY})]

    def chat(self, target: Target, request: ChatRequest, *, timeout_s: float) -> ChatResult:
        self._fail(target)
        calls = (ToolCall(id="1", name="look_up", arguments=CANARY),) if request.tools else ()
        finish = FinishReason.TOOL_CALLS if calls else FinishReason.STOP
        text = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return ChatResult(text=text, finish_reason=finish, usage=USAGE, tool_calls=calls)

    def stream(self, target: Target, request: ChatRequest, *, timeout_s: float) -> Generator[ChatDelta, None, None]:
        if not self.late:
            self._fail(target)
        yield TextDelta(CANARY)
        self._fail(target)
        yield ToolCallDelta(index=0, id="1", name="look_up", arguments=CANARY)
        yield StreamEnd(finish_reason=FinishReason.STOP, usage=USAGE)

    def embed(self, target: Target, request: EmbeddingRequest, *, timeout_s: float) -> EmbeddingResult:
        self._fail(target)
        return EmbeddingResult(vectors=tuple((1.0, 0.5) for _ in request.inputs), usage=USAGE)

    def score(self, target: Target, request: ScoreRequest, *, timeout_s: float) -> ScoreResult:
        self._fail(target)
        return ScoreResult(scores=tuple(LeadScore.of(0.5) for _ in request.rows), model_version="v1")

    def _fail(self, target: Target) -> None:
        if self.error is not None:
            raise self.error(target)


class Spans:
    """Stands in for X-Ray and keeps everything that it is told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def begin(self) -> None: ...

    def current(self) -> None: ...

    def adopt(self, parent: object) -> None: ...

    @contextmanager
    def subsegment(self, name: str) -> Iterator[Any]:
        self.told.append(name)
        yield self

    def annotate(self, name: str, value: object) -> None:
        self.told.append((name, value))

    def status(self, http_status: int) -> None:
        self.told.append(http_status)


class World:
    def __init__(self) -> None:
        every = frozenset(Capability)
        able = [
            msgspec.structs.replace(target(name, operations=operations), capabilities=every)
            for name, operations in (
                ("bedrock/one", ALL),
                ("bedrock/two", ALL),
                ("bedrock/vectors", (Operation.EMBED, Operation.CLASSIFY)),
            )
        ]
        names = ("bedrock/one", "bedrock/two")
        aliases = [alias(str(operation), *names, operation=operation) for operation in ALL]
        self.provider = EchoProvider()
        self.log = FakeRequestLog()
        self.routes = FakeRoutes(*able, *aliases)
        self.spans = Spans()
        self.inference = Inference(
            routes=self.routes,
            providers={"bedrock": self.provider},
            request_log=self.log,
            ledger=FakeLedger(),
            watch=healthy(),
            policy=RetryPolicy(max_attempts=1),
            http_status=status_of,
        )


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    for module in (chat, chat_completions, chat_stream, classify, completions, embeddings, score):
        monkeypatch.setattr(module, "inference", lambda: world.inference)
    monkeypatch.setattr(chat_stream, "authorize", lambda: Authorize(FakeKeys(KEY), cache_seconds=60))
    monkeypatch.setattr(tracing, "_backend", lambda: world.spans)
    # DEBUG lets through whatever any library has to say.
    monkeypatch.setenv("LOG_LEVEL", "DEBUG")
    return world


Route = tuple[Any, str, Any]
CHAT: dict[str, Any] = {"model": "chat", "messages": MESSAGES, "user": CANARY, "metadata": {"note": CANARY}}
ROUTES: dict[str, Route] = {
    "chat completions": (chat_completions, "/v1/chat/completions", CHAT),
    "with stop sequences": (chat_completions, "/v1/chat/completions", {**CHAT, "stop": [CANARY]}),
    "with tools": (chat_completions, "/v1/chat/completions", {**CHAT, "tools": [TOOL]}),
    "with a schema": (chat_completions, "/v1/chat/completions", {**CHAT, "response_format": FORMAT}),
    "streamed": (chat_completions, "/v1/chat/completions", {**CHAT, "stream": True}),
    "streamed with a schema": (
        chat_completions,
        "/v1/chat/completions",
        {**CHAT, "stream": True, "response_format": FORMAT},
    ),
    "completions": (completions, "/v1/completions", {"model": "chat", "prompt": CANARY, "echo": True}),
    "completions streamed": (completions, "/v1/completions", {"model": "chat", "prompt": CANARY, "stream": True}),
    "by the URL": (chat_stream, "/v1/chat/completions", CHAT),
    "by the URL streamed": (chat_stream, "/v1/chat/completions", {**CHAT, "stream": True}),
    "by the URL streamed with a schema": (
        chat_stream,
        "/v1/chat/completions",
        {**CHAT, "stream": True, "response_format": FORMAT},
    ),
    "completions by the URL": (chat_stream, "/v1/completions", {"model": "chat", "prompt": CANARY, "stream": True}),
    "chat": (chat, "/v1/chat", {"model": "chat", "prompt": CANARY}),
    "embeddings": (embeddings, "/v1/embeddings", {"model": "embed", "input": [CANARY, "x"]}),
    "classify by chat": (classify, "/v1/classify", {"input": CANARY, "labels": [CANARY, "b"], "model": "classify"}),
    "classify by vectors": (
        classify,
        "/v1/classify",
        {"input": [CANARY, CANARY], "labels": [CANARY, "b"], "model": "bedrock/vectors"},
    ),
    "score": (score, "/v1/score", {"model": "score", "features": [CANARY_NUMBER] * 50}),
}
STREAMED = ["streamed", "completions streamed", "by the URL streamed", "completions by the URL"]
PROVIDER_ERRORS = [
    errors.ProviderThrottledError,
    errors.ProviderOverloadedError,
    errors.ProviderTimeoutError,
    errors.ProviderUnavailableError,
    errors.ProviderProtocolError,
    errors.ProviderAuthError,
    errors.ProviderRejectedError,
    errors.ContextTooLongError,
    errors.ContentFilteredError,
]


def provider_error(kind: type[errors.ProviderError]) -> Callable[[Target], Exception]:
    def raised(where: Target) -> Exception:
        error = kind("It failed.", target=where.name)
        # What a library said, with what it choked on.
        error.__cause__ = ValueError(CANARY)
        return error

    return raised


def call(module: Any, resource: str, body: object) -> tuple[int, str]:
    if module is chat_stream:
        return call_by_url(resource, body)
    event = api_event("POST", resource, body=body, authorizer=CALLER)
    response = module.handler(event, FakeLambdaContext())
    return response["statusCode"], response["body"]


def call_by_url(path: str, body: object) -> tuple[int, str]:
    event = url_event("POST", path, body=body, headers={"authorization": f"Bearer {SECRET}"})
    pieces: list[bytes] = []
    told = ""
    try:
        pieces.extend(chat_stream.handler.stream(event, FakeLambdaContext()))
    except UnexpectedFailureError as error:
        # Lambda is told of it, and writes what it is told into its log. What came before is kept by `extend`.
        told = str(error)
    assert CANARY not in told
    prelude, sent = streamed_response(b"".join(pieces).decode())
    return prelude["statusCode"], sent


def assert_nothing_told(world: World, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    output = capsys.readouterr()
    told = [output.out, output.err, *map(str, world.spans.told), repr(world.log.entries)]
    for place in told:
        assert CANARY not in place
        assert str(CANARY_NUMBER) not in place
    lines = [json.loads(line) for line in output.out.splitlines()]
    assert any(line.get("event") == "request" for line in lines)
    assert any("_aws" in line for line in lines)
    return lines


@pytest.mark.parametrize("route", ROUTES.values(), ids=ROUTES.keys())
def test_when_it_is_answered(world: World, capsys: pytest.CaptureFixture[str], route: Route) -> None:
    status, _ = call(*route)
    # Classification by an echo finds no label in the answer.
    assert status == 200 or route[0] is classify
    assert world.log.entries
    assert_nothing_told(world, capsys)


@pytest.mark.parametrize("route", ROUTES.values(), ids=ROUTES.keys())
@pytest.mark.parametrize("kind", PROVIDER_ERRORS)
def test_when_the_provider_fails(
    world: World, capsys: pytest.CaptureFixture[str], route: Route, kind: type[errors.ProviderError]
) -> None:
    world.provider.error = provider_error(kind)
    status, body = call(*route)
    assert status >= 400
    assert CANARY not in body
    assert_nothing_told(world, capsys)


@pytest.mark.parametrize("route", ROUTES.values(), ids=ROUTES.keys())
@pytest.mark.parametrize("error", [RuntimeError(CANARY), ValueError(CANARY), KeyError(CANARY)], ids=repr)
def test_when_something_nobody_foresaw_quotes_it(
    world: World, capsys: pytest.CaptureFixture[str], route: Route, error: Exception
) -> None:
    world.provider.error = lambda _: error
    status, body = call(*route)
    assert status == 500
    assert CANARY not in body
    assert_nothing_told(world, capsys)


@pytest.mark.parametrize("route", [ROUTES[name] for name in STREAMED], ids=STREAMED)
@pytest.mark.parametrize("kind", [*PROVIDER_ERRORS, None])
def test_when_a_stream_breaks_off(
    world: World, capsys: pytest.CaptureFixture[str], route: Route, kind: type[errors.ProviderError] | None
) -> None:
    world.provider.late = True
    world.provider.error = provider_error(kind) if kind else lambda _: RuntimeError(CANARY)
    call(*route)
    assert_nothing_told(world, capsys)


@pytest.mark.parametrize("answers", [["prose " + CANARY, json.dumps({CANARY: CANARY})], ["prose " + CANARY]])
@pytest.mark.parametrize("streamed", [False, True])
def test_when_an_answer_has_to_be_repaired(
    world: World, capsys: pytest.CaptureFixture[str], answers: list[str], streamed: bool
) -> None:
    repaired = len(answers) > 1
    world.provider.answers = list(answers)
    status, body = call(*ROUTES["streamed with a schema" if streamed else "with a schema"])
    assert status == (200 if repaired else 502)
    assert (CANARY in body) is repaired
    assert_nothing_told(world, capsys)


@pytest.mark.parametrize("route", ROUTES.values(), ids=ROUTES.keys())
def test_when_the_ledger_cannot_be_written(world: World, capsys: pytest.CaptureFixture[str], route: Route) -> None:
    world.log.failing = errors.StateError("The table is throttling.")
    call(*route)
    lines = assert_nothing_told(world, capsys)
    assert any(line.get("event") == "ledger_write_failed" for line in lines)


WRONG: dict[str, Route] = {
    "no JSON": (chat_completions, "/v1/chat/completions", CANARY),
    "half of it": (chat_completions, "/v1/chat/completions", json.dumps(CHAT)[:-20]),
    "messages of the wrong type": (chat_completions, "/v1/chat/completions", {**CHAT, "messages": CANARY}),
    "an unknown role": (
        chat_completions,
        "/v1/chat/completions",
        {**CHAT, "messages": [{"role": CANARY, "content": ""}]},
    ),
    "a wrong part": (
        chat_completions,
        "/v1/chat/completions",
        {**CHAT, "messages": [{"role": "user", "content": [{"type": CANARY, "text": CANARY}]}]},
    ),
    "a wrong temperature": (chat_completions, "/v1/chat/completions", {**CHAT, "temperature": CANARY}),
    "a wrong form": (chat_completions, "/v1/chat/completions", {**CHAT, "response_format": {"type": CANARY}}),
    "a wrong schema": (
        chat_completions,
        "/v1/chat/completions",
        {**CHAT, "response_format": {**FORMAT, "json_schema": {"name": "a", "schema": {"type": CANARY}}}},
    ),
    "a wrong tool": (chat_completions, "/v1/chat/completions", {**CHAT, "tools": [{"type": CANARY}]}),
    "a wrong choice": (chat_completions, "/v1/chat/completions", {**CHAT, "tools": [TOOL], "tool_choice": CANARY}),
    "a wrong prompt": (completions, "/v1/completions", {"model": "chat", "prompt": {"text": CANARY}}),
    "a wrong chat": (chat, "/v1/chat", {"prompt": [CANARY]}),
    "wrong parameters": (chat, "/v1/chat", {"model": "chat", "prompt": CANARY, "parameters": {"temperature": CANARY}}),
    "a wrong input": (embeddings, "/v1/embeddings", {"model": "embed", "input": {"text": CANARY}}),
    "a label twice": (classify, "/v1/classify", {"input": CANARY, "labels": [CANARY, CANARY]}),
    "no label": (classify, "/v1/classify", {"input": CANARY}),
    "a word for a number": (score, "/v1/score", {"features": [CANARY] * 50}),
    "a row too short": (score, "/v1/score", {"features": [CANARY_NUMBER] * 49}),
    "a number out of range": (score, "/v1/score", {"rows": [[CANARY_NUMBER * 1e300] * 50]}),
}


@pytest.mark.parametrize("route", WRONG.values(), ids=WRONG.keys())
def test_when_it_is_refused_for_what_it_says(world: World, capsys: pytest.CaptureFixture[str], route: Route) -> None:
    status, body = call(*route)
    assert status == 400
    assert CANARY not in body
    assert_nothing_told(world, capsys)


@pytest.mark.parametrize("route", ROUTES.values(), ids=ROUTES.keys())
def test_when_it_is_too_large(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, route: Route
) -> None:
    monkeypatch.setenv("MAX_INPUT_BYTES", "10")
    status, body = call(*route)
    assert (status, json.loads(body)["error"]["code"]) == (413, "request_too_large")
    assert_nothing_told(world, capsys)


@pytest.mark.parametrize("route", ROUTES.values(), ids=ROUTES.keys())
def test_when_the_routes_cannot_be_read(world: World, capsys: pytest.CaptureFixture[str], route: Route) -> None:
    world.routes.failing = errors.StateError("The table is throttling.")
    status, _ = call(*route)
    assert status == 503
    assert_nothing_told(world, capsys)


def test_every_function_that_answers_prompts_at_once_is_here() -> None:
    """A route that is added later has to be added here as well."""
    handlers = Path(chat.__file__).parents[1].glob("*/handler.py")
    signs = ("Mode.SYNC", "sluice.runtime.completions")
    answering = {path.parent.name for path in handlers if any(sign in path.read_text() for sign in signs)}
    assert {module.__name__.split(".")[1] for module, *_ in ROUTES.values()} == answering


def test_what_is_logged_on_purpose_is_found_so_what_is_not_found_was_not_logged(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.begin(request_id="request-1")
    logs.get_logger().info("request", prompt=CANARY)
    assert CANARY in capsys.readouterr().out
