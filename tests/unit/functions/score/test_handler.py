import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from functions.score import handler as module
from local.models import leads
from sluice.adapters.in_process import InProcess
from sluice.domain.errors import ProviderUnavailableError
from sluice.domain.inference import Operation
from sluice.domain.ports import ModelProvider
from sluice.domain.pricing import Price
from sluice.domain.routing import Target
from sluice.domain.scoring import ScoreRequest, ScoreResult
from sluice.runtime.http import status_of
from sluice.services.infer import Inference, RetryPolicy
from sluice.testing.invocations import CALLER, FakeLambdaContext, api_event
from sluice.testing.ledger import FakeLedger
from sluice.testing.request_log import FakeRequestLog
from sluice.testing.routes import FakeRoutes, alias, target
from sluice.testing.target_states import healthy

ROW = leads.draw(1, seed=3).features[0].astype(float).tolist()
ENDPOINT = msgspec.structs.replace(
    target("sagemaker/lead-scorer", operations=(Operation.SCORE,), price=None), provider="sagemaker"
)
INSIDE = msgspec.structs.replace(
    target(
        "in-process/lead-scorer", operations=(Operation.SCORE,), price=Price(version="1", input_per_mtok=Decimal(0))
    ),
    provider="in_process",
    model="lead-scorer",
)


class Endpoint(ModelProvider):
    """Scores as the model inside does, unless it is down."""

    def __init__(self) -> None:
        self.down = False

    def score(self, target: Target, request: ScoreRequest, *, timeout_s: float) -> ScoreResult:
        if self.down:
            raise ProviderUnavailableError("It is down.", target=target.name)
        return InProcess().score(INSIDE, request, timeout_s=timeout_s)


class World:
    def __init__(self) -> None:
        self.log = FakeRequestLog()
        self.endpoint = Endpoint()
        self.inference = Inference(
            routes=FakeRoutes(ENDPOINT, INSIDE, alias("score", ENDPOINT.name, INSIDE.name, operation=Operation.SCORE)),
            providers={"sagemaker": self.endpoint, "in_process": InProcess()},
            request_log=self.log,
            ledger=FakeLedger(),
            watch=healthy(),
            policy=RetryPolicy(max_attempts=1),
            http_status=status_of,
        )

    def ask(self, body: object) -> tuple[int, Any, dict[str, str]]:
        event = api_event("POST", "/v1/score", body=body, authorizer=CALLER)
        response = module.handler(event, FakeLambdaContext())
        return response["statusCode"], json.loads(response["body"]), response["headers"]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    monkeypatch.setattr(module, "inference", lambda: world.inference)
    return world


def test_one_row_gets_its_score_at_the_top(world: World) -> None:
    status, body, headers = world.ask({"features": ROW})
    assert status == 200
    assert body["scores"] == [{"index": 0, "score": body["score"], "probability": body["probability"]}]
    assert 1 <= body["score"] <= 5
    assert 0 <= body["probability"] <= 1
    assert len(body["model_version"]) == 16
    assert body["model"] == "sagemaker/lead-scorer"
    assert 0 <= body["latency_ms"]["model"] <= body["latency_ms"]["total"]
    assert headers["x-sluice-target"] == "sagemaker/lead-scorer"
    (entry,) = world.log.entries
    assert (entry.operation, entry.model, entry.cost_micro_usd) == (Operation.SCORE, "score", None)


def test_many_rows_get_one_each(world: World) -> None:
    rows = leads.draw(20, seed=4).features.astype(float).tolist()
    status, body, _ = world.ask({"rows": rows})
    assert status == 200
    assert [one["index"] for one in body["scores"]] == list(range(20))
    assert "score" not in body
    assert body["scores"][7]["probability"] == world.ask({"features": rows[7]})[1]["probability"]


def test_the_model_inside_stands_in_for_the_endpoint(world: World) -> None:
    healthy_body = world.ask({"features": ROW})[1]
    world.endpoint.down = True
    status, body, headers = world.ask({"features": ROW})
    assert (status, body["model"]) == (200, "in-process/lead-scorer")
    assert (body["probability"], body["model_version"]) == (healthy_body["probability"], healthy_body["model_version"])
    assert (headers["x-sluice-attempts"], headers["x-sluice-fallbacks"]) == ("2", "1")
    assert world.log.entries[-1].cost_micro_usd == 0, "known to be nothing, which is not unknown"


