"""Training, keeping and using the lead scorer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xgboost

from local.models import lead_scorer, leads
from local.models.lead_scorer import LeadScorer, fifth, model_path


def test_there_are_fifty_features_each_with_a_name_of_its_own() -> None:
    assert len(leads.FEATURES) == len(set(leads.FEATURES)) == 50
    assert leads.draw(10).features.shape == (10, 50)


def test_a_seed_always_draws_the_same_leads() -> None:
    assert np.array_equal(leads.draw(100, seed=3).features, leads.draw(100, seed=3).features)
    assert not np.array_equal(leads.draw(100, seed=3).features, leads.draw(100, seed=4).features)


def test_training_twice_gives_the_same_bytes() -> None:
    assert lead_scorer.train().save_raw("ubj") == lead_scorer.train().save_raw("ubj")


def test_the_scorer_has_learned_what_wins_a_lead(tmp_path: Path) -> None:
    unseen = leads.draw(1_000, seed=99)
    scored = LeadScorer.load_or_train(tmp_path).score(unseen.features.tolist())
    probability = np.array([one.probability for one in scored])
    won, lost = probability[unseen.won == 1], probability[unseen.won == 0]
    assert (won[:, None] > lost[None, :]).mean() > 0.85
    by_score = [unseen.won[[one.score == score for one in scored]].mean() for score in range(1, 6)]
    assert by_score == sorted(by_score)


def test_the_kept_model_is_used_again_and_scores_alike(tmp_path: Path) -> None:
    rows = leads.draw(5, seed=1).features.tolist()
    first = LeadScorer.load_or_train(tmp_path).score(rows)
    kept = model_path(tmp_path)
    before = kept.stat().st_mtime_ns
    assert LeadScorer.load_or_train(tmp_path).score(rows) == first
    assert kept.stat().st_mtime_ns == before
    assert list(tmp_path.iterdir()) == [kept], "nothing temporary is left"


@pytest.mark.parametrize("damage", [b"", b"not a model", None])
def test_a_damaged_model_is_trained_anew(tmp_path: Path, damage: bytes | None) -> None:
    LeadScorer.load_or_train(tmp_path)
    kept = model_path(tmp_path)
    whole = kept.read_bytes()
    kept.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    LeadScorer.load_or_train(tmp_path)
    assert kept.read_bytes() == whole


def test_a_model_of_other_features_is_trained_anew(tmp_path: Path) -> None:
    matrix = xgboost.DMatrix(np.eye(4), label=[0, 1, 0, 1])
    xgboost.train({"objective": "binary:logistic"}, matrix, 1).save_model(model_path(tmp_path))
    assert len(LeadScorer.load_or_train(tmp_path).score([[0.0] * 50])) == 1


def test_an_unknown_value_is_accepted(tmp_path: Path) -> None:
    (scored,) = LeadScorer.load_or_train(tmp_path).score([[None] * 50])
    assert 0 <= scored.probability <= 1


@pytest.mark.parametrize(
    ("probability", "score"), [(0.0, 1), (0.19, 1), (0.2, 2), (0.5, 3), (0.79, 4), (0.8, 5), (1.0, 5)]
)
def test_a_score_is_the_fifth_of_the_probability(probability: float, score: int) -> None:
    assert fifth(probability) == score
