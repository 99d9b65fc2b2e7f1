"""Models evaluated without XGBoost give what XGBoost gives, for models of every shape it trains."""

from __future__ import annotations

import json
import math
import random
from array import array
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import xgboost
from hypothesis import given, settings
from hypothesis import strategies as st

from local.models import leads
from local.models.lead_scorer import ARTEFACT
from sluice.adapters.xgboost_json import BinaryClassifier, UnsupportedModelError

CONTENT = ARTEFACT.read_bytes()
# A few units in the last place of a 32-bit float near 1: where XGBoost works on several rows at once, its `expf` is
# not the C library's.
CLOSE = 3e-7
LARGEST = float(np.finfo(np.float32).max)


def booster(content: bytes) -> xgboost.Booster:
    model = xgboost.Booster({"nthread": 1})
    model.load_model(bytearray(content))
    return model


def expected(content: bytes, rows: npt.NDArray[np.float32], names: tuple[str, ...] | None = None) -> list[float]:
    data = xgboost.DMatrix(rows, feature_names=list(names) if names else None, nthread=1)
    found: list[float] = booster(content).predict(data).tolist()
    return found


def scored(rows: npt.NDArray[np.float32]) -> list[float]:
    return BinaryClassifier(CONTENT).probabilities(rows.astype(float).tolist())


def thresholds() -> list[tuple[int, float]]:
    """Every feature and value at which the lead scorer splits."""
    trees = json.loads(CONTENT)["learner"]["gradient_booster"]["model"]["trees"]
    return sorted(
        {
            (tree["split_indices"][node], tree["split_conditions"][node])
            for tree in trees
            for node, left in enumerate(tree["left_children"])
            if left != -1
        }
    )


@pytest.mark.parametrize("seed", range(5))
def test_leads_score_as_xgboost_scores_them(seed: int) -> None:
    rows = leads.draw(1_000, seed=seed).features
    assert scored(rows) == pytest.approx(expected(CONTENT, rows, leads.FEATURES), abs=CLOSE)


@pytest.mark.parametrize("seed", [1, 2])
def test_so_do_rows_that_are_like_no_lead(seed: int) -> None:
    rng = np.random.default_rng(seed)
    wild = rng.standard_cauchy((1_000, 50)) * 10.0 ** rng.integers(-40, 38, (1_000, 50))
    rows = np.clip(wild, -LARGEST, LARGEST).astype(np.float32)
    assert scored(rows) == pytest.approx(expected(CONTENT, rows, leads.FEATURES), abs=CLOSE)


def test_a_value_on_a_threshold_or_next_to_it_goes_the_same_way() -> None:
    typical = np.median(leads.draw(500, seed=8).features, axis=0)
    rows = []
    for feature, threshold in thresholds():
        exact = np.float32(threshold)
        for value in (exact, np.nextafter(exact, np.float32(-np.inf)), np.nextafter(exact, np.float32(np.inf))):
            row = typical.copy()
            row[feature] = value
            rows.append(row)
    matrix = np.array(rows, dtype=np.float32)
    assert len(matrix) > 500
    assert scored(matrix) == pytest.approx(expected(CONTENT, matrix, leads.FEATURES), abs=CLOSE)


def test_a_double_just_below_a_threshold_is_rounded_before_it_is_compared() -> None:
    """0.1 as a double is below 0.1 as a 32-bit float: compared as it is, it would go the other way."""
    feature, threshold = next((f, t) for f, t in thresholds() if not float(t).is_integer())
    row = np.median(leads.draw(500, seed=8).features, axis=0).astype(float).tolist()
    row[feature] = math.nextafter(array("f", [threshold])[0], -math.inf)
    assert BinaryClassifier(CONTENT).probabilities([row]) == pytest.approx(
        expected(CONTENT, np.array([row], dtype=np.float32), leads.FEATURES), abs=CLOSE
    )


@settings(deadline=None, max_examples=100)
@given(st.lists(st.floats(width=32, allow_nan=True, allow_infinity=False), min_size=50, max_size=50))
def test_any_row_scores_as_xgboost_scores_it(row: list[float]) -> None:
    wanted = expected(CONTENT, np.array([row], dtype=np.float32), leads.FEATURES)
    assert BinaryClassifier(CONTENT).probabilities([row]) == pytest.approx(wanted, abs=CLOSE)


