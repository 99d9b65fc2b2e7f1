import json
from typing import Any

import pytest

from functions.chat import handler as module
from sluice.domain.inference import Message, Operation
from sluice.runtime.http import status_of
from sluice.services.infer import Inference, RetryPolicy
from sluice.testing.invocations import CALLER, FakeLambdaContext, api_event
from sluice.testing.ledger import FakeLedger
from sluice.testing.providers import FakeProvider
from sluice.testing.request_log import FakeRequestLog
from sluice.testing.routes import FakeRoutes, alias, target
from sluice.testing.target_states import healthy

NOW = 1_700_000_000.0


class World:
    def __init__(self) -> None:
        self.log = FakeRequestLog()
        self.provider = FakeProvider()
        self.inference = Inference(
            routes=FakeRoutes(target("bedrock/one"), alias("auto", "bedrock/one")),
            providers={"bedrock": self.provider},
            request_log=self.log,
            ledger=FakeLedger(now=lambda: NOW),
            watch=healthy(),
            policy=RetryPolicy(),
            http_status=status_of,
            # In the middle of a minute: no window ends while a test looks at it.
            now=lambda: NOW,
        )

    def ask(
        self, body: object, *, headers: dict[str, str] | None = None, limits: dict[str, str] | None = None
    ) -> tuple[int, Any, dict[str, str]]:
        event = api_event("POST", "/v1/chat", body=body, headers=headers, authorizer={**CALLER, **(limits or {})})
        response = module.handler(event, FakeLambdaContext())
        return response["statusCode"], json.loads(response["body"]), response["headers"]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    monkeypatch.setattr(module, "inference", lambda: world.inference)
    return world


def test_a_prompt_gets_a_response(world: World) -> None:
    status, body, headers = world.ask({"prompt": "hello"})
    assert status == 200
    assert set(body) == {"response", "model", "usage"}
    assert (body["response"], body["model"]) == ("answer of bedrock/one", "bedrock/one")
    assert body["usage"]["total_tokens"] == 15
    assert (headers["x-sluice-target"], headers["x-sluice-attempts"]) == ("bedrock/one", "1")
    assert world.log.entries[0].operation is Operation.CHAT
    assert world.log.entries[0].model == "auto"


def test_parameters_reach_the_model(world: World) -> None:
    parameters = {"system": "Be brief.", "max_tokens": 7, "temperature": 0.5, "top_p": 0.9, "stop": "END", "other": 1}
    assert world.ask({"prompt": "hello", "model": "bedrock/one", "parameters": parameters})[0] == 200
    request: Any = world.provider.requests[0]
    assert request.messages == (Message("system", "Be brief."), Message("user", "hello"))
    assert (request.max_tokens, request.temperature, request.top_p, request.stop) == (7, 0.5, 0.9, ("END",))


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": ["hello"]}, "prompt"),
        ({"prompt": "hello", "model": 5}, "model"),
        ({"prompt": "hello", "parameters": []}, "parameters"),
        ({"prompt": "hello", "parameters": {"max_tokens": 0}}, "parameters.max_tokens"),
        ({"prompt": "hello", "parameters": {"temperature": 3}}, "parameters.temperature"),
        ({"prompt": "hello", "parameters": {"top_p": "1"}}, "parameters.top_p"),
        ({"prompt": "hello", "parameters": {"stop": ["a", "b", "c", "d", "e"]}}, "parameters.stop"),
        ({"prompt": "hello", "parameters": {"system": ""}}, "parameters.system"),
    ],
    ids=str,
)
def test_a_mistake_of_the_caller_is_named(world: World, body: object, param: str) -> None:
    status, answer, _ = world.ask(body)
    assert (status, answer["error"]["param"]) == (400, param)
    assert world.log.entries == []


def test_a_key_is_told_its_limits_and_held_to_them(world: World) -> None:
    limits = {"rpm": "1", "tpm": "90000", "total_budget_micro_usd": "5000000"}
    status, _, headers = world.ask({"prompt": "hello"}, limits=limits)
    assert status == 200
    assert (headers["x-ratelimit-limit-requests"], headers["x-ratelimit-remaining-requests"]) == ("1", "0")
    assert (headers["x-ratelimit-limit-tokens"], headers["x-ratelimit-remaining-tokens"]) == ("90000", "89985")
    # Ten tokens in, five out.
    assert (headers["x-sluice-cost-usd"], headers["x-sluice-budget-remaining-usd"]) == ("0.00000105", "4.99999895")
    status, body, headers = world.ask({"prompt": "hello"}, limits=limits)
    assert (status, body["error"]["type"], body["error"]["code"]) == (429, "requests", "rate_limit_exceeded")
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert 0 < int(headers["retry-after-ms"]) <= 1000 * int(headers["retry-after"]) <= 60_000
    assert "x-should-retry" not in headers
    assert len(world.log.entries) == 1


def test_a_spent_budget_is_a_429_that_no_client_repeats(world: World) -> None:
    status, body, headers = world.ask({"prompt": "hello"}, limits={"total_budget_micro_usd": "1"})
    assert (status, body["error"]["type"], body["error"]["code"]) == (429, "insufficient_quota", "insufficient_quota")
    assert headers["x-should-retry"] == "false"
    assert world.provider.calls == []


def test_limits_that_leave_less_room_are_told(world: World) -> None:
    status, _, headers = world.ask({"prompt": "hello"}, limits={"tpm": "400"})
    request: Any = world.provider.requests[0]
    assert status == 200
    assert headers["x-sluice-max-output-tokens"] == str(request.max_tokens)
    assert 64 <= request.max_tokens < 400


def test_a_wrong_cache_header_is_named(world: World) -> None:
    status, body, _ = world.ask({"prompt": "hello"}, headers={"X-Sluice-Cache": "maybe"})
    assert (status, body["error"]["param"]) == (400, "x-sluice-cache")
