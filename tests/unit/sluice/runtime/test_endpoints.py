"""What the sync routes do, without a connection."""

from __future__ import annotations

import base64
import json
import struct
import sys
from decimal import Decimal
from typing import Any

import pytest

from sluice.domain.deadline import Deadline
from sluice.domain.errors import InvalidRequestError, ProviderProtocolError
from sluice.domain.inference import (
    Caller,
    ChatRequest,
    ChatResult,
    EmbeddingRequest,
    EmbeddingResult,
    FinishReason,
    Mode,
    Operation,
    Usage,
)
from sluice.domain.ports import ModelProvider
from sluice.domain.routing import Target
from sluice.domain.scoring import LeadScore, ScoreRequest, ScoreResult
from sluice.runtime import endpoints as endpoints_module
from sluice.runtime.endpoints import InferenceEndpoints
from sluice.runtime.http import status_of
from sluice.services.infer import Inference, RetryPolicy
from sluice.testing.ledger import FakeLedger
from sluice.testing.request_log import FakeRequestLog
from sluice.testing.routes import FakeRoutes, alias, target
from sluice.testing.target_states import healthy

CALLER = Caller(key_id="key_1", request_id="request-1")
ROW = [0.0] * 50
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"model": "auto", "messages": [{"role": "user", "content": "hi"}]},
    "/v1/completions": {"model": "auto", "prompt": "hi", "echo": True},
    "/v1/chat": {"model": "auto", "prompt": "hi"},
    "/v1/embeddings": {"model": "embed", "input": ["one", "three"]},
    "/v1/classify": {"model": "classify", "input": "one", "labels": ["one", "two"]},
    "/v1/score": {"model": "score", "rows": [ROW]},
    "/v1/summarize": {"model": "auto", "input": "Cats sleep. Cats sleep a lot.", "sentences": 1},
}


class Everything(ModelProvider):
    """Does everything there is to do; a vector says how long its text was."""

    def __init__(self) -> None:
        self.chats: list[ChatRequest] = []
        self.embeds: list[EmbeddingRequest] = []
        self.counts = True

    def chat(self, target: Target, request: ChatRequest, *, timeout_s: float) -> ChatResult:
        self.chats.append(request)
        return ChatResult(
            text=" an answer ", finish_reason=FinishReason.STOP, usage=Usage(input_tokens=10, output_tokens=5)
        )

    def embed(self, target: Target, request: EmbeddingRequest, *, timeout_s: float) -> EmbeddingResult:
        self.embeds.append(request)
        tokens = tuple(map(len, request.inputs))
        return EmbeddingResult(
            vectors=tuple((float(count), 0.5) for count in tokens),
            usage=Usage(input_tokens=sum(tokens)),
            tokens_by_input=tokens if self.counts else (),
        )

    def score(self, target: Target, request: ScoreRequest, *, timeout_s: float) -> ScoreResult:
        return ScoreResult(scores=tuple(LeadScore.of(0.9) for _ in request.rows), model_version="v1")


class World:
    def __init__(self) -> None:
        everything = tuple(Operation)
        self.model = Everything()
        self.log = FakeRequestLog()
        inference = Inference(
            routes=FakeRoutes(
                target("a/one", operations=everything),
                alias("auto", "a/one"),
                *(alias(each.value, "a/one", operation=each) for each in everything if each is not Operation.CHAT),
            ),
            providers={"bedrock": self.model},
            request_log=self.log,
            ledger=FakeLedger(self.log),
            watch=healthy(),
            policy=RetryPolicy(),
            http_status=status_of,
        )
        self.endpoints = InferenceEndpoints(inference)

    def ask(self, endpoint: str, **changes: Any) -> Any:
        return self.endpoints.parse(endpoint, json.dumps({**BODIES[endpoint], **changes}).encode())

    def answer(self, endpoint: str, **changes: Any) -> Any:
        task = self.ask(endpoint, **changes)
        return self.endpoints.answer(task, CALLER, mode=Mode.ASYNC, deadline=Deadline.after(10))


@pytest.mark.parametrize("endpoint", BODIES)
def test_every_endpoint_answers_with_the_routes_document(endpoint: str) -> None:
    world = World()
    answer = world.answer(endpoint)
    assert (answer.status_code, answer.target) == (200, "a/one")
    assert json.loads(answer.body)["model"] == "a/one"
    assert answer.headers["x-sluice-target"] == "a/one"
    [entry] = world.log.entries
    assert (entry.mode, entry.cost_micro_usd) == (Mode.ASYNC, answer.cost_micro_usd)
    assert answer.usage == entry.usage


def test_the_documents_say_what_the_model_said() -> None:
    world = World()
    chat = json.loads(world.answer("/v1/chat/completions").body)
    assert (chat["object"], chat["choices"][0]["message"]["content"]) == ("chat.completion", " an answer ")
    assert json.loads(world.answer("/v1/completions").body)["choices"][0]["text"] == "hi an answer "
    assert json.loads(world.answer("/v1/chat").body)["response"] == " an answer "
    vectors = json.loads(world.answer("/v1/embeddings").body)["data"]
    assert [each["embedding"] for each in vectors] == [[3.0, 0.5], [5.0, 0.5]]
    classified = json.loads(world.answer("/v1/classify").body)
    assert classified["label"] == classified["results"][0]["label"]
    scored = json.loads(world.answer("/v1/score").body)
    assert (len(scored["scores"]), scored["model_version"]) == (1, "v1")
    assert json.loads(world.answer("/v1/summarize").body)["summary"] == "an answer"


