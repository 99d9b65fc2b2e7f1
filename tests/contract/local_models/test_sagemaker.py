"""The SageMaker protocol, as boto3 understands it, and the scorer behind it, as XGBoost does."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import pytest
import xgboost
from botocore.exceptions import ClientError

from local.models import leads
from local.models.lead_scorer import ARTEFACT
from tests.contract.local_models.support import SCORER, Server

LEADS = leads.draw(40, seed=7).features


def invoke(server: Server, body: bytes | str, content_type: str = "application/json", **more: Any) -> tuple[str, str]:
    answer = server.sagemaker.invoke_endpoint(EndpointName=SCORER, ContentType=content_type, Body=body, **more)
    assert answer["InvokedProductionVariant"] == "AllTraffic"
    return answer["ContentType"], answer["Body"].read().decode()


def test_the_answer_says_which_version_of_the_model_it_is_from(server: Server) -> None:
    _, body = invoke(server, json.dumps({"instances": LEADS[:1].tolist()}))
    assert json.loads(body)["model_version"] == hashlib.sha256(ARTEFACT.read_bytes()).hexdigest()[:16]


def predictions(server: Server, rows: list[list[Any]]) -> list[dict[str, Any]]:
    kind, body = invoke(server, json.dumps({"instances": rows}))
    assert kind == "application/json"
    found: list[dict[str, Any]] = json.loads(body)["predictions"]
    return found


def test_scores_agree_with_xgboost_itself_on_the_same_model(server: Server) -> None:
    booster = xgboost.Booster(model_file=ARTEFACT)
    expected = booster.predict(xgboost.DMatrix(LEADS, feature_names=list(leads.FEATURES)))
    scored = predictions(server, LEADS.tolist())
    assert [one["probability"] for one in scored] == pytest.approx(expected.tolist(), abs=1e-6)
    assert [one["score"] for one in scored] == [min(5, 1 + int(p * 5)) for p in expected]
    assert {one["score"] for one in scored} >= {1, 5}


def test_csv_gives_the_same_scores_as_json(server: Server) -> None:
    text = "\n".join(",".join(repr(float(value)) for value in row) for row in LEADS)
    kind, body = invoke(server, text, "text/csv")
    assert kind.startswith("text/csv")
    lines = [line.split(",") for line in body.splitlines()]
    scored = predictions(server, LEADS.tolist())
    assert [(int(score), float(p)) for score, p in lines] == [(one["score"], one["probability"]) for one in scored]


def test_the_accept_header_chooses_the_answers_form(server: Server) -> None:
    row = ",".join(["1"] * 50)
    assert invoke(server, row, "text/csv", Accept="application/json")[0] == "application/json"
    body = json.dumps({"instances": [[1] * 50]})
    assert invoke(server, body, Accept="text/csv")[0].startswith("text/csv")


def test_an_unknown_value_is_null_or_an_empty_cell(server: Server) -> None:
    row: list[Any] = [None, *([1.0] * 49)]
    (scored,) = predictions(server, [row])
    _, body = invoke(server, "," + ",".join(["1.0"] * 49), "text/csv")
    assert float(body.split(",")[1]) == scored["probability"]


def test_a_hot_lead_scores_above_a_cold_one(server: Server) -> None:
    columns = {name: LEADS[:, i] for i, name in enumerate(leads.FEATURES)}
    typical = np.median(LEADS, axis=0)
    hot, cold = typical.copy(), typical.copy()
    for name, better in {"trial_usage": 1, "pricing_page_views": 1, "asked_for_quote": 1, "unsubscribes": -1}.items():
        i = leads.FEATURES.index(name)
        low, high = columns[name].min(), columns[name].max()
        hot[i], cold[i] = (high, low) if better > 0 else (low, high)
    first, second = predictions(server, [hot.tolist(), cold.tolist()])
    assert first["probability"] > second["probability"] + 0.2


def test_an_unknown_endpoint_is_a_validation_error(server: Server) -> None:
    with pytest.raises(ClientError) as caught:
        server.sagemaker.invoke_endpoint(EndpointName="nothing", Body=b"1", ContentType="text/csv")
    error = caught.value.response["Error"]
    assert (error["Code"], error["Message"]) == (
        "ValidationError",
        "Endpoint nothing of account 000000000000 not found.",
    )
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


@pytest.mark.parametrize(
    ("content_type", "body", "status", "says"),
    [
        ("application/json", b"", 400, "unable to read the instances"),
        ("application/json", b"{", 400, "unable to read the instances"),
        ("application/json", b"[" * 100_000, 400, "unable to read the instances"),
        ("application/json", b'{"instances": {}}', 400, "unable to read the instances"),
        ("application/json", b'{"instances": [["a"]]}', 400, "unable to read the instances"),
        ("application/json", b'{"instances": []}', 400, "no instances"),
        ("application/json", b'{"instances": [[1, 2]]}', 400, "instance 0 has 2 features, the model needs 50"),
        ("application/json", b'{"instances": [[' + b"1e300," * 49 + b"1]]}", 400, "not a finite number"),
        ("text/csv", b"", 400, "no instances"),
        ("text/csv", b"a,b", 400, "unable to read the CSV"),
        ("text/csv", b"1,2", 400, "instance 0 has 2 features"),
        ("text/csv", b"nan," + b"1," * 48 + b"inf", 400, "not a finite number"),
        ("text/csv", b"\xff", 400, "unable to read the CSV"),
        ("image/png", b"\x89PNG", 415, "image/png"),
    ],
)
def test_a_body_the_model_cannot_read_is_a_model_error(
    server: Server, content_type: str, body: bytes, status: int, says: str
) -> None:
    with pytest.raises(server.sagemaker.exceptions.ModelError) as caught:
        server.sagemaker.invoke_endpoint(EndpointName=SCORER, Body=body, ContentType=content_type)
    # The stubs do not know what this one error adds.
    response: Any = caught.value.response
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert response["OriginalStatusCode"] == status
    assert says in response["OriginalMessage"]
    assert response["LogStreamArn"].startswith("arn:aws:logs:")
