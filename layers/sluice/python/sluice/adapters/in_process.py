"""Models that run inside the function itself: nothing to call, nothing to wait for, nothing to pay per request.

The lead scorer's file is the very artefact that the SageMaker endpoint serves (docs/adr/0016), so that either target
gives the same scores. The static embeddings come with a layer of their own (docs/adr/0031): only the functions that
have it can embed.
"""

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sluice.adapters.xgboost_json import BinaryClassifier, UnsupportedModelError
from sluice.domain import errors
from sluice.domain.deadline import Deadline
from sluice.domain.inference import EmbeddingRequest, EmbeddingResult, Usage
from sluice.domain.ports import ModelProvider
from sluice.domain.routing import Target
from sluice.domain.scoring import LeadScore, ScoreRequest, ScoreResult
from sluice.telemetry import tracing

if TYPE_CHECKING:
    from sluice.adapters.static_embeddings import StaticEmbedder

_ARTEFACTS: Final = Path(__file__).with_name("artefacts")
# Every model that is packaged, by the name that routes know it by; anything else a target names is not there.
_FILES: Final[Mapping[str, Path]] = {"lead-scorer": _ARTEFACTS / "lead-scorer.json"}
# The deadline is looked at between blocks of this many rows, a few milliseconds each.
_BLOCK_ROWS: Final = 200
_EMBEDDINGS: Final = "static-embeddings"
# As with rows: texts of so many characters together (one at least), or so many texts, make a block.
_BLOCK_CHARACTERS: Final = 65_536
_BLOCK_TEXTS: Final = 256
_VERSION_DIGITS: Final = 16


class InProcess(ModelProvider):
    """A :class:`~sluice.domain.ports.ModelProvider` for scores and vectors. A model is read when first asked for."""

    def __init__(
        self,
        read: Callable[[Path], bytes] = Path.read_bytes,
        load_embedder: "Callable[[], StaticEmbedder] | None" = None,
    ) -> None:
        self._read = read
        self._load = cache(self._load_once)
        self._load_embedder = load_embedder or _packaged_embedder
        self._embedder: StaticEmbedder | None = None
        self._loading = threading.Lock()

    def embed(self, target: Target, request: EmbeddingRequest, *, timeout_s: float) -> EmbeddingResult:
        """Embed every input, however many, within ``timeout_s`` seconds; unit length, numbers of eight decimals.

        :raises ContextTooLongError: an input has more than 8,192 tokens.
        :raises UnsupportedByTargetError: more ``dimensions`` are wanted than there are.
        """
        if target.model in _FILES:
            return super().embed(target, request, timeout_s=timeout_s)
        deadline = Deadline.after(timeout_s)
        with tracing.subsegment(target.name, provider=target.provider):
            embedder = self._static_embedder(target)
            vectors: list[tuple[float, ...]] = []
            tokens: list[int] = []
            for block in _blocks(request.inputs):
                if deadline.expired:
                    raise errors.ProviderTimeoutError("The model did not embed all inputs in time.", target=target.name)
                more, counts = _embed_block(target, embedder, block, request.dimensions)
                vectors += more
                tokens += counts
        return EmbeddingResult(
            vectors=tuple(vectors), usage=Usage(input_tokens=sum(tokens)), tokens_by_input=tuple(tokens)
        )

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

    def _static_embedder(self, target: Target) -> "StaticEmbedder":
        if target.model != _EMBEDDINGS:
            raise _not_inside(target)
        # Whoever comes while it is read waits: twice in memory, it would be most of the function's.
        with self._loading:
            if self._embedder is None:
                self._embedder = self._loaded_embedder(target)
            return self._embedder

    def _loaded_embedder(self, target: Target) -> "StaticEmbedder":
        try:
            return self._load_embedder()
        except ImportError as exc:
            # This function was deployed without the layer.
            raise _not_inside(target) from exc
        except OSError as exc:
            raise errors.ProviderUnavailableError("The model's file cannot be read.", target=target.name) from exc
        except ValueError as exc:
            raise errors.ProviderProtocolError("The model's file cannot be understood.", target=target.name) from exc

    def _model(self, target: Target) -> tuple[BinaryClassifier, str]:
        path = _FILES.get(target.model)
        if path is None:
            raise _not_inside(target)
        try:
            return self._load(path)
        except OSError as exc:
            raise errors.ProviderUnavailableError("The model's file cannot be read.", target=target.name) from exc
        except UnsupportedModelError as exc:
            raise errors.ProviderProtocolError("The model's file cannot be understood.", target=target.name) from exc

    def _load_once(self, path: Path) -> tuple[BinaryClassifier, str]:
        content = self._read(path)
        return BinaryClassifier(content), version_of(content)


def _packaged_embedder() -> "StaticEmbedder":
    # numpy takes a tenth of a second to import, which who asks for scores does not wait for.
    from sluice.adapters.static_embeddings import StaticEmbedder

    return StaticEmbedder.load()


def _embed_block(
    target: Target, embedder: "StaticEmbedder", texts: Sequence[str], dimensions: int | None
) -> tuple[Sequence[tuple[float, ...]], Sequence[int]]:
    from sluice.adapters.static_embeddings import DIMENSIONS, MAX_TOKENS, TextTooLongError

    if dimensions is not None and not 1 <= dimensions <= DIMENSIONS:
        raise errors.UnsupportedByTargetError(
            f"The model has {DIMENSIONS} dimensions.", target=target.name, param="dimensions"
        )
    try:
        return embedder.embed(texts, dimensions=dimensions or DIMENSIONS)
    except TextTooLongError as exc:
        raise errors.ContextTooLongError(
            f"An input has more than the {MAX_TOKENS:,} tokens that the model takes.", target=target.name
        ) from exc


def _blocks(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    start = characters = 0
    for index, text in enumerate(texts):
        if index > start and (characters + len(text) > _BLOCK_CHARACTERS or index - start >= _BLOCK_TEXTS):
            yield texts[start:index]
            start, characters = index, 0
        characters += len(text)
    yield texts[start:]


def _not_inside(target: Target) -> errors.ProviderAuthError:
    return errors.ProviderAuthError(
        "Sluice has no model of this name inside.", target=target.name, code="provider_model_not_found"
    )


def version_of(content: bytes) -> str:
    """The version of a model: what its file holds, in 16 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()[:_VERSION_DIGITS]
