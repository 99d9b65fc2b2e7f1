"""Lead scores: fifty numbers about a lead in, the probability that it is won and a score of 1 to 5 out."""

import math
from collections.abc import Sequence
from typing import Final

import msgspec

from sluice.domain.inference import Usage

FEATURE_COUNT: Final = 50
MAX_ROWS: Final = 10_000
# Scorers compute with 32-bit floats; beyond this one would see an infinity.
LARGEST_FEATURE: Final = 3.4028234663852886e38


class ScoreRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Leads to score, at least one, of :data:`FEATURE_COUNT` finite numbers each.

    ``model`` is an alias or a target's name. The rows are read-only by agreement: copying half a million numbers into
    tuples would cost more than scoring some of them.
    """

    model: str
    rows: Sequence[Sequence[float]]


class LeadScore(msgspec.Struct, frozen=True):
    """``probability`` that the lead is won (0 to 1), and its fifth: ``score`` 1 (cold) to 5 (hot)."""

    score: int
    probability: float

    @classmethod
    def of(cls, probability: float) -> "LeadScore":
        """The score of a lead that is won with this probability.

        :raises ValueError: it is no probability.
        """
        # Written so that NaN, which is neither smaller nor larger than anything, is refused too.
        if not 0.0 <= probability <= 1.0:
            raise ValueError("A probability lies between 0 and 1.")
        return cls(fifth(probability), probability)


class ScoreResult(msgspec.Struct, frozen=True, kw_only=True):
    """One score per row, in the order of the rows. ``model_version`` says which model computed all of them.

    ``usage`` has no tokens: what a scorer costs does not depend on any.
    """

    scores: tuple[LeadScore, ...]
    model_version: str
    usage: Usage = Usage(input_tokens=0)


def fifth(probability: float) -> int:
    """1 for a probability below 0.2, up to 5 from 0.8 on."""
    return min(5, 1 + math.floor(probability * 5))
