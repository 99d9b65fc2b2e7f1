"""The lead scorer: an XGBoost model from 50 features to the probability that a lead is won, and a score of 1 to 5.

The model is checked in, as XGBoost saves it in JSON, where the functions' own scorer reads it too (docs/adr/0016).
``python -m local.models.lead_scorer`` trains it anew and writes it there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xgboost

from local.models import leads

ARTEFACT = (
    Path(__file__).resolve().parents[2]
    / "layers"
    / "sluice"
    / "python"
    / "sluice"
    / "adapters"
    / "artefacts"
    / "lead-scorer.json"
)
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
    """A trained scorer; safe to share between threads. ``version`` changes with every bit of the model."""

    def __init__(self, content: bytes) -> None:
        """``content`` is the model's JSON. Raises ``xgboost.core.XGBoostError`` when it is not."""
        self._booster = xgboost.Booster({"nthread": 1})
        self._booster.load_model(bytearray(content))
        self.version = hashlib.sha256(content).hexdigest()[:16]

    @classmethod
    def load(cls) -> LeadScorer:
        """Read the model that is checked in.

        Raises:
            OSError: it cannot be read.
        """
        return cls(ARTEFACT.read_bytes())

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


def train() -> bytes:
    """Train on the seeded lead set (well under a second); the model's JSON."""
    data = leads.draw()
    matrix = xgboost.DMatrix(data.features, label=data.won, feature_names=list(leads.FEATURES), nthread=1)
    return bytes(xgboost.train(PARAMETERS, matrix, num_boost_round=ROUNDS).save_raw("json"))


if __name__ == "__main__":
    ARTEFACT.write_bytes(train())
    print(f"wrote {ARTEFACT.name}, version {LeadScorer.load().version}")
