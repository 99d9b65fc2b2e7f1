import json
import math
from typing import Any

import pytest

from functions.embeddings import handler as module
from sluice.domain.inference import EmbeddingRequest, EmbeddingResult, Operation, Usage
from sluice.domain.routing import Target
from sluice.runtime import bootstrap
from sluice.runtime.http import status_of
from sluice.services.idempotency import Idempotency
from sluice.services.infer import Inference, RetryPolicy
from sluice.testing.invocations import CALLER, FakeLambdaContext, api_event
from sluice.testing.ledger import FakeLedger
from sluice.testing.providers import FakeProvider
from sluice.testing.replays import FakeReplays
from sluice.testing.request_log import FakeRequestLog
from sluice.testing.routes import FakeRoutes, target
from sluice.testing.target_states import healthy


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> FakeRequestLog:
    log = FakeRequestLog()
    inference = Inference(
        routes=FakeRoutes(target("bedrock/embed", operations=(Operation.EMBED,))),
        providers={"bedrock": FakeProvider()},
        request_log=log,
        ledger=FakeLedger(),
        watch=healthy(),
        policy=RetryPolicy(),
        http_status=status_of,
    )
    monkeypatch.setattr(module, "inference", lambda: inference)
    return log


def ask(**fields: object) -> tuple[int, Any]:
    event = api_event("POST", "/v1/embeddings", body={"model": "bedrock/embed", **fields}, authorizer=CALLER)
    response = module.handler(event, FakeLambdaContext())
    return response["statusCode"], json.loads(response["body"])


def test_texts_become_vectors_in_openais_format(log: FakeRequestLog) -> None:
    status, body = ask(input=["a", "b"])
    assert status == 200
    assert body == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [0.0, 0.5]},
            {"object": "embedding", "index": 1, "embedding": [1.0, 0.5]},
        ],
        "model": "bedrock/embed",
        "usage": {"prompt_tokens": 6, "total_tokens": 6},
    }
    assert log.entries[0].operation is Operation.EMBED


def test_base64_is_given_to_who_asks_for_it(log: FakeRequestLog) -> None:
    assert ask(input="a", encoding_format="base64")[1]["data"][0]["embedding"] == "AAAAAAAAAD8="


class Vectors(FakeProvider):
    """Vectors of 1,024 numbers, each with all of its digits."""

    def embed(self, target: Target, request: EmbeddingRequest, *, timeout_s: float) -> EmbeddingResult:
        self.calls.append((target.name, timeout_s))
        vector = tuple(math.sin(index) / 32 for index in range(1, 1_025))
        return EmbeddingResult(vectors=(vector,) * len(request.inputs), usage=Usage(input_tokens=3))


def test_more_vectors_than_lambda_can_return_are_told_as_such_and_not_kept(
    monkeypatch: pytest.MonkeyPatch, log: FakeRequestLog
) -> None:
    provider = Vectors()
    monkeypatch.setattr(module.inference(), "_providers", {"bedrock": provider})
    replays = FakeReplays()
    monkeypatch.setattr(bootstrap, "idempotency", lambda _: Idempotency(replays, ttl_s=60))
    monkeypatch.setattr(module, "load", lambda *_: None)
    module.replays.cache_clear()  # type: ignore[attr-defined]

    def embed(**fields: object) -> dict[str, Any]:
        body = {"model": "bedrock/embed", "input": ["a"] * 500, **fields}
        headers = {"idempotency-key": "order-1"}
        event = api_event("POST", "/v1/embeddings", body=body, authorizer=CALLER, headers=headers)
        response: dict[str, Any] = module.handler(event, FakeLambdaContext())
        return response

    for _ in range(2):
        response = embed()
        error = json.loads(response["body"])["error"]
        assert (response["statusCode"], error["code"]) == (400, "answer_too_large")
        assert "fewer inputs" in error["message"]
        # What it cost is told, and it is not asked again by itself.
        assert response["headers"]["x-should-retry"] == "false"
        assert response["headers"]["x-sluice-cost-usd"] == "0.000000105"
    assert len(provider.calls) == 2
    # The same vectors in the other encoding.
    assert embed(encoding_format="base64")["statusCode"] == 200
    module.replays.cache_clear()  # type: ignore[attr-defined]


def test_a_mistake_of_the_caller_is_named(log: FakeRequestLog) -> None:
    status, body = ask(input=["a", ""])
    assert (status, body["error"]["param"]) == (400, "input[1]")
    assert log.entries == []
