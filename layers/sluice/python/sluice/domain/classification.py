"""Classification: which of some labels fits a text best, and how well every label fits."""

import msgspec

from sluice.domain.errors import NotFoundError
from sluice.domain.inference import Usage

MIN_LABELS = 2
MAX_LABELS = 100


class Label(msgspec.Struct, frozen=True):
    """``name`` is what the caller is told; ``description`` helps the model where the name alone says too little."""

    name: str
    description: str = ""


class IntentSet(msgspec.Struct, frozen=True, kw_only=True):
    """Labels that callers may name instead of sending them. Route data, as aliases are."""

    name: str
    labels: tuple[Label, ...]


class ClassificationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Texts to classify, at least one, each by itself. ``model`` is an alias or a target's name.

    Either ``labels`` holds what to choose from, with names that differ, or ``intents`` names an intent set.
    """

    model: str
    inputs: tuple[str, ...]
    labels: tuple[Label, ...] = ()
    intents: str | None = None


class Classification(msgspec.Struct, frozen=True, kw_only=True):
    """``scores`` holds every label's share, in the order of the labels; they add up to 1. ``label`` has the largest."""

    label: str
    score: float
    scores: tuple[tuple[str, float], ...]


class ClassificationResult(msgspec.Struct, frozen=True, kw_only=True):
    """One classification per input, in the order of the inputs. ``calls`` has the usage of every call it took."""

    classifications: tuple[Classification, ...]
    calls: tuple[Usage, ...]

    @property
    def usage(self) -> Usage:
        """All calls together."""
        return Usage(
            input_tokens=sum(usage.input_tokens for usage in self.calls),
            output_tokens=sum(usage.output_tokens for usage in self.calls),
            cache_read_tokens=sum(usage.cache_read_tokens for usage in self.calls),
            cache_write_tokens=sum(usage.cache_write_tokens for usage in self.calls),
            cache_write_1h_tokens=sum(usage.cache_write_1h_tokens for usage in self.calls),
            reasoning_tokens=sum(usage.reasoning_tokens for usage in self.calls),
            estimated=any(usage.estimated for usage in self.calls),
        )


def unknown_intents(name: str) -> NotFoundError:
    """The error for an intent set that is not there."""
    return NotFoundError(f"There is no intent set '{name}'.", code="intents_not_found", param="intents")
