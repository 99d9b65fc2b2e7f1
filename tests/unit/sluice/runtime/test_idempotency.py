"""``@idempotent`` as callers see it, under ``@api_function``."""

import itertools
import json
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

import pytest

from sluice.domain.errors import ConflictError, InvalidRequestError, ProviderThrottledError, StateError
from sluice.domain.keys import Scope
from sluice.domain.replay import StoredResponse
from sluice.runtime import invocation
from sluice.runtime.api import ApiRequest, ApiResponse, EntryPoint, api_function
from sluice.runtime.idempotency import idempotent
from sluice.runtime.scopes import requires
from sluice.services.idempotency import Idempotency
from sluice.testing.clock import FakeClock
from sluice.testing.invocations import CALLER, FakeLambdaContext, api_event
from sluice.testing.replays import FakeReplays

NOW = 1_700_000_000.0
EVENTS = {"content-type": "text/event-stream; charset=utf-8"}
WHOLE = b'data: {"a":1}\n\ndata: [DONE]\n\n'
BROKEN = b'data: {"a":1}\n\ndata: {"error":{}}\n\n'


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_ENVIRONMENT", "test")
    monkeypatch.setenv("SLUICE_SERVICE", "function-under-test")
    invocation._settings.cache_clear()


class World:
    """A route whose answer counts how often it was given."""

    def __init__(self) -> None:
        self.calls = 0
        self.store = FakeReplays()
        self.clock = FakeClock(NOW)
        self.replays = Idempotency(self.store, ttl_s=86_400, now=self.clock)
        self.answer: Callable[[ApiRequest], ApiResponse] = lambda request: ApiResponse(
            202, {"call": self.calls}, {"location": "/v1/there", "x-sluice-cost-usd": "0.1"}
        )

        @api_function
        @requires(Scope.INFERENCE)
        @idempotent(lambda: self.replays)
        def handler(request: ApiRequest) -> ApiResponse:
            self.calls += 1
            return self.answer(request)

        self.handler: EntryPoint = handler

    def ask(
        self,
        key: str | None = "order-1",
        *,
        body: object = None,
        caller: Mapping[str, str] = CALLER,
        resource: str = "/v1/chat",
        **more: Any,
    ) -> dict[str, Any]:
        headers = {"x-request-id": more.pop("request_id", "request-1")} | ({"Idempotency-Key": key} if key else {})
        event = api_event("POST", resource, body=body or {"a": 1}, headers=headers, authorizer=caller, **more)
        return self.handler(event, FakeLambdaContext())


@pytest.fixture
def world() -> World:
    return World()


def code_of(response: dict[str, Any]) -> str:
    return str(json.loads(response["body"])["error"]["code"])


def test_a_repeated_request_gets_what_it_got_before(world: World) -> None:
    first = world.ask(request_id="request-1")
    again = world.ask(request_id="request-2")
    assert world.calls == 1
    assert (again["statusCode"], again["body"]) == (first["statusCode"], first["body"]) == (202, '{"call":1}')
    assert again["headers"] == first["headers"] | {"idempotent-replayed": "true", "x-request-id": "request-2"}
    assert "idempotent-replayed" not in first["headers"]


def test_bare_and_quoted_are_the_same_key(world: World) -> None:
    world.ask("order-1")
    assert world.ask('"order-1"')["headers"]["idempotent-replayed"] == "true"


def test_without_the_header_nothing_is_claimed(world: World) -> None:
    world.replays = None  # type: ignore[assignment]
    assert [world.ask(None)["body"], world.ask(None)["body"]] == ['{"call":1}', '{"call":2}']


@pytest.mark.parametrize("key", ["two words", "x" * 256, '""', " "])
def test_a_key_that_is_none_is_refused(world: World, key: str) -> None:
    response = world.ask(key)
    assert (response["statusCode"], code_of(response)) == (400, "invalid_idempotency_key")
    assert world.calls == 0


