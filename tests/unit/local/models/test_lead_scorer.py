"""Training and using the lead scorer."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from local.models import lead_scorer, leads
from local.models.lead_scorer import ARTEFACT, LeadScorer, fifth


def test_there_are_fifty_features_each_with_a_name_of_its_own() -> None:
    assert len(leads.FEATURES) == len(set(leads.FEATURES)) == 50
    assert leads.draw(10).features.shape == (10, 50)


def test_a_seed_always_draws_the_same_leads() -> None:
    assert np.array_equal(leads.draw(100, seed=3).features, leads.draw(100, seed=3).features)
    assert not np.array_equal(leads.draw(100, seed=3).features, leads.draw(100, seed=4).features)


def test_training_twice_gives_the_same_bytes() -> None:
    assert lead_scorer.train() == lead_scorer.train()


def test_training_gives_the_model_that_is_checked_in() -> None:
    """The same trees everywhere; what a leaf is worth may differ in its last digits from processor to processor."""
    trained, kept = json.loads(lead_scorer.train()), json.loads(ARTEFACT.read_bytes())
    assert without_trees(trained) == without_trees(kept)
    for one, other in zip(trees(trained), trees(kept), strict=True):
        for same in ("left_children", "right_children", "split_indices", "default_left", "split_type"):
            assert one[same] == other[same]
        assert one["split_conditions"] == pytest.approx(other["split_conditions"], abs=1e-5)


def trees(model: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = model["learner"]["gradient_booster"]["model"]["trees"]
    return found


def without_trees(model: dict[str, Any]) -> dict[str, Any]:
    booster = model["learner"]["gradient_booster"]
    rest = {name: value for name, value in booster["model"].items() if name != "trees"}
    return {**model, "learner": {**model["learner"], "gradient_booster": {**booster, "model": rest}}}


def test_the_scorer_has_learned_what_wins_a_lead() -> None:
    unseen = leads.draw(1_000, seed=99)
    scored = LeadScorer.load().score(unseen.features.tolist())
    probability = np.array([one.probability for one in scored])
    won, lost = probability[unseen.won == 1], probability[unseen.won == 0]
    assert (won[:, None] > lost[None, :]).mean() > 0.85
    by_score = [unseen.won[[one.score == score for one in scored]].mean() for score in range(1, 6)]
    assert by_score == sorted(by_score)


def test_another_model_has_another_version() -> None:
    content = ARTEFACT.read_bytes()
    changed = content.replace(b'"base_score":"[3E-1]"', b'"base_score":"[2E-1]"')
    assert changed != content
    assert LeadScorer(content).version == LeadScorer.load().version != LeadScorer(changed).version


def test_an_unknown_value_is_accepted() -> None:
    (scored,) = LeadScorer.load().score([[None] * 50])
    assert 0 <= scored.probability <= 1


@pytest.mark.parametrize(
    ("probability", "score"), [(0.0, 1), (0.19, 1), (0.2, 2), (0.5, 3), (0.79, 4), (0.8, 5), (1.0, 5)]
)
def test_a_score_is_the_fifth_of_the_probability(probability: float, score: int) -> None:
    assert fifth(probability) == score
