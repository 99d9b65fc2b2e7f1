import json
from typing import Any

import pytest

from functions.classify import handler as module
from sluice.domain.classification import IntentSet, Label
from sluice.domain.inference import EmbeddingRequest, EmbeddingResult, Operation, Usage
from sluice.domain.ports import ModelProvider
from sluice.domain.routing import RouteTable, Target
from sluice.runtime.http import status_of
from sluice.services.infer import Inference, RetryPolicy
from sluice.testing.invocations import CALLER, FakeLambdaContext, api_event
from sluice.testing.ledger import FakeLedger
from sluice.testing.request_log import FakeRequestLog
from sluice.testing.routes import alias, target
from sluice.testing.target_states import healthy

BOTH = (Operation.EMBED, Operation.CLASSIFY)


class Letters(ModelProvider):
    """Embeds a text as how often it has an a, b or c: enough to be near or far."""

    def embed(self, target: Target, request: EmbeddingRequest, *, timeout_s: float) -> EmbeddingResult:
        vectors = tuple(tuple(float(text.count(letter)) for letter in "abc") for text in request.inputs)
        return EmbeddingResult(vectors=vectors, usage=Usage(input_tokens=len(request.inputs)))


class Routes:
    def load(self) -> RouteTable:
        only = target("bedrock/embed", operations=BOTH)
        chat = target("bedrock/chat", operations=(Operation.CHAT,))
        return RouteTable(
            targets={only.name: only, chat.name: chat},
            aliases={"classify": alias("classify", only.name, operation=Operation.CLASSIFY)},
            intent_sets={"letters": IntentSet(name="letters", labels=(Label("first", "aaa"), Label("second", "bbb")))},
        )


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> FakeRequestLog:
    log = FakeRequestLog()
    inference = Inference(
        routes=Routes(),
        providers={"bedrock": Letters()},
        request_log=log,
        ledger=FakeLedger(),
        watch=healthy(),
        policy=RetryPolicy(),
        http_status=status_of,
    )
    monkeypatch.setattr(module, "inference", lambda: inference)
    return log


def ask(**body: object) -> tuple[int, Any]:
    event = api_event("POST", "/v1/classify", body=body, authorizer=CALLER)
    response = module.handler(event, FakeLambdaContext())
    return response["statusCode"], json.loads(response["body"])


def test_one_text_gets_its_label_at_the_top(log: FakeRequestLog) -> None:
    status, body = ask(input="aab", labels=["a", "b", "c"])
    assert status == 200
    assert body["label"] == "a"
    assert body["scores"] == body["results"][0]["scores"]
    assert sum(body["scores"].values()) == pytest.approx(1.0)
    assert body["score"] == max(body["scores"].values())
    assert body["model"] == "bedrock/embed"
    assert body["usage"]["prompt_tokens"] == 4
    (entry,) = log.entries
    assert (entry.operation, entry.model, entry.target) == (Operation.CLASSIFY, "classify", "bedrock/embed")


def test_a_list_gets_a_list(log: FakeRequestLog) -> None:
    status, body = ask(input=["bb", "c"], labels=["a", "b", "c"])
    assert status == 200
    assert [(found["index"], found["label"]) for found in body["results"]] == [(0, "b"), (1, "c")]
    assert "label" not in body


def test_a_named_set_of_intents_stands_for_its_labels(log: FakeRequestLog) -> None:
    status, body = ask(input="bb", intents="letters")
    assert (status, body["label"], list(body["scores"])) == (200, "second", ["first", "second"])


def test_an_unknown_set_is_a_404(log: FakeRequestLog) -> None:
    status, body = ask(input="bb", intents="numbers")
    assert (status, body["error"]["param"], body["error"]["code"]) == (404, "intents", "intents_not_found")


def test_a_model_that_cannot_classify_is_a_400(log: FakeRequestLog) -> None:
    status, body = ask(input="a", labels=["a", "b"], model="bedrock/chat")
    assert (status, body["error"]["param"]) == (400, "model")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"labels": ["a", "b"]}, "input"),
        ({"input": "", "labels": ["a", "b"]}, "input"),
        ({"input": [], "labels": ["a", "b"]}, "input"),
        ({"input": ["a", ""], "labels": ["a", "b"]}, "input[1]"),
        ({"input": ["a"] * 101, "labels": ["a", "b"]}, "input"),
        ({"input": "a"}, "labels"),
        ({"input": "a", "labels": ["a"]}, "labels"),
        ({"input": "a", "labels": [str(number) for number in range(101)]}, "labels"),
        ({"input": "a", "labels": ["a", ""]}, "labels[1]"),
        ({"input": "a", "labels": ["a", " b"]}, "labels[1]"),
        ({"input": "a", "labels": ["a", 1]}, "labels[1]"),
        ({"input": "a", "labels": ["a", "b", "A"]}, "labels[2]"),
        ({"input": "a", "labels": ["a", "b"], "intents": "letters"}, "intents"),
        ({"input": "a", "intents": 1}, "intents"),
    ],
    ids=str,
)
def test_a_mistake_of_the_caller_is_named(log: FakeRequestLog, body: dict[str, object], param: str) -> None:
    status, answer = ask(**body)
    assert (status, answer["error"]["type"], answer["error"]["param"].replace("[...]", "")) == (
        400,
        "invalid_request_error",
        param,
    )
    assert log.entries == []