@pytest.mark.parametrize("seed", range(3))
def test_a_missing_value_takes_the_way_that_was_learned_for_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(800, 6)).astype(np.float32)
    rows[rng.random(rows.shape) < 0.3] = np.nan
    won = (np.nan_to_num(rows, nan=1.5).sum(axis=1) + rng.normal(size=800) > 2).astype(np.float32)
    content = trained(rows, won, max_depth=6, seed=seed)
    directions = [tree["default_left"] for tree in trees(content)]
    assert any(map(any, directions))
    assert not all(map(all, directions))
    ours = BinaryClassifier(content).probabilities(rows.astype(float).tolist())
    assert ours == pytest.approx(expected(content, rows), abs=CLOSE)


@pytest.mark.parametrize(
    "parameters",
    [
        {"base_score": 0.5},
        {"base_score": 0.01, "eta": 1.0},
        {"max_depth": 1},
        {"max_depth": 12, "min_child_weight": 0},
        {"tree_method": "exact", "gamma": 2.0},
        {"num_parallel_tree": 3, "subsample": 0.7},
        {"grow_policy": "lossguide", "max_leaves": 9, "tree_method": "hist"},
        {"eta": 20.0, "max_delta_step": 60.0},
    ],
    ids=str,
)
def test_models_of_other_settings_are_evaluated_alike(parameters: dict[str, Any]) -> None:
    rng = np.random.default_rng(4)
    rows = rng.normal(size=(500, 4)).astype(np.float32)
    won = (rows[:, 0] * rows[:, 1] > 0.1).astype(np.float32)
    content = trained(rows, won, **parameters)
    ours = BinaryClassifier(content).probabilities(rows.astype(float).tolist())
    assert ours == pytest.approx(expected(content, rows), abs=CLOSE)


def trained(rows: npt.NDArray[np.float32], won: npt.NDArray[np.float32], **parameters: Any) -> bytes:
    settings_ = {"objective": "binary:logistic", "nthread": 1, **parameters}
    return bytes(xgboost.train(settings_, xgboost.DMatrix(rows, label=won), 12).save_raw("json"))


def trees(content: bytes) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(content)["learner"]["gradient_booster"]["model"]["trees"]
    return found


@pytest.mark.parametrize("length", [0, 49, 51])
def test_a_row_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match=f"{length} features, the model needs 50"):
        BinaryClassifier(CONTENT).probabilities([[0.0] * length])


def edited(change: Callable[[dict[str, Any]], object]) -> bytes:
    model = json.loads(CONTENT)
    change(model["learner"])
    return json.dumps(model).encode()


def first_tree(learner: dict[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = learner["gradient_booster"]["model"]["trees"][0]
    return tree


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not an XGBoost model"),
        (b"{}", "not an XGBoost model"),
        (CONTENT[: len(CONTENT) // 2], "not an XGBoost model"),
        (b"\xff" + CONTENT, "not an XGBoost model"),
        (edited(lambda learner: learner["objective"].update(name="reg:squarederror")), "objective is reg:squarederror"),
        (edited(lambda learner: learner["gradient_booster"].update(name="dart")), "booster is dart"),
        (edited(lambda learner: learner["learner_model_param"].update(num_target="2")), "several outputs"),
        (edited(lambda learner: learner["learner_model_param"].update(base_score="[1E0]")), "base score"),
        (edited(lambda learner: learner["learner_model_param"].update(base_score="[1E-1,2E-1]")), "not an XGBoost"),
        (edited(lambda learner: first_tree(learner)["split_type"].__setitem__(0, 1)), "categorical"),
        (edited(lambda learner: first_tree(learner)["tree_param"].update(size_leaf_vector="3")), "vectors"),
        (edited(lambda learner: first_tree(learner)["left_children"].__setitem__(0, 999)), "damaged"),
        (edited(lambda learner: first_tree(learner)["split_indices"].__setitem__(0, 50)), "damaged"),
        (edited(lambda learner: first_tree(learner)["left_children"].__setitem__(1, 1)), "circle"),
        (edited(lambda learner: first_tree(learner)["split_conditions"].__setitem__(0, 1e300)), "damaged"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_and_not_guessed(content: bytes, reason: str) -> None:
    with pytest.raises(UnsupportedModelError, match=reason):
        BinaryClassifier(content)


def test_the_order_of_rows_is_kept() -> None:
    rows = leads.draw(50, seed=2).features.astype(float).tolist()
    order = list(range(50))
    random.Random(1).shuffle(order)
    classifier = BinaryClassifier(CONTENT)
    straight = classifier.probabilities(rows)
    assert classifier.probabilities([rows[index] for index in order]) == [straight[index] for index in order]
