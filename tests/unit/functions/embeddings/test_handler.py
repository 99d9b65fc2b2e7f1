import json
from typing import Any

import pytest

from functions.embeddings import handler as module
from sluice.domain.inference import Operation
from sluice.runtime.http import status_of
from sluice.services.infer import Inference, RetryPolicy
from sluice.testing.invocations import CALLER, FakeLambdaContext, api_event
from sluice.testing.ledger import FakeLedger
from sluice.testing.providers import FakeProvider
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


def test_a_mistake_of_the_caller_is_named(log: FakeRequestLog) -> None:
    status, body = ask(input=["a", ""])
    assert (status, body["error"]["param"]) == (400, "input[1]")
    assert log.entries == []