def test_integers_are_numbers(world: World) -> None:
    assert world.ask({"features": [1] * 50})[0] == 200


def text(*values: str) -> str:
    return '{"rows": [[' + ", ".join(["1.5"] * 50) + "], [" + ", ".join(values) + "]]}"


NUMBERS = ["1.5"] * 50


@pytest.mark.parametrize(
    ("body", "param", "says"),
    [
        (text(*NUMBERS[:3], "NaN", *NUMBERS[4:]), "rows[1][3]", "Row 1, column 3 is NaN"),
        (text(*NUMBERS[:3], "Infinity", *NUMBERS[4:]), "rows[1][3]", "Row 1, column 3 is Infinity"),
        (text(*NUMBERS[:49], "-Infinity"), "rows[1][49]", "Row 1, column 49 is -Infinity"),
        (text("1e999", *NUMBERS[1:]), "rows[1][0]", "Row 1, column 0 is Infinity"),
        (text("1e39", *NUMBERS[1:]), "rows[1][0]", "Row 1, column 0 is beyond what a 32-bit float holds"),
        (text("1" + "0" * 400, *NUMBERS[1:]), "rows[1][0]", "Row 1, column 0 is beyond"),
        (text('"1"', *NUMBERS[1:]), "rows[1][0]", "Row 1, column 0 is a string"),
        (text('"NaN"', *NUMBERS[1:]), "rows[1][0]", "Row 1, column 0 is a string"),
        (text("true", *NUMBERS[1:]), "rows[1][0]", "Row 1, column 0 is a boolean"),
        (text("null", *NUMBERS[1:]), "rows[1][0]", "Row 1, column 0 is null"),
        (text("[1]", *NUMBERS[1:]), "rows[1][0]", "Row 1, column 0 is a list"),
        (text("{}", *NUMBERS[1:]), "rows[1][0]", "Row 1, column 0 is an object"),
        (text(*NUMBERS[:49]), "rows[1]", "Row 1 has 49 columns; exactly 50 are expected. Column 49 is missing."),
        (text(*NUMBERS, "1"), "rows[1]", "Row 1 has 51 columns; exactly 50 are expected. Column 50 is one too many."),
        ('{"features": [' + ", ".join([*NUMBERS[:49], "NaN"]) + "]}", "features[49]", "Row 0, column 49 is NaN"),
        ({"features": []}, "features", "Row 0 has 0 columns"),
        ({"features": 7}, "features", "Row 0 is a number"),
        ({"rows": []}, "rows", "'rows' has no row"),
        ({"rows": [[]]}, "rows[0]", "Row 0 has 0 columns"),
        ({"rows": ROW}, "rows[0]", "Row 0 is a number; a list of 50 numbers"),
        ({"rows": "all"}, "rows", "'rows' is a string"),
        ({"rows": [ROW] * 10_001}, "rows", "'rows' has 10001 rows; between 1 and 10000 are expected"),
        ({"rows": [ROW], "features": ROW}, "features", "not both"),
        ({}, "features", "is required"),
        ({"features": ROW, "model": 5}, "model", "'model'"),
        ('{"features": [NaN', None, "not valid JSON"),
        ("[NaN]", None, "object"),
        ("", None, "empty"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_mistake_of_the_caller_is_named(world: World, body: object, param: str | None, says: str) -> None:
    status, answer, _ = world.ask(body)
    assert (status, answer["error"]["param"]) == (400, param)
    assert says in answer["error"]["message"]
    assert world.log.entries == []


def test_the_largest_batch_is_answered(world: World) -> None:
    rows = [[round(value, 3) for value in ROW]] * 10_000
    status, body, _ = world.ask({"rows": rows, "model": "in-process/lead-scorer"})
    assert (status, len(body["scores"])) == (200, 10_000)
