"""Models that run inside the function itself: nothing to call, nothing to wait for, nothing to pay per request.

The lead scorer's file is the very artefact that the SageMaker endpoint serves (docs/adr/0016), so that either target
gives the same scores.
"""

import hashlib
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Final

from sluice.adapters.xgboost_json import BinaryClassifier, UnsupportedModelError
from sluice.domain import errors
from sluice.domain.deadline import Deadline
from sluice.domain.ports import ModelProvider
from sluice.domain.routing import Target
from sluice.domain.scoring import LeadScore, ScoreRequest, ScoreResult
from sluice.telemetry import tracing

_ARTEFACTS: Final = Path(__file__).with_name("artefacts")
# Every model that is packaged, by the name that routes know it by; anything else a target names is not there.
_FILES: Final[Mapping[str, Path]] = {"lead-scorer": _ARTEFACTS / "lead-scorer.json"}
# The deadline is looked at between blocks of this many rows, a few milliseconds each.
_BLOCK_ROWS: Final = 200
_VERSION_DIGITS: Final = 16


class InProcess(ModelProvider):
    """A :class:`~sluice.domain.ports.ModelProvider` for scores. A model is read when it is first asked for."""

    def __init__(self, read: Callable[[Path], bytes] = Path.read_bytes) -> None:
        self._read = read
        self._load = cache(self._load_once)

    def score(self, target: Target, request: ScoreRequest, *, timeout_s: float) -> ScoreResult:
        """Score every row, within ``timeout_s`` seconds for all of them."""
        deadline = Deadline.after(timeout_s)
        with tracing.subsegment(target.name, provider=target.provider):
            classifier, version = self._model(target)
            scores: list[LeadScore] = []
            for start in range(0, len(request.rows), _BLOCK_ROWS):
                if deadline.expired:
                    raise errors.ProviderTimeoutError("The model did not score all rows in time.", target=target.name)
                scores += self._score_block(target, classifier, request, start)
        return ScoreResult(scores=tuple(scores), model_version=version)

    def _score_block(
        self, target: Target, classifier: BinaryClassifier, request: ScoreRequest, start: int
    ) -> list[LeadScore]:
        try:
            probabilities = classifier.probabilities(request.rows[start : start + _BLOCK_ROWS])
        except (ValueError, TypeError) as exc:
            raise errors.ProviderRejectedError(
                f"The model needs rows of {classifier.feature_count} numbers.", target=target.name
            ) from exc
        return [LeadScore.of(probability) for probability in probabilities]

    def _model(self, target: Target) -> tuple[BinaryClassifier, str]:
        path = _FILES.get(target.model)
        if path is None:
            raise errors.ProviderAuthError(
                "Sluice has no model of this name inside.", target=target.name, code="provider_model_not_found"
            )
        try:
            return self._load(path)
        except OSError as exc:
            raise errors.ProviderUnavailableError("The model's file cannot be read.", target=target.name) from exc
        except UnsupportedModelError as exc:
            raise errors.ProviderProtocolError("The model's file cannot be understood.", target=target.name) from exc

    def _load_once(self, path: Path) -> tuple[BinaryClassifier, str]:
        content = self._read(path)
        return BinaryClassifier(content), version_of(content)


def version_of(content: bytes) -> str:
    """The version of a model: what its file holds, in 16 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()[:_VERSION_DIGITS]