@pytest.mark.parametrize(
    "other",
    [
        {"body": {"a": 2}},
        {"resource": "/v1/completions"},
        {"query": {"a": "b"}},
        {"path_parameters": {"name": "another"}},
    ],
)
def test_another_request_under_the_same_key_is_refused(world: World, other: dict[str, Any]) -> None:
    world.ask()
    response = world.ask(**other)
    assert (response["statusCode"], code_of(response)) == (422, "idempotency_key_reused")
    assert json.loads(response["body"])["error"]["param"] == "idempotency-key"
    assert world.calls == 1
    assert world.ask()["headers"]["idempotent-replayed"] == "true"


def test_a_path_parameter_is_no_query_parameter(world: World) -> None:
    world.ask(path_parameters={"name": "a"})
    assert world.ask(query={"name": "a"})["statusCode"] == 422


def test_a_body_in_base64_is_the_same_body(world: World) -> None:
    headers = {"Idempotency-Key": "order-1"}
    plain = api_event("POST", "/v1/chat", body='{"a":1}', headers=headers, authorizer=CALLER)
    encoded = plain | {"body": "eyJhIjoxfQ==", "isBase64Encoded": True}
    world.handler(plain, FakeLambdaContext())
    assert world.handler(encoded, FakeLambdaContext())["headers"]["idempotent-replayed"] == "true"


def test_keys_of_the_api_do_not_share(world: World) -> None:
    other = CALLER | {"key_id": "key_2", "principalId": "key_2"}
    assert [world.ask()["body"], world.ask(caller=other)["body"]] == ['{"call":1}', '{"call":2}']
    assert {key_id for key_id, _ in world.store.records} == {"key_1", "key_2"}


@pytest.mark.parametrize(
    "error",
    [
        InvalidRequestError("It makes no sense."),
        ProviderThrottledError("Too fast.", target="bedrock/one"),
        StateError("It is not there."),
        ConflictError("It is done already."),
        ZeroDivisionError(),
    ],
)
def test_a_request_that_failed_may_be_made_again(world: World, error: Exception) -> None:
    def fail(request: ApiRequest) -> ApiResponse:
        raise error

    succeed, world.answer = world.answer, fail
    assert world.ask()["statusCode"] >= 400
    assert world.store.records == {}
    world.answer = succeed
    assert world.ask()["body"] == '{"call":2}'
    assert world.ask()["body"] == '{"call":2}'


def test_an_answer_that_is_no_success_is_not_kept(world: World) -> None:
    world.answer = lambda request: ApiResponse(503, {"call": world.calls})
    assert [world.ask()["body"], world.ask()["body"]] == ['{"call":1}', '{"call":2}']


def test_an_invocation_that_is_interrupted_gives_its_claim_back(world: World) -> None:
    def interrupted(request: ApiRequest) -> ApiResponse:
        raise KeyboardInterrupt

    world.answer = interrupted
    with pytest.raises(KeyboardInterrupt):
        world.ask()
    assert world.store.records == {}


def test_a_stream_is_replayed_as_it_was(world: World) -> None:
    world.answer = lambda request: ApiResponse(200, WHOLE, EVENTS)
    first, again = world.ask(), world.ask()
    assert again["body"].encode() == first["body"].encode() == WHOLE
    assert again["headers"]["content-type"] == EVENTS["content-type"]
    assert world.calls == 1


def test_a_stream_that_broke_off_may_be_made_again(world: World) -> None:
    world.answer = lambda request: ApiResponse(200, BROKEN, EVENTS)
    assert world.ask()["body"].encode() == BROKEN
    world.answer = lambda request: ApiResponse(200, WHOLE, EVENTS)
    assert world.ask()["body"].encode() == WHOLE
    assert world.calls == 2


@pytest.mark.parametrize("headers", [{}, EVENTS])
def test_an_answer_that_is_too_large_to_be_sent_is_not_kept(world: World, headers: dict[str, str]) -> None:
    world.answer = lambda request: ApiResponse(200, b"x" * 6_300_000 + WHOLE, headers)
    assert [json.loads(world.ask()["body"])["error"]["code"] for _ in range(2)] == ["answer_too_large"] * 2
    assert world.calls == 2
    world.answer = lambda request: ApiResponse(200, WHOLE, headers)
    assert world.ask()["body"].encode() == WHOLE


