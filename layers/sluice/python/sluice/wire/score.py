"""``POST /score``: rows of fifty numbers in, one score each out.

A row may be one of ten thousand, so what is wrong with it is told by row and column. The numbers are checked here and
not by the parser, whose errors name neither, and which takes NaN and Infinity for malformed JSON.
"""

import json
import math
from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from sluice.domain.errors import InvalidRequestError
from sluice.domain.scoring import FEATURE_COUNT, LARGEST_FEATURE, MAX_ROWS, ScoreRequest, ScoreResult
from sluice.wire.chat import ModelName
from sluice.wire.parsing import parse

DEFAULT_MODEL: Final = "score"
Features = Annotated[list[float], Meta(min_length=FEATURE_COUNT, max_length=FEATURE_COUNT)]
_NUMBERS: Final = frozenset((float, int))
_KINDS: Final = {bool: "a boolean", str: "a string", type(None): "null", list: "a list", dict: "an object"}


class ScoreRequestBody(msgspec.Struct, frozen=True, kw_only=True):
    """The body of ``POST /score``: one row as ``features``, or many as ``rows``. Fields not named here are ignored."""

    features: Features | None = None
    rows: Annotated[list[Features], Meta(min_length=1, max_length=MAX_ROWS)] | None = None
    model: ModelName = DEFAULT_MODEL


class _Unchecked(msgspec.Struct, frozen=True):
    """The same before the numbers are looked at."""

    features: Any = None
    rows: Any = None
    model: ModelName = DEFAULT_MODEL


class ParsedScoreRequest(msgspec.Struct, frozen=True):
    """``single``: one row was sent, as ``features``."""

    request: ScoreRequest
    single: bool


def parse_score(body: bytes) -> ParsedScoreRequest:
    """The body of a score request, checked and free of the wire format.

    :raises InvalidRequestError: naming the row, the column and what is wrong there.
    """
    try:
        unchecked = parse(body, _Unchecked)
    except InvalidRequestError as malformed:
        # JSON has no NaN and no Infinity, but many programs write them: say so, and where they are.
        _explain_literals(body, malformed)
        raise
    return _checked(unchecked)


def _checked(body: _Unchecked) -> ParsedScoreRequest:
    single = body.features is not None
    if single == (body.rows is not None):
        raise InvalidRequestError(
            "Either 'features' (one row) or 'rows' (a list of rows) is required, not both.",
            code="invalid_value" if single else "missing_required_parameter",
            param="features",
        )
    if single:
        _check_row(body.features, "features", "Row 0")
        return ParsedScoreRequest(ScoreRequest(model=body.model, rows=[body.features]), single=True)
    if not isinstance(body.rows, list):
        raise _wrong("rows", f"'rows' is {_kind(body.rows)}; a list of rows is expected.")
    if not 1 <= len(body.rows) <= MAX_ROWS:
        amount = f"{len(body.rows)} rows" if body.rows else "no row"
        raise _wrong("rows", f"'rows' has {amount}; between 1 and {MAX_ROWS} are expected.")
    for index, row in enumerate(body.rows):
        _check_row(row, f"rows[{index}]", f"Row {index}")
    return ParsedScoreRequest(ScoreRequest(model=body.model, rows=body.rows), single=False)


def _check_row(row: Any, place: str, name: str) -> None:
    if not isinstance(row, list):
        raise _wrong(place, f"{name} is {_kind(row)}; a list of {FEATURE_COUNT} numbers is expected.")
    if len(row) != FEATURE_COUNT:
        raise _wrong(place, f"{name} has {len(row)} columns; exactly {FEATURE_COUNT} are expected.{_first_off(row)}")
    # Done in C for every row; only a row that fails is looked at number by number.
    if not (_NUMBERS.issuperset(map(type, row)) and max(map(abs, row)) <= LARGEST_FEATURE and _all_finite(row)):
        column = next(index for index, value in enumerate(row) if _problem(value))
        problem = _problem(row[column])
        raise _wrong(f"{place}[{column}]", f"{name}, column {column} is {problem}; a finite number is expected.")


def _first_off(row: Sequence[Any]) -> str:
    if len(row) < FEATURE_COUNT:
        return f" Column {len(row)} is missing."
    return f" Column {FEATURE_COUNT} is one too many."


def _all_finite(row: Sequence[float]) -> bool:
    # The largest of numbers with a NaN among them may be another one.
    return not any(map(math.isnan, row))


def _problem(value: Any) -> str | None:
    """What is wrong with a value, in words that do not quote it."""
    if type(value) not in _NUMBERS:
        return _kind(value)
    if value != value:  # noqa: PLR0124 - how NaN is told, for integers of any size too
        return "NaN"
    if abs(value) == math.inf:
        return "Infinity" if value > 0 else "-Infinity"
    return "beyond what a 32-bit float holds" if abs(value) > LARGEST_FEATURE else None


def _kind(value: Any) -> str:
    return _KINDS.get(type(value), "a number")


def _wrong(param: str, message: str) -> InvalidRequestError:
    return InvalidRequestError(message, code="invalid_value", param=param)


def _explain_literals(body: bytes, malformed: InvalidRequestError) -> None:
    """Raise a better error than ``malformed`` when the standard library's laxer parser finds why."""
    try:
        # It reads NaN and Infinity, and a number with too large an exponent as Infinity.
        fields = json.loads(body)
    except (ValueError, RecursionError):
        return
    if isinstance(fields, dict) and (malformed.param is None or malformed.param.startswith(("features", "rows"))):
        _checked(_Unchecked(fields.get("features"), fields.get("rows")))


class RowScore(msgspec.Struct, frozen=True, kw_only=True):
    """``score`` 1 (cold) to 5 (hot); ``probability`` that the lead is won."""

    index: int
    score: int
    probability: float


class ScoreLatency(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds: inside Sluice altogether, and of them until the model had answered."""

    total: float
    model: float


class ScoreResponse(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer to ``POST /score``. ``model`` is the target that answered, ``model_version`` what it computed with.

    For one row sent as ``features``, its ``score`` and ``probability`` stand at the top as well.
    """

    model: str
    model_version: str
    scores: list[RowScore]
    latency_ms: ScoreLatency
    score: int | None = None
    probability: float | None = None

    @classmethod
    def of(cls, result: ScoreResult, *, model: str, latency: ScoreLatency, single: bool) -> "ScoreResponse":
        """``result`` as callers see it."""
        scores = [
            RowScore(index=index, score=one.score, probability=one.probability)
            for index, one in enumerate(result.scores)
        ]
        return cls(
            model=model,
            model_version=result.model_version,
            scores=scores,
            latency_ms=latency,
            score=scores[0].score if single else None,
            probability=scores[0].probability if single else None,
        )
