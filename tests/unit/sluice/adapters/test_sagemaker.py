"""The SageMaker adapter over a real botocore client whose answers are stubbed, and checked against botocore's model."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import boto3
import botocore.session
import pytest
from botocore.exceptions import (
    BotoCoreError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    ReadTimeoutError,
)
from botocore.response import StreamingBody
from botocore.stub import Stubber

from sluice.adapters import sagemaker
from sluice.adapters.sagemaker import ROWS_PER_CALL, SageMaker
from sluice.domain import errors
from sluice.domain.inference import Operation
from sluice.domain.routing import Target
from sluice.domain.scoring import LeadScore, ScoreRequest, ScoreResult

CANARY = "canary-that-must-not-be-passed-on"
TARGET = Target(name="sagemaker/one", provider="sagemaker", model="lead-scorer", operations=(Operation.SCORE,))
ROW = [0.5] * 50
URL = {"endpoint_url": f"https://internal/{CANARY}"}


class World:
    def __init__(self) -> None:
        self.client = boto3.client("sagemaker-runtime", region_name="us-east-1")
        self.stub = Stubber(self.client)
        self.stub.activate()
        self.timeouts: list[float] = []
        self.adapter = SageMaker(self._client_for, longest_timeout_s=20.0)

    def _client_for(self, timeout_s: float) -> Any:
        self.timeouts.append(timeout_s)
        return self.client

    def answers(self, content: object, *, expected: Any = None, variant: str | None = "AllTraffic") -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        answer: dict[str, Any] = {"Body": StreamingBody(io.BytesIO(body), len(body)), "ContentType": "application/json"}
        if variant:
            answer["InvokedProductionVariant"] = variant
        self.stub.add_response("invoke_endpoint", answer, expected)

    def fails(self, code: str, status: int, message: str = CANARY, **more: Any) -> None:
        headers = more.pop("headers", {})
        self.stub.add_client_error(
            "invoke_endpoint",
            code,
            message,
            status,
            response_meta={"HTTPHeaders": headers},
            modeled_fields=more or None,
        )

    def score(self, rows: Any = (ROW,), *, timeout_s: float = 20.0) -> ScoreResult:
        return self.adapter.score(TARGET, ScoreRequest(model="score", rows=rows), timeout_s=timeout_s)

    def error(self, rows: Any = (ROW,), *, timeout_s: float = 20.0) -> errors.ProviderError:
        with pytest.raises(errors.ProviderError) as raised:
            self.score(rows, timeout_s=timeout_s)
        assert raised.value.target == TARGET.name
        assert CANARY not in raised.value.message
        return raised.value


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    world = World()
    yield world
    world.stub.assert_no_pending_responses()


def test_rows_go_out_as_json_and_scores_come_back(world: World) -> None:
    world.answers(
        {"predictions": [{"score": 5, "probability": 0.25}, {"probability": 0.9}], "model_version": "abc"},
        expected={
            "EndpointName": "lead-scorer",
            "Body": json.dumps({"instances": [ROW, ROW]}, separators=(",", ":")).encode(),
            "ContentType": "application/json",
            "Accept": "application/json",
        },
    )
    result = world.score([ROW, ROW])
    assert result.scores == (LeadScore(2, 0.25), LeadScore(5, 0.9)), "a score is what Sluice says it is"
    assert result.model_version == "abc"
    assert result.usage.total_tokens == 0


@pytest.mark.parametrize(("variant", "version"), [("blue", "blue"), (None, "lead-scorer")])
def test_an_endpoint_that_does_not_tell_its_version_is_known_by_its_variant(
    world: World, variant: str | None, version: str
) -> None:
    world.answers({"predictions": [{"probability": 0.5}]}, variant=variant)
    assert world.score().model_version == version


def test_many_rows_go_out_in_parts_and_come_back_in_order(world: World) -> None:
    sent: list[int] = []

    class Endpoint:
        def invoke_endpoint(self, *, Body: bytes, **_: Any) -> dict[str, Any]:  # noqa: N803 - botocore's name
            rows = json.loads(Body)["instances"]
            sent.append(len(rows))
            content = json.dumps({"predictions": [{"probability": row[0]} for row in rows], "model_version": "v"})
            return {"Body": io.BytesIO(content.encode())}

    world.adapter = SageMaker(lambda timeout_s: Endpoint(), longest_timeout_s=20.0)  # type: ignore[arg-type, return-value]
    rows = [[index / 10_000, *ROW[1:]] for index in range(10_000)]
    result = world.score(rows)
    assert [one.probability for one in result.scores] == [row[0] for row in rows]
    assert sent == [ROWS_PER_CALL] * 4


def test_rows_scored_by_two_models_are_not_mixed(world: World) -> None:
    versions = iter(["old", "new"])

    class Endpoint:
        def invoke_endpoint(self, *, Body: bytes, **_: Any) -> dict[str, Any]:  # noqa: N803 - botocore's name
            predictions = [{"probability": 0.5} for _ in json.loads(Body)["instances"]]
            content = json.dumps({"predictions": predictions, "model_version": next(versions)})
            return {"Body": io.BytesIO(content.encode())}

    world.adapter = SageMaker(lambda timeout_s: Endpoint(), longest_timeout_s=20.0)  # type: ignore[arg-type, return-value]
    error = world.error([ROW] * (ROWS_PER_CALL + 1))
    assert (type(error), error.code) == (errors.ProviderUnavailableError, "provider_model_changed")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>",
        {},
        {"predictions": []},
        {"predictions": [{}]},
        {"predictions": [{"probability": "0.5"}]},
        {"predictions": [{"probability": 1.5}]},
        {"predictions": [{"probability": -0.1}]},
        b'{"predictions": [{"probability": NaN}]}',
        {"predictions": [{"probability": 0.5}, {"probability": 0.5}]},
    ],
    ids=str,
)
def test_an_answer_that_makes_no_sense_is_a_protocol_error(world: World, content: object) -> None:
    world.answers(content)
    assert type(world.error()) is errors.ProviderProtocolError


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("ThrottlingException", 400, errors.ProviderThrottledError),
        ("ModelNotReadyException", 429, errors.ProviderOverloadedError),
        ("ServiceUnavailable", 503, errors.ProviderOverloadedError),
        ("InternalFailure", 500, errors.ProviderUnavailableError),
        ("InternalDependencyException", 530, errors.ProviderUnavailableError),
        ("ValidationError", 400, errors.ProviderRejectedError),
        ("AccessDeniedException", 403, errors.ProviderAuthError),
        ("ExpiredTokenException", 403, errors.ProviderAuthError),
        ("SomethingNew", 400, errors.ProviderRejectedError),
        ("SomethingNew", 502, errors.ProviderUnavailableError),
    ],
)
def test_every_error_code_has_its_kind(world: World, code: str, status: int, kind: type[errors.ProviderError]) -> None:
    world.fails(code, status)
    assert type(world.error()) is kind


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.ProviderRejectedError),
        (408, errors.ProviderTimeoutError),
        (415, errors.ProviderRejectedError),
        (429, errors.ProviderThrottledError),
        (500, errors.ProviderUnavailableError),
        (503, errors.ProviderOverloadedError),
        (504, errors.ProviderTimeoutError),
    ],
)
def test_an_error_of_the_container_is_what_its_status_says(
    world: World, status: int, kind: type[errors.ProviderError]
) -> None:
    world.fails("ModelError", 424, OriginalStatusCode=status, OriginalMessage=CANARY)
    assert type(world.error()) is kind


def test_every_error_of_botocores_service_model_is_mapped_on_purpose() -> None:
    model = botocore.session.get_session().get_service_model("sagemaker-runtime")
    shapes = {shape.name for shape in model.operation_model("InvokeEndpoint").error_shapes}
    assert shapes - {"ModelError"} <= set(sagemaker._KINDS)
    assert shapes >= {"ModelError", "ValidationError", "ModelNotReadyException"}


def test_an_endpoint_that_is_not_there_is_for_the_operator(world: World) -> None:
    world.fails("ValidationError", 400, f"Endpoint {CANARY} of account 000000000000 not found.")
    error = world.error()
    assert (type(error), error.code) == (errors.ProviderAuthError, "provider_model_not_found")


def test_a_retry_after_is_passed_on(world: World) -> None:
    world.fails("ThrottlingException", 400, headers={"retry-after": "7"})
    assert world.error().retry_after_s == 7.0


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (ReadTimeoutError(**URL), errors.ProviderTimeoutError),
        (ConnectTimeoutError(**URL), errors.ProviderTimeoutError),
        (EndpointConnectionError(**URL), errors.ProviderUnavailableError),
        (ConnectionClosedError(**URL), errors.ProviderUnavailableError),
        (NoCredentialsError(), errors.ProviderAuthError),
    ],
)
def test_no_answer_at_all_has_its_kind_too(raised: BotoCoreError, kind: type[errors.ProviderError]) -> None:
    error = sagemaker.translate(raised, TARGET)
    assert type(error) is kind
    assert CANARY not in error.message


@pytest.mark.parametrize(("left", "given"), [(20.0, 20.0), (15.0, 10.0), (6.0, 5.0), (0.4, 0.3125)])
def test_an_attempt_waits_no_longer_than_it_may(world: World, left: float, given: float) -> None:
    world.answers({"predictions": [{"probability": 0.5}]})
    world.score(timeout_s=left)
    assert world.timeouts == [given]


def test_without_time_nothing_is_asked(world: World) -> None:
    assert type(world.error(timeout_s=0.1)) is errors.ProviderTimeoutError
    assert world.timeouts == []
