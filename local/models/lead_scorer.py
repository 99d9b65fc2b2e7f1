"""The lead scorer: an XGBoost model from 50 features to the probability that a lead is won, and a score of 1 to 5."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xgboost

from local.models import leads

log = logging.getLogger(__name__)

ROUNDS = 80
# One thread and the exact same histogram everywhere: training twice gives the same bytes.
PARAMETERS: dict[str, str | int | float] = {
    "objective": "binary:logistic",
    "tree_method": "hist",
    "max_depth": 4,
    "eta": 0.15,
    "nthread": 1,
    "seed": leads.SEED,
}


@dataclass(frozen=True)
class LeadScore:
    """``probability`` that the lead is won (0 to 1) and its fifth, ``score`` 1 (cold) to 5 (hot)."""

    score: int
    probability: float


class LeadScorer:
    """A trained scorer; safe to share between threads."""

    def __init__(self, booster: xgboost.Booster) -> None:
        self._booster = booster

    @classmethod
    def load_or_train(cls, folder: Path) -> LeadScorer:
        """Read the model kept in ``folder``, or train it (well under a second) and keep it there.

        Raises:
            OSError: the folder cannot be written.
        """
        path = model_path(folder)
        booster = _read(path)
        if booster is None:
            booster = train()
            _write(booster, path)
        return cls(booster)

    def score(self, rows: Sequence[Sequence[float | None]]) -> list[LeadScore]:
        """Score leads of 50 features each, in the order of ``leads.FEATURES``; ``None`` is unknown."""
        matrix = np.array(
            [[np.nan if value is None else value for value in row] for row in rows],
            dtype=np.float32,
        )
        data = xgboost.DMatrix(matrix, feature_names=list(leads.FEATURES), nthread=1)
        return [LeadScore(fifth(float(p)), float(p)) for p in self._booster.predict(data)]


def fifth(probability: float) -> int:
    """1 for a probability below 0.2, up to 5 from 0.8 on."""
    return min(5, 1 + int(probability * 5))


def train() -> xgboost.Booster:
    """Train on the seeded lead set."""
    data = leads.draw()
    matrix = xgboost.DMatrix(data.features, label=data.won, feature_names=list(leads.FEATURES), nthread=1)
    return xgboost.train(PARAMETERS, matrix, num_boost_round=ROUNDS)


def model_path(folder: Path) -> Path:
    """Where the model is kept: the name changes with everything it is made from."""
    recipe = [PARAMETERS, ROUNDS, leads.FEATURES, leads.LEADS, leads.SEED, xgboost.__version__]
    digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:12]
    return folder / f"lead-scorer-{digest}.ubj"


def _read(path: Path) -> xgboost.Booster | None:
    if not path.is_file():
        return None
    booster = xgboost.Booster({"nthread": 1})
    try:
        booster.load_model(path)
    except xgboost.core.XGBoostError:
        log.warning("the lead scorer kept in %s is damaged and is trained anew", path.name)
        return None
    return booster if booster.num_features() == len(leads.FEATURES) else None


def _write(booster: xgboost.Booster, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Written aside and renamed, so that a crash or a second server never leaves half a model.
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(booster.save_raw("ubj"))
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
