"""``POST /classify``: which of some labels fits each text best."""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from sluice.domain.classification import MAX_LABELS, MIN_LABELS, ClassificationRequest, ClassificationResult, Label
from sluice.domain.errors import InvalidRequestError
from sluice.wire.chat import CompletionUsage, ModelName
from sluice.wire.parsing import parse

DEFAULT_MODEL: Final = "classify"
MAX_INPUTS: Final = 100
Text = Annotated[str, Meta(min_length=1)]
LabelName = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^\S(.*\S)?$")]


class ClassifyRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The body of ``POST /classify``: ``labels`` to choose from, or ``intents``, the name of a set of them.

    Fields not named here are ignored.
    """

    input: Text | Annotated[list[Text], Meta(min_length=1, max_length=MAX_INPUTS)]
    labels: Annotated[list[LabelName], Meta(min_length=MIN_LABELS, max_length=MAX_LABELS)] | None = None
    intents: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    model: ModelName = DEFAULT_MODEL

    def to_domain(self) -> ClassificationRequest:
        """What is asked of the model.

        :raises InvalidRequestError: there are labels and intents, or neither, or a label comes twice.
        """
        if (self.labels is None) == (self.intents is None):
            raise InvalidRequestError(
                "Either 'labels' or 'intents' is required, not both.",
                code="missing_required_parameter" if self.labels is None else "invalid_value",
                param="labels" if self.labels is None else "intents",
            )
        return ClassificationRequest(
            model=self.model,
            inputs=(self.input,) if isinstance(self.input, str) else tuple(self.input),
            labels=self._labels(),
            intents=self.intents,
        )

    def _labels(self) -> tuple[Label, ...]:
        seen: set[str] = set()
        for index, name in enumerate(self.labels or ()):
            # A chat model may not keep to the case, so labels have to differ in more than that.
            if name.casefold() in seen:
                raise InvalidRequestError(
                    f"'labels[{index}]' is there already: labels must differ in more than upper and lower case.",
                    code="invalid_value",
                    param=f"labels[{index}]",
                )
            seen.add(name.casefold())
        return tuple(Label(name) for name in self.labels or ())


def parse_classify(body: bytes) -> ClassifyRequest:
    """The body of a classification request.

    :raises InvalidRequestError: naming the field.
    """
    return parse(body, ClassifyRequest)


class ClassificationObject(msgspec.Struct, frozen=True, kw_only=True):
    """One input's classification. ``scores`` has every label's share; they add up to 1."""

    index: int
    label: str
    score: float
    scores: dict[str, float]


class ClassifyResponse(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer to ``POST /classify``. ``model`` is the target that answered.

    For one input that is not a list, its ``label``, ``score`` and ``scores`` stand at the top as well.
    """

    model: str
    results: list[ClassificationObject]
    usage: CompletionUsage
    label: str | None = None
    score: float | None = None
    scores: dict[str, float] | None = None

    @classmethod
    def of(cls, result: ClassificationResult, *, model: str, single: bool) -> "ClassifyResponse":
        """``result`` as callers see it; ``single``: the input was no list."""
        results = [
            ClassificationObject(index=index, label=found.label, score=found.score, scores=dict(found.scores))
            for index, found in enumerate(result.classifications)
        ]
        response = cls(model=model, results=results, usage=CompletionUsage.of(result.usage))
        if not single:
            return response
        only = results[0]
        return msgspec.structs.replace(response, label=only.label, score=only.score, scores=only.scores)
