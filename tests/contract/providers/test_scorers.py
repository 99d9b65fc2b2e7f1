"""Both scorers against real ones: the SageMaker adapter over the wire, the model inside beside it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import boto3
import msgspec
import pytest
from botocore.config import Config

from local.models import leads
from sluice.adapters.in_process import InProcess
from sluice.adapters.sagemaker import SageMaker
from sluice.domain import errors
from sluice.domain.inference import Operation
from sluice.domain.routing import Target
from sluice.domain.scoring import ScoreRequest, ScoreResult
from tests.contract.local_models.support import SCORER, Server

if TYPE_CHECKING:
    from mypy_boto3_sagemaker_runtime import SageMakerRuntimeClient

ENDPOINT = Target(name="sagemaker/lead-scorer", provider="sagemaker", model=SCORER, operations=(Operation.SCORE,))
INSIDE = Target(name="in-process/lead-scorer", provider="in_process", model=SCORER, operations=(Operation.SCORE,))
ROWS = leads.draw(200, seed=21).features.astype(float).tolist()


@pytest.fixture
def sagemaker(model_server: Server) -> Iterator[SageMaker]:
    model_server.call("DELETE", "/faults")
    model_server.call("DELETE", "/requests")

    def client_for(timeout_s: float) -> SageMakerRuntimeClient:
        config = Config(connect_timeout=2, read_timeout=timeout_s, retries={"total_max_attempts": 1})
        return boto3.client("sagemaker-runtime", endpoint_url=model_server.url, region_name="us-east-1", config=config)

    yield SageMaker(client_for, longest_timeout_s=20)
    model_server.call("DELETE", "/faults")


def score(
    sagemaker: SageMaker, rows: list[list[float]] = ROWS, *, target: Target = ENDPOINT, timeout_s: float = 10
) -> ScoreResult:
    return sagemaker.score(target, ScoreRequest(model="score", rows=rows), timeout_s=timeout_s)


def failure(
    sagemaker: SageMaker, rows: list[list[float]] = ROWS, *, target: Target = ENDPOINT, timeout_s: float = 10
) -> errors.ProviderError:
    with pytest.raises(errors.ProviderError) as raised:
        score(sagemaker, rows, target=target, timeout_s=timeout_s)
    assert raised.value.target == target.name
    assert "127.0.0.1" not in raised.value.message
    return raised.value


def test_both_scorers_agree_on_every_row_and_on_the_models_version(sagemaker: SageMaker) -> None:
    there = score(sagemaker)
    here = InProcess().score(INSIDE, ScoreRequest(model="score", rows=ROWS), timeout_s=10)
    assert [one.score for one in there.scores] == [one.score for one in here.scores]
    assert [one.probability for one in there.scores] == pytest.approx(
        [one.probability for one in here.scores], abs=1e-6
    )
    assert there.model_version == here.model_version


def test_many_rows_take_several_calls(sagemaker: SageMaker, model_server: Server) -> None:
    rows = leads.draw(6_000, seed=22).features.astype(float).tolist()
    many = score(sagemaker, rows, timeout_s=20)
    assert len(many.scores) == 6_000
    assert model_server.calls(SCORER) == 3
    assert many.scores[5_999] == score(sagemaker, rows[5_999:]).scores[0]


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ({"kind": "throttle"}, errors.ProviderThrottledError),
        ({"kind": "error", "status": 400}, errors.ProviderRejectedError),
        ({"kind": "error", "status": 403}, errors.ProviderAuthError),
        ({"kind": "error", "status": 415}, errors.ProviderRejectedError),
        ({"kind": "error", "status": 424}, errors.ProviderUnavailableError),
        ({"kind": "error", "status": 500}, errors.ProviderUnavailableError),
        ({"kind": "error", "status": 502}, errors.ProviderUnavailableError),
        ({"kind": "error", "status": 503}, errors.ProviderOverloadedError),
        ({"kind": "error", "status": 504}, errors.ProviderTimeoutError),
        ({"kind": "error", "status": 530}, errors.ProviderUnavailableError),
        ({"kind": "garbage"}, errors.ProviderProtocolError),
        ({"kind": "cut", "at": "start"}, errors.ProviderUnavailableError),
        ({"kind": "cut", "at": "headers"}, errors.ProviderUnavailableError),
        ({"kind": "cut", "at": "body"}, errors.ProviderUnavailableError),
    ],
    ids=str,
)
def test_every_fault_has_its_error(
    sagemaker: SageMaker, model_server: Server, fault: dict[str, object], kind: type[errors.ProviderError]
) -> None:
    model_server.fault(SCORER, **fault)
    assert type(failure(sagemaker)) is kind


def test_a_retry_after_is_passed_on(sagemaker: SageMaker, model_server: Server) -> None:
    model_server.fault(SCORER, kind="throttle", retry_after=7)
    assert failure(sagemaker).retry_after_s == 7


def test_an_endpoint_that_hangs_is_given_up_in_time(sagemaker: SageMaker, model_server: Server) -> None:
    model_server.fault(SCORER, kind="hang")
    begun = time.monotonic()
    assert type(failure(sagemaker, timeout_s=1.3)) is errors.ProviderTimeoutError
    assert time.monotonic() - begun < 2


def test_an_endpoint_that_is_not_there_is_for_the_operator(sagemaker: SageMaker) -> None:
    error = failure(sagemaker, target=msgspec.structs.replace(ENDPOINT, model="nothing"))
    assert (type(error), error.code) == (errors.ProviderAuthError, "provider_model_not_found")


def test_rows_that_the_model_cannot_read_are_rejected(sagemaker: SageMaker) -> None:
    assert type(failure(sagemaker, [[1.0] * 49])) is errors.ProviderRejectedError


def test_nobody_at_the_address_is_unavailable() -> None:
    def client_for(timeout_s: float) -> SageMakerRuntimeClient:
        config = Config(connect_timeout=1, retries={"total_max_attempts": 1})
        return boto3.client(
            "sagemaker-runtime", endpoint_url="http://127.0.0.1:9", region_name="us-east-1", config=config
        )

    assert type(failure(SageMaker(client_for, longest_timeout_s=20))) is errors.ProviderUnavailableError
