"""What was used, over HTTP: money in US dollars as decimal strings."""

from collections.abc import Iterable
from typing import Any, Literal

import msgspec

from sluice.domain.ledger import Standing
from sluice.domain.usage import KeyUsage, Tally, UsageReport, UsageRow
from sluice.wire.money import usd


class ModelUsageObject(msgspec.Struct, frozen=True, kw_only=True):
    """What went to one model. ``cost_usd`` is of what has a known cost; ``unpriced_requests`` counts the others."""

    model: str
    requests: int
    failed_requests: int
    cached_requests: int
    unpriced_requests: int
    input_tokens: int
    output_tokens: int
    cost_usd: str | None


class LimitsObject(msgspec.Struct, frozen=True, kw_only=True):
    """What a key may use; ``null`` is no limit."""

    rpm: int | None
    tpm: int | None
    monthly_budget_usd: str | None
    total_budget_usd: str | None


class RemainingObject(msgspec.Struct, frozen=True, kw_only=True):
    """What is left now: of this minute, of this month, and for good. ``null`` where nothing is limited."""

    requests: int | None
    tokens: int | None
    monthly_budget_usd: str | None
    total_budget_usd: str | None


class UsageObject(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to ``GET /usage``. ``reserved_usd`` is held for requests under way.

    ``limits``, ``remaining`` and ``reserved_usd`` are of now, and ``null`` for a month that is over.
    """

    object: Literal["usage"] = "usage"
    period: str
    requests: int
    input_tokens: int
    output_tokens: int
    cost_usd: str | None
    by_model: list[ModelUsageObject]
    reserved_usd: str | None
    limits: LimitsObject | None
    remaining: RemainingObject | None

    @classmethod
    def of(cls, usage: KeyUsage) -> "UsageObject":
        """``usage`` for its caller."""
        standing, tally = usage.standing, usage.total
        return cls(
            period=usage.period,
            requests=tally.requests,
            input_tokens=tally.input_tokens,
            output_tokens=tally.output_tokens,
            cost_usd=usd(tally.cost_micro_usd),
            by_model=[_of_model(model, sums) for model, sums in usage.by_model],
            reserved_usd=usd(standing.held_micro_usd) if standing else None,
            limits=_limits(standing) if standing else None,
            remaining=_remaining(standing) if standing else None,
        )


class UsageRowObject(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of a report; what it is not grouped by is left out, and so is the name of a key that is forgotten."""

    day: str | None = None
    key_id: str | None = None
    key_name: str | None = None
    model: str | None = None
    requests: int
    failed_requests: int
    cached_requests: int
    unpriced_requests: int
    input_tokens: int
    output_tokens: int
    cost_usd: str | None

    @classmethod
    def of(cls, row: UsageRow) -> "UsageRowObject":
        """``row`` with its money as text."""
        return cls(
            day=row.day.isoformat() if row.day else None,
            key_id=row.key_id,
            key_name=row.key_name,
            model=row.model,
            **_counts(row.tally),
        )


class UsageReportObject(msgspec.Struct, frozen=True, kw_only=True, rename={"first": "from", "last": "to"}):
    """The answer to ``GET /admin/usage``."""

    object: Literal["list"] = "list"
    first: str
    last: str
    data: list[UsageRowObject]
    total: UsageRowObject

    @classmethod
    def of(cls, report: UsageReport) -> "UsageReportObject":
        """``report`` for administrators."""
        return cls(
            first=report.first.isoformat(),
            last=report.last.isoformat(),
            data=[UsageRowObject.of(row) for row in report.rows],
            total=UsageRowObject.of(UsageRow(tally=report.total)),
        )


def groups(text: str | None) -> tuple[str, ...] | None:
    """The parts of ``group_by``; ``None`` when it is not there."""
    return None if text is None else tuple(_stripped(text.split(",")))


def _stripped(parts: Iterable[str]) -> Iterable[str]:
    return (part.strip() for part in parts)


def _of_model(model: str, tally: Tally) -> ModelUsageObject:
    return ModelUsageObject(model=model, **_counts(tally))


def _counts(tally: Tally) -> dict[str, Any]:
    return {
        "requests": tally.requests,
        "failed_requests": tally.failed,
        "cached_requests": tally.cached,
        "unpriced_requests": tally.unpriced,
        "input_tokens": tally.input_tokens,
        "output_tokens": tally.output_tokens,
        "cost_usd": usd(tally.cost_micro_usd),
    }


def _limits(standing: Standing) -> LimitsObject:
    limits = standing.limits
    return LimitsObject(
        rpm=limits.rpm,
        tpm=limits.tpm,
        monthly_budget_usd=usd(limits.monthly_budget_micro_usd),
        total_budget_usd=usd(limits.total_budget_micro_usd),
    )


def _remaining(standing: Standing) -> RemainingObject:
    return RemainingObject(
        requests=standing.remaining_requests,
        tokens=standing.remaining_tokens,
        monthly_budget_usd=usd(standing.remaining_monthly_micro_usd),
        total_budget_usd=usd(standing.remaining_total_micro_usd),
    )