def test_the_claim_lives_as_long_as_the_function_can(world: World) -> None:
    claimed: list[int] = []

    def look(request: ApiRequest) -> ApiResponse:
        [(claim, _)] = world.store.records.values()
        claimed.append(claim.until)
        return ApiResponse(200, {})

    world.answer = look
    world.ask()
    # Lambda kills it 29 seconds from now; no clock is more than five seconds wrong.
    assert NOW + 29 + 4 < claimed[0] <= NOW + 29 + 6


def test_a_function_that_was_killed_leaves_the_key_until_it_would_have_been(world: World) -> None:
    """Neither completed nor released."""
    world.store.failing = {"complete": StateError("Killed."), "release": StateError("Killed.")}
    assert world.ask()["statusCode"] == 202
    world.store.failing.clear()
    waiting = world.ask()
    assert (waiting["statusCode"], code_of(waiting)) == (409, "idempotency_in_progress")
    assert waiting["headers"]["x-should-retry"] == "false"
    assert 34 <= int(waiting["headers"]["retry-after"]) <= 35
    world.clock.advance(int(waiting["headers"]["retry-after"]))
    assert world.ask()["body"] == '{"call":2}'


def test_the_answer_is_given_though_it_cannot_be_kept(world: World) -> None:
    world.store.failing["complete"] = StateError("It is not there.")
    assert world.ask()["body"] == '{"call":1}'


def test_nothing_is_done_while_nobody_knows_whether_it_was(world: World) -> None:
    world.store.failing["begin"] = StateError("It is not there.")
    assert world.ask()["statusCode"] == 503
    assert world.calls == 0


def test_a_key_without_the_scope_gets_no_replay(world: World) -> None:
    world.ask()
    response = world.ask(caller=CALLER | {"scopes": "batch"})
    assert (response["statusCode"], code_of(response)) == (403, "insufficient_scope")


def test_of_fifty_at_once_one_works_and_the_others_wait_or_get_its_answer(world: World) -> None:
    everybody = threading.Barrier(50)
    begun, finish = threading.Event(), threading.Event()

    def slow(request: ApiRequest) -> ApiResponse:
        begun.set()
        finish.wait(10)
        return ApiResponse(200, {"call": world.calls})

    world.answer = slow

    def ask(number: int) -> dict[str, Any]:
        everybody.wait()
        if number >= 25:
            # Half of them only after the first is done.
            finish.wait(10)
        return world.ask(request_id=f"request-{number}")

    with ThreadPoolExecutor(50) as pool:
        asked = [pool.submit(ask, number) for number in range(50)]
        begun.wait(10)
        refused = list(itertools.islice(as_completed(asked[:25], timeout=10), 24))
        finish.set()
        answers = [future.result() for future in asked]
    assert {future.result()["statusCode"] for future in refused} == {409}
    statuses = sorted(answer["statusCode"] for answer in answers)
    assert world.calls == 1
    assert set(statuses) == {200, 409}
    assert statuses.count(409) >= 24
    assert {answer["body"] for answer in answers if answer["statusCode"] == 200} == {'{"call":1}'}
    assert world.ask()["body"] == '{"call":1}'


def test_what_is_kept_is_the_response_and_what_is_logged_is_that_it_was_replayed(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.ask("order-of-ada@example.com")
    world.ask("order-of-ada@example.com")
    [(_, kept)] = world.store.records.values()
    headers = {"location": "/v1/there", "x-sluice-cost-usd": "0.1"}
    assert kept == StoredResponse(status=202, headers=headers, body=b'{"call":1}')
    output = capsys.readouterr().out
    assert "order-of" not in output
    lines = [json.loads(line) for line in output.splitlines()]
    assert [line.get("replayed") for line in lines if line.get("event") == "request"] == [None, True]
