import json
from typing import Any

import msgspec
import pytest

from functions.chat_completions import handler as module
from sluice.domain import errors
from sluice.domain.inference import ChatRequest
from sluice.domain.request_log import Outcome
from sluice.domain.routing import Capability
from sluice.runtime.http import status_of
from sluice.services.infer import Inference, RetryPolicy
from sluice.testing.invocations import CALLER, FakeLambdaContext, api_event
from sluice.testing.ledger import FakeLedger
from sluice.testing.providers import FakeProvider, Raiser
from sluice.testing.request_log import FakeRequestLog
from sluice.testing.routes import FakeRoutes, alias, target
from sluice.testing.target_states import healthy

CANARY = "canary-that-must-not-be-logged"


class World:
    def __init__(self, *failures: Raiser | None) -> None:
        self.provider = FakeProvider(*failures)
        self.log = FakeRequestLog()
        self.routes = FakeRoutes(target("bedrock/one"), alias("auto", "bedrock/one"))
        self.inference = Inference(
            routes=self.routes,
            providers={"bedrock": self.provider},
            request_log=self.log,
            ledger=FakeLedger(),
            watch=healthy(),
            policy=RetryPolicy(max_attempts=1),
            http_status=status_of,
        )

    def ask(self, fields: dict[str, object] | None = None, authorizer: dict[str, str] | None = None) -> tuple[int, Any]:
        body = {"model": "auto", "messages": [{"role": "user", "content": CANARY}], **(fields or {})}
        event = api_event("POST", "/v1/chat/completions", body=body, authorizer=authorizer or CALLER)
        response = module.handler(event, FakeLambdaContext())
        return response["statusCode"], json.loads(response["body"])


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    monkeypatch.setattr(module, "inference", lambda: world.inference)
    return world


def refuse(world: World, kind: type[errors.ProviderError]) -> None:
    world.provider._failures = [lambda where: kind("It failed.", target=where.name)]


def test_a_conversation_is_answered_in_openais_format(world: World) -> None:
    status, body = world.ask({"max_tokens": 5})
    assert status == 200
    assert (body["object"], body["model"]) == ("chat.completion", "bedrock/one")
    assert body["choices"][0]["message"] == {"role": "assistant", "content": "answer of bedrock/one", "refusal": None}
    assert body["usage"]["total_tokens"] == 15
    [request] = world.provider.requests
    assert isinstance(request, ChatRequest)
    assert request.max_tokens == 5


def test_a_refusal_is_an_answer_in_its_own_field(world: World) -> None:
    world.routes.entries[0] = msgspec.structs.replace(target("bedrock/one"), capabilities=frozenset(Capability))
    world.provider.refusal = "I cannot help with that."
    schema = {"name": "person", "schema": {"type": "object", "required": ["name"]}}
    status, body = world.ask({"response_format": {"type": "json_schema", "json_schema": schema}})
    assert status == 200
    assert body["choices"][0]["message"] == {
        "role": "assistant",
        "content": None,
        "refusal": "I cannot help with that.",
    }
    assert len(world.provider.calls) == 1


def test_the_work_is_logged_under_the_callers_key(world: World) -> None:
    world.ask()
    [entry] = world.log.entries
    assert (entry.key_id, entry.request_id, entry.outcome) == ("key_1", "gateway-request-1", Outcome.COMPLETED)


@pytest.mark.parametrize(
    ("fields", "status", "code", "param"),
    [
        ({"model": "nonsense"}, 404, "model_not_found", "model"),
        ({"messages": []}, 400, "invalid_value", "messages"),
        ({"stream": "yes"}, 400, "invalid_value", "stream"),
    ],
)
def test_a_mistake_of_the_caller_is_named(
    world: World, fields: dict[str, object], status: int, code: str, param: str
) -> None:
    answered, body = world.ask(fields)
    assert (answered, body["error"]["code"], body["error"]["param"]) == (status, code, param)
    assert world.provider.calls == []


def test_a_key_is_held_to_its_models(world: World) -> None:
    status, body = world.ask(authorizer={**CALLER, "allowed_models": "fast,embed"})
    assert (status, body["error"]["code"]) == (403, "permission_denied")


@pytest.mark.parametrize(
    ("kind", "status"), [(errors.ProviderThrottledError, 429), (errors.ProviderUnavailableError, 502)]
)
def test_a_provider_that_fails_is_told_by_status(world: World, kind: type[errors.ProviderError], status: int) -> None:
    refuse(world, kind)
    assert world.ask()[0] == status


def test_the_canonical_line_tells_what_it_took(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.ask()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    [canonical] = [line for line in lines if line.get("event") == "request"]
    assert (
        canonical.items()
        >= {
            "method": "POST",
            "route": "/v1/chat/completions",
            "status": 200,
            "key_id": "key_1",
            "mode": "sync",
            "operation": "chat",
            "model": "auto",
            "target": "bedrock/one",
            "outcome": "completed",
            "attempts": 1,
            "fallbacks": 0,
            "input_tokens": 10,
            "output_tokens": 5,
            "cost_micro_usd": "1.050",
        }.items()
    )


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"model": "nonsense"},
        {"messages": [{"role": CANARY, "content": CANARY}]},
        {"messages": CANARY},
        {"stop": CANARY, "n": CANARY},
        {"temperature": CANARY},
        {"tools": [CANARY]},
        {"metadata": {CANARY: 5}},
    ],
)
@pytest.mark.parametrize(
    "kind",
    [None, errors.ProviderThrottledError, errors.ProviderProtocolError, errors.ContextTooLongError, errors.StateError],
)
def test_no_path_through_the_code_logs_a_prompt(
    world: World,
    capsys: pytest.CaptureFixture[str],
    fields: dict[str, object],
    kind: type[errors.SluiceError] | None,
) -> None:
    if kind is errors.StateError:
        world.log.failing = errors.StateError("The table is throttling.")
    elif kind is not None and issubclass(kind, errors.ProviderError):
        refuse(world, kind)
    _, body = world.ask(fields)
    output = capsys.readouterr()
    assert CANARY not in output.out + output.err + json.dumps(body.get("error"))
