"""Idempotency-Key on every POST of a caller, with the functions as they are deployed."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from functions.async_submit import handler as async_submit
from functions.chat import handler as chat
from functions.chat_completions import handler as chat_completions
from functions.classify import handler as classify
from functions.completions import handler as completions
from functions.embeddings import handler as embeddings
from functions.score import handler as score
from functions.workflow_start import handler as workflow_start
from sluice.domain.errors import ProviderUnavailableError
from sluice.domain.inference import Operation
from sluice.domain.jobs import JobPointer
from sluice.domain.ledger import NO_LIMITS
from sluice.domain.routing import Target
from sluice.domain.scoring import LeadScore, ScoreRequest, ScoreResult
from sluice.runtime import bootstrap
from sluice.runtime.endpoints import InferenceEndpoints
from sluice.runtime.http import status_of
from sluice.services.answer_cache import AnswerCache
from sluice.services.idempotency import Idempotency
from sluice.services.infer import Inference, RetryPolicy
from sluice.services.start_workflow import StartWorkflow
from sluice.services.submit_job import SubmitJob
from sluice.testing.answers import FakeAnswers
from sluice.testing.invocations import CALLER, FakeLambdaContext, api_event
from sluice.testing.jobs import FakeJobs
from sluice.testing.ledger import FakeLedger
from sluice.testing.objects import FakeObjects
from sluice.testing.providers import FakeProvider
from sluice.testing.queues import FakeQueue
from sluice.testing.replays import FakeReplays
from sluice.testing.request_log import FakeRequestLog
from sluice.testing.routes import FakeRoutes, alias, target
from sluice.testing.target_states import healthy
from sluice.testing.workflows import FakeEngine, FakeExecutions

ENVIRONMENT = {
    "TABLE_NAME": "sluice-test",
    "BUCKET_NAME": "sluice-test",
    "PROVIDER_SECRET_ARN": "arn:aws:secretsmanager:us-east-1:000000000000:secret:providers",
    "REQUEST_LOG_TTL_DAYS": "90",
    "ATTEMPT_TIMEOUT_SECONDS": "20",
    "MAX_ATTEMPTS": "1",
    "QUEUE_URL": "https://queue",
    "STATE_MACHINE_ARN": "arn:aws:states:us-east-1:000000000000:stateMachine:x",
    "RESULT_TTL_DAYS": "1",
}
MESSAGES = [{"role": "user", "content": "Hello"}]
CHAT = {"model": "chat", "messages": MESSAGES}
Route = tuple[Any, str, dict[str, Any]]
ROUTES: dict[str, Route] = {
    "chat completions": (chat_completions, "/v1/chat/completions", CHAT),
    "streamed": (chat_completions, "/v1/chat/completions", CHAT | {"stream": True}),
    "completions": (completions, "/v1/completions", {"model": "chat", "prompt": "Hello"}),
    "completions streamed": (completions, "/v1/completions", {"model": "chat", "prompt": "Hello", "stream": True}),
    "chat": (chat, "/v1/chat", {"model": "chat", "prompt": "Hello"}),
    "embeddings": (embeddings, "/v1/embeddings", {"model": "embed", "input": ["a", "b"]}),
    "classify": (classify, "/v1/classify", {"model": "classify", "input": "a", "labels": ["x", "y"]}),
    "score": (score, "/v1/score", {"model": "score", "features": [0.5] * 50}),
    "async": (async_submit, "/v1/async/chat/completions", CHAT),
    "workflow": (workflow_start, "/v1/workflows/{name}/executions", {"steps": [{"prompt": "Hello", "model": "chat"}]}),
}
SYNC = {name: route for name, route in ROUTES.items() if name not in ("async", "workflow")}
STREAMED = {name: route for name, route in ROUTES.items() if "streamed" in name}
DURABLE = {name: route for name, route in ROUTES.items() if name in ("async", "workflow")}
# What the caller's key must have, by route.
SCOPES = {"async": "batch", "workflow": "workflow"}
OTHER_CALLER = CALLER | {"key_id": "key_2", "principalId": "key_2"}


class Provider(FakeProvider):
    """Scores as well."""

    def score(self, target: Target, request: ScoreRequest, *, timeout_s: float) -> ScoreResult:
        self.calls.append((target.name, timeout_s))
        return ScoreResult(scores=tuple(LeadScore.of(0.5) for _ in request.rows), model_version="1")


class World:
    def __init__(self) -> None:
        self.store, self.provider, self.log, self.ledger = FakeReplays(), Provider(), FakeRequestLog(), FakeLedger()
        self.jobs, self.executions = FakeJobs(), FakeExecutions()
        chats = target("bedrock/one", operations=(Operation.CHAT,))
        vectors = target("bedrock/vectors", operations=(Operation.EMBED, Operation.CLASSIFY))
        scores = target("bedrock/scores", operations=(Operation.SCORE,))
        routes = FakeRoutes(
            chats,
            vectors,
            scores,
            alias("chat", chats.name),
            alias("embed", vectors.name, operation=Operation.EMBED),
            alias("classify", vectors.name, operation=Operation.CLASSIFY),
            alias("score", scores.name, operation=Operation.SCORE),
        )
        self.inference = Inference(
            routes=routes,
            providers={"bedrock": self.provider},
            request_log=self.log,
            ledger=self.ledger,
            watch=healthy(),
            policy=RetryPolicy(max_attempts=1),
            http_status=status_of,
            answers=AnswerCache(FakeAnswers()),
        )
        self.submit = SubmitJob(
            endpoints=InferenceEndpoints(),
            routes=routes,
            objects=FakeObjects(),
            jobs=self.jobs,
            queue=FakeQueue(JobPointer),
            result_ttl_days=1,
        )
        self.start = StartWorkflow(
            routes=routes, objects=FakeObjects(), executions=self.executions, engine=FakeEngine(), result_ttl_days=1
        )

    @property
    def work(self) -> int:
        """How often anything was done for the caller."""
        return len(self.provider.calls) + len(self.jobs.items) + len(self.executions.executions)


MODULES = {module for module, *_ in ROUTES.values()}


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    world = World()
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(bootstrap, "idempotency", lambda settings: Idempotency(world.store, ttl_s=60))
    for module in MODULES:
        module.replays.cache_clear()
        if module is async_submit:
            monkeypatch.setattr(module, "service", lambda: world.submit)
        elif module is workflow_start:
            monkeypatch.setattr(module, "service", lambda: world.start)
        else:
            monkeypatch.setattr(module, "inference", lambda: world.inference)
    yield world
    for module in MODULES:
        module.replays.cache_clear()


def ask(
    route: Route,
    key: str | None = "order-1",
    *,
    caller: Mapping[str, str] = CALLER,
    headers: Mapping[str, str] | None = None,
    **changes: object,
) -> dict[str, Any]:
    module, resource, body = route
    path_parameters = {"name": "chain"} if "{name}" in resource else None
    sent = {**(headers or {}), **({"Idempotency-Key": key} if key else {})}
    event = api_event(
        "POST", resource, body=body | changes, headers=sent, path_parameters=path_parameters, authorizer=caller
    )
    response: dict[str, Any] = module.handler(event, FakeLambdaContext())
    return response


@pytest.mark.parametrize("route", ROUTES.values(), ids=ROUTES)
def test_a_repeated_request_is_done_once_and_answered_twice(world: World, route: Route) -> None:
    first = ask(route)
    assert first["statusCode"] in (200, 202)
    done = world.work
    assert done == 1
    again = ask(route, '"order-1"')
    assert (again["statusCode"], again["body"]) == (first["statusCode"], first["body"])
    assert again["headers"] == first["headers"] | {"idempotent-replayed": "true"}
    assert world.work == done
    assert len(world.log.entries) == (1 if route in SYNC.values() else 0)


@pytest.mark.parametrize("route", ROUTES.values(), ids=ROUTES)
def test_another_body_is_refused(world: World, route: Route) -> None:
    ask(route)
    done = world.work
    response = ask(route, user="another")
    assert response["statusCode"] == 422
    error = json.loads(response["body"])["error"]
    assert (error["code"], error["type"]) == ("idempotency_key_reused", "invalid_request_error")
    assert world.work == done


@pytest.mark.parametrize("route", ROUTES.values(), ids=ROUTES)
def test_another_keys_request_is_another_request(world: World, route: Route) -> None:
    ask(route)
    response = ask(route, caller=OTHER_CALLER)
    assert response["statusCode"] in (200, 202)
    assert "idempotent-replayed" not in response["headers"]
    assert world.work == 2


@pytest.mark.parametrize("route", ROUTES.values(), ids=ROUTES)
def test_without_the_header_it_is_done_again(world: World, route: Route) -> None:
    ask(route, None)
    ask(route, None)
    assert world.work == 2
    assert world.store.records == {}


@pytest.mark.parametrize("route", SYNC.values(), ids=SYNC)
def test_the_caller_is_charged_once(world: World, route: Route) -> None:
    ask(route)
    ask(route)
    standing = world.ledger.standing("key_1", NO_LIMITS)
    [entry] = world.log.entries
    assert (standing.requests, standing.total_spent_micro_usd) == (1, entry.cost_micro_usd)
    assert standing.total_held_micro_usd == 0


@pytest.mark.parametrize("route", ROUTES.values(), ids=ROUTES)
def test_a_request_that_was_refused_may_be_mended_under_the_same_key(world: World, route: Route) -> None:
    wrong: dict[str, Any] = {"steps": []} if route == ROUTES["workflow"] else {"model": "nonsense"}
    assert ask(route, **wrong)["statusCode"] in (400, 404)
    assert ask(route)["statusCode"] in (200, 202)


@pytest.mark.parametrize("route", STREAMED.values(), ids=STREAMED)
def test_a_stream_is_replayed_as_a_stream(world: World, route: Route) -> None:
    first, again = ask(route), ask(route)
    assert again["headers"]["content-type"].startswith("text/event-stream")
    assert again["body"] == first["body"]
    assert again["body"].endswith("data: [DONE]\n\n")
    assert again["body"].count("data: ") >= 5


@pytest.mark.parametrize("route", STREAMED.values(), ids=STREAMED)
def test_a_stream_that_broke_off_may_be_made_again(world: World, route: Route) -> None:
    world.provider.breaks = lambda where: ProviderUnavailableError("It broke off.", target=where.name)
    world.provider.breaks_after = 2
    broken = ask(route)
    assert broken["statusCode"] == 200
    assert '"error"' in broken["body"]
    world.provider.breaks = None
    whole = ask(route)
    assert whole["body"].endswith("data: [DONE]\n\n")
    assert "idempotent-replayed" not in whole["headers"]
    assert len(world.provider.calls) == 2


@pytest.mark.parametrize(("name", "route"), ROUTES.items(), ids=ROUTES)
def test_a_key_needs_the_scope_of_the_route(world: World, name: str, route: Route) -> None:
    wanted = SCOPES.get(name, "inference")
    others = ",".join(sorted({"inference", "batch", "workflow"} - {wanted}))
    response = ask(route, caller=CALLER | {"scopes": others})
    assert (response["statusCode"], json.loads(response["body"])["error"]["code"]) == (403, "insufficient_scope")
    assert (world.work, world.store.records) == (0, {})
    assert ask(route, caller=CALLER | {"scopes": wanted})["statusCode"] in (200, 202)


@pytest.mark.parametrize("route", SYNC.values(), ids=SYNC)
def test_the_cache_answers_the_same_key_only(world: World, route: Route) -> None:
    cached = {"x-sluice-cache": "on"}
    first = ask(route, None, headers=cached)
    again = ask(route, None, headers=cached)
    assert [each["headers"]["x-sluice-cache"] for each in (first, again)] == ["miss", "hit"]
    assert (again["headers"]["age"], again["headers"]["x-sluice-cost-usd"]) == ("0", "0")
    assert len(world.provider.calls) == 1
    other = ask(route, None, headers=cached, caller=OTHER_CALLER)
    assert other["headers"]["x-sluice-cache"] == "miss"
    assert len(world.provider.calls) == 2


def test_a_stream_and_a_document_share_the_cache(world: World) -> None:
    cached = {"x-sluice-cache": "on"}
    assert ask(ROUTES["streamed"], None, headers=cached)["headers"]["x-sluice-cache"] == "miss"
    document = ask(ROUTES["chat completions"], None, headers=cached)
    assert document["headers"]["x-sluice-cache"] == "hit"
    assert json.loads(document["body"])["choices"][0]["message"]["content"] == "answer of bedrock/one"
    streamed = ask(ROUTES["streamed"], None, headers=cached)
    assert streamed["headers"]["x-sluice-cache"] == "hit"
    assert streamed["body"].endswith("data: [DONE]\n\n")
    assert len(world.provider.calls) == 1


def test_every_function_behind_a_post_of_a_caller_is_here() -> None:
    """A route that is added later has to be added here as well."""
    posts = {
        path.parent.name
        for path in Path(chat.__file__).parents[1].glob("*/handler.py")
        if "POST /v1/" in path.read_text().split('"""')[1] and not path.parent.name.startswith("admin_")
    }
    assert {module.__name__.split(".")[1] for module in MODULES} == posts