def test_vectors_come_in_the_form_that_the_body_asks_for() -> None:
    data = json.loads(World().answer("/v1/embeddings", encoding_format="base64").body)["data"]
    assert struct.unpack("<2f", base64.b64decode(data[1]["embedding"])) == (5.0, 0.5)


def test_a_summary_has_as_many_sentences_as_are_asked_for() -> None:
    world = World()
    world.answer("/v1/summarize", sentences=4, instructions="Leave out names.")
    [sent] = world.model.chats
    assert "at most 4 sentences" in sent.messages[0].content
    assert sent.messages[0].content.endswith("\nLeave out names.")
    assert sent.max_tokens is not None
    assert sent.max_tokens > 4 * 50
    world.answer("/v1/summarize", max_tokens=7)
    assert world.model.chats[1].max_tokens == 7


@pytest.mark.parametrize("endpoint", ["/v1/chat/completions", "/v1/completions"])
def test_nothing_is_streamed(endpoint: str) -> None:
    with pytest.raises(InvalidRequestError, match="'stream' is not supported") as raised:
        World().ask(endpoint, stream=True)
    assert raised.value.param == "stream"


@pytest.mark.parametrize("endpoint", BODIES)
def test_a_body_that_its_route_would_refuse_is_refused(endpoint: str) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        World().ask(endpoint, model=7)
    assert raised.value.param == "model"


@pytest.mark.parametrize("endpoint", ["/v1/models", "chat/completions", ""])
def test_an_endpoint_that_is_none_is_named_as_such(endpoint: str) -> None:
    with pytest.raises(InvalidRequestError, match="/v1/summarize") as raised:
        World().endpoints.parse(endpoint, b"{}")
    assert raised.value.code == "unknown_endpoint"


def test_parsing_needs_nothing_to_answer_with() -> None:
    endpoints = InferenceEndpoints()
    task = endpoints.parse("/v1/embeddings", b'{"model": "embed", "input": "x"}')
    assert (task.model, task.operation) == ("embed", Operation.EMBED)
    with pytest.raises(RuntimeError):
        endpoints.answer(task, CALLER, mode=Mode.BATCH, deadline=Deadline.after(1))


@pytest.mark.parametrize(
    "schema", [{"type": "nonsense"}, {"$ref": "https://example.com/schema"}, {"$ref": "#/nowhere"}]
)
def test_a_schema_that_the_route_would_refuse_is_refused_when_it_is_parsed(schema: dict[str, Any]) -> None:
    asked = {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}}
    body = json.dumps({**BODIES["/v1/chat/completions"], **asked}).encode()
    with pytest.raises(InvalidRequestError) as parsed:
        InferenceEndpoints().parse("/v1/chat/completions", body)
    with pytest.raises(InvalidRequestError) as answered:
        World().answer("/v1/chat/completions", **asked)
    assert (parsed.value.code, parsed.value.param) == ("invalid_json_schema", "response_format")
    assert str(parsed.value) == str(answered.value)
    assert (answered.value.code, answered.value.param) == (parsed.value.code, parsed.value.param)


@pytest.mark.parametrize("wanted", [None, {"type": "text"}, {"type": "json_object"}])
def test_a_body_without_a_schema_is_parsed_without_what_compiles_them(
    monkeypatch: pytest.MonkeyPatch, wanted: dict[str, str] | None
) -> None:
    monkeypatch.setitem(sys.modules, "jsonschema_rs", None)
    body = json.dumps({**BODIES["/v1/chat/completions"], "response_format": wanted}).encode()
    assert InferenceEndpoints().parse("/v1/chat/completions", body).model == "auto"


def test_who_answers_compiles_a_schema_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints_module, "check_schema", lambda _: pytest.fail("checked again"))
    schema = {"name": "x", "schema": {"type": "string"}}
    World().ask("/v1/chat/completions", response_format={"type": "json_schema", "json_schema": schema})


def test_texts_of_many_are_embedded_by_one_call_and_told_apart() -> None:
    world = World()
    tasks = [world.ask("/v1/embeddings", input=each) for each in ("a", ["bb", "ccc"], "dddd")]
    answers = world.endpoints.answer_together(tasks, CALLER, mode=Mode.BATCH, deadline=Deadline.after(10))
    assert [request.inputs for request in world.model.embeds] == [("a", "bb", "ccc", "dddd")]
    bodies = [json.loads(answer.body) for answer in answers]
    assert [[each["embedding"][0] for each in body["data"]] for body in bodies] == [[1.0], [2.0, 3.0], [4.0]]
    assert [[each["index"] for each in body["data"]] for body in bodies] == [[0], [0, 1], [0]]
    assert [body["usage"]["prompt_tokens"] for body in bodies] == [1, 5, 4]
    [entry] = world.log.entries
    assert entry.usage == Usage(input_tokens=10)
    assert sum(answer.cost_micro_usd or Decimal(0) for answer in answers) == entry.cost_micro_usd


def test_texts_of_many_cannot_be_told_apart_without_their_tokens() -> None:
    world = World()
    world.model.counts = False
    tasks = [world.ask("/v1/embeddings", input=each) for each in ("a", "bb")]
    with pytest.raises(ProviderProtocolError):
        world.endpoints.answer_together(tasks, CALLER, mode=Mode.BATCH, deadline=Deadline.after(10))
