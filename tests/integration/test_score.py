"""POST /v1/score through the public API, judged by the XGBoost library on the model that is checked in."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import xgboost

from local.models import leads
from local.models.lead_scorer import ARTEFACT
from tests.integration.support import Answer, Platform

ENDPOINT = "sagemaker/lead-scorer"
INSIDE = "in-process/lead-scorer"
BOTH = pytest.mark.parametrize("target", [ENDPOINT, INSIDE])
ROW = [0.5] * 50
VERSION = hashlib.sha256(ARTEFACT.read_bytes()).hexdigest()[:16]


def library(rows: npt.NDArray[np.float32]) -> list[float]:
    booster = xgboost.Booster(model_file=ARTEFACT)
    found: list[float] = booster.predict(xgboost.DMatrix(rows, feature_names=list(leads.FEATURES))).tolist()
    return found


def expected_scores(probabilities: list[float]) -> list[int]:
    return [min(5, 1 + int(probability * 5)) for probability in probabilities]


def score(platform: Platform, rows: npt.NDArray[np.float32], target: str = "score") -> Any:
    answer = platform.call("POST", "/score", {"rows": rows.astype(float).tolist(), "model": target})
    assert answer.status == 200, answer.body
    return answer.body


def agree(platform: Platform, target: str, rows: npt.NDArray[np.float32]) -> None:
    body = score(platform, rows, target)
    wanted = library(rows)
    assert (body["model"], body["model_version"]) == (target, VERSION)
    assert [one["index"] for one in body["scores"]] == list(range(len(rows)))
    assert [one["probability"] for one in body["scores"]] == pytest.approx(wanted, abs=1e-6)
    assert [one["score"] for one in body["scores"]] == expected_scores(wanted)


@BOTH
@pytest.mark.parametrize("seed", [31, 32])
def test_a_thousand_random_leads_score_as_the_library_scores_them(platform: Platform, target: str, seed: int) -> None:
    agree(platform, target, leads.draw(1_000, seed=seed).features)


@BOTH
def test_so_do_a_thousand_rows_of_arbitrary_numbers(platform: Platform, target: str) -> None:
    rng = np.random.default_rng(33)
    agree(platform, target, (rng.standard_normal((1_000, 50)) * 10.0 ** rng.integers(-6, 6, (1_000, 50))).astype("f4"))


@BOTH
def test_values_on_the_trees_thresholds_fall_on_the_same_side(platform: Platform, target: str) -> None:
    trees = json.loads(ARTEFACT.read_bytes())["learner"]["gradient_booster"]["model"]["trees"]
    splits = [
        (tree["split_indices"][node], tree["split_conditions"][node])
        for tree in trees
        for node, left in enumerate(tree["left_children"])
        if left != -1
    ]
    rows = np.repeat(np.median(leads.draw(500, seed=8).features, axis=0)[None, :], len(splits), axis=0)
    for row, (feature, threshold) in zip(rows, splits, strict=True):
        row[feature] = threshold
    agree(platform, target, rows)


@BOTH
def test_the_largest_batch_is_served_whole(platform: Platform, target: str) -> None:
    rows = np.round(leads.draw(10_000, seed=34).features, 3)
    agree(platform, target, rows)


def test_one_row_gets_its_score_at_the_top(platform: Platform) -> None:
    row = leads.draw(1, seed=35).features
    answer = platform.call("POST", "/score", {"features": row[0].astype(float).tolist()})
    assert answer.status == 200
    body = answer.body
    (wanted,) = library(row)
    assert body["probability"] == pytest.approx(wanted, abs=1e-6)
    assert body["score"] in {1, 2, 3, 4, 5}
    assert body["scores"] == [{"index": 0, "score": body["score"], "probability": body["probability"]}]
    assert 0 < body["latency_ms"]["model"] <= body["latency_ms"]["total"]
    assert (answer.headers["x-sluice-target"], answer.headers["x-sluice-fallbacks"]) == (ENDPOINT, "0")
    assert answer.headers["x-sluice-attempts"] == "1"
    assert "x-sluice-cost-usd" not in answer.headers, "an endpoint is billed by the hour: unknown, not zero"


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "error", "status": 500},
        {"kind": "error", "status": 503},
        {"kind": "error", "status": 424},
        {"kind": "throttle"},
        {"kind": "garbage"},
        {"kind": "cut", "at": "start"},
        {"kind": "cut", "at": "body"},
        {"kind": "error", "status": 403},
    ],
    ids=str,
)
def test_the_model_inside_stands_in_for_the_endpoint(healthy: Platform, fault: dict[str, object]) -> None:
    healthy.fault("lead-scorer", **fault)
    row = leads.draw(1, seed=36).features
    answer = healthy.call("POST", "/score", {"features": row[0].astype(float).tolist()})
    assert answer.status == 200
    assert answer.body["model"] == INSIDE
    assert answer.body["probability"] == pytest.approx(library(row)[0], abs=1e-6)
    assert answer.body["model_version"] == VERSION
    assert (answer.headers["x-sluice-target"], answer.headers["x-sluice-fallbacks"]) == (INSIDE, "1")
    assert answer.headers["x-sluice-cost-usd"] == "0", "the model inside is known to cost nothing"


def text(*values: str) -> bytes:
    first = ", ".join(["1.5"] * 50)
    return f'{{"rows": [[{first}], [{", ".join(values)}]]}}'.encode()


NUMBERS = ["1.5"] * 50


@pytest.mark.parametrize(
    ("body", "param", "says"),
    [
        (text(*NUMBERS[:3], "NaN", *NUMBERS[4:]), "rows[1][3]", "Row 1, column 3 is NaN"),
        (text(*NUMBERS[:3], "Infinity", *NUMBERS[4:]), "rows[1][3]", "Row 1, column 3 is Infinity"),
        (text(*NUMBERS[:3], "-Infinity", *NUMBERS[4:]), "rows[1][3]", "Row 1, column 3 is -Infinity"),
        (text("1e999", *NUMBERS[1:]), "rows[1][0]", "Row 1, column 0 is Infinity"),
        (text('"1.5"', *NUMBERS[1:]), "rows[1][0]", "Row 1, column 0 is a string"),
        (text("true", *NUMBERS[1:]), "rows[1][0]", "Row 1, column 0 is a boolean"),
        (text("null", *NUMBERS[1:]), "rows[1][0]", "Row 1, column 0 is null"),
        (text(*NUMBERS[:49]), "rows[1]", "Row 1 has 49 columns"),
        (text(*NUMBERS, "1"), "rows[1]", "Row 1 has 51 columns"),
        ({"features": ROW[:49]}, "features", "Row 0 has 49 columns"),
        ({"features": [*ROW, 1]}, "features", "Row 0 has 51 columns"),
        ({"features": []}, "features", "Row 0 has 0 columns"),
        ({"rows": []}, "rows", "no row"),
        ({"rows": [ROW] * 10_001}, "rows", "10001 rows; between 1 and 10000"),
        ({"rows": [ROW], "features": ROW}, "features", "not both"),
        ({}, "features", "is required"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_scored_is_refused_by_name(platform: Platform, body: object, param: str, says: str) -> None:
    refused(platform.call("POST", "/score", body), param, says)


def refused(answer: Answer, param: str, says: str) -> None:
    assert answer.status == 400, answer.body
    error = answer.body["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert says in error["message"]


def test_a_chat_model_cannot_score(platform: Platform) -> None:
    answer = platform.call("POST", "/score", {"features": ROW, "model": "auto"})
    refused(answer, "model", "cannot be used for this endpoint (score)")


def test_a_key_is_needed(platform: Platform) -> None:
    assert platform.call("POST", "/score", {"features": ROW}, key="").status == 401
