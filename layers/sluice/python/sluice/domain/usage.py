"""What was used, added up by key, day and model. Days are those of UTC on which the work began."""

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Final

import msgspec

from sluice.domain.errors import InvalidRequestError
from sluice.domain.ledger import Standing
from sluice.domain.request_log import Outcome, RequestLogEntry

# A quarter, and what one answer may be asked to read.
MOST_DAYS: Final = 92
_MONTH: Final = re.compile(r"(\d{4})-(0[1-9]|1[0-2])")


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over units of work.

    ``requests`` counts all, ``failed`` and ``cached`` those of them that were, ``unpriced`` those that used tokens at a
    cost nobody knows; ``cost_micro_usd`` is that of all others. An entry that stands for several requests counts as so
    many, in all of these.
    """

    requests: int = 0
    failed: int = 0
    cached: int = 0
    unpriced: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_micro_usd: Decimal = Decimal(0)

    @classmethod
    def of(cls, entry: RequestLogEntry) -> "Tally":
        """What one entry stands for."""
        usage, requests = entry.usage, entry.requests
        return cls(
            requests=requests,
            failed=requests if entry.outcome is not Outcome.COMPLETED else 0,
            cached=requests if entry.cached else 0,
            unpriced=requests if usage is not None and entry.cost_micro_usd is None else 0,
            input_tokens=usage.input_tokens if usage else 0,
            output_tokens=usage.output_tokens if usage else 0,
            cost_micro_usd=entry.cost_micro_usd or Decimal(0),
        )

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(**{name: getattr(self, name) + getattr(other, name) for name in Tally.__struct_fields__})

    def __sub__(self, other: "Tally") -> "Tally":
        return Tally(**{name: getattr(self, name) - getattr(other, name) for name in Tally.__struct_fields__})


def total(tallies: Iterable[Tally]) -> Tally:
    """All of them together."""
    return sum(tallies, Tally())


class UsageChange(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of the request log that is new, or took the place of ``before``.

    ``partition`` is the part of the log that it belongs to. Within one, ``sequence`` only grows, and a change that
    comes again has the number that it had before.
    """

    partition: "LogPartition"
    sequence: str
    entry: RequestLogEntry
    before: RequestLogEntry | None = None

    @property
    def model(self) -> str:
        """What the change is counted under: who answered, else what was asked for."""
        return self.entry.target or self.entry.model

    def tallies(self) -> Iterator[tuple[str, Tally]]:
        """What it adds, by model."""
        yield self.model, Tally.of(self.entry)
        if self.before is not None:
            yield self.before.target or self.before.model, Tally() - Tally.of(self.before)


class LogPartition(msgspec.Struct, frozen=True, order=True):
    """A part of the request log: one key's, on one day (``yyyymmdd``), in one shard."""

    key_id: str
    day: str
    shard: int


class DayUsage(msgspec.Struct, frozen=True, kw_only=True):
    """What one key used on one day, by model."""

    key_id: str
    day: date
    models: Mapping[str, Tally]


class KeyUsage(msgspec.Struct, frozen=True, kw_only=True):
    """What a key used in a month (``yyyy-mm``). ``standing`` is how it stands now, ``None`` once the month is over."""

    period: str
    total: Tally
    by_model: tuple[tuple[str, Tally], ...]
    standing: Standing | None


class UsageRow(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a report; what it is not grouped by is ``None``, and so is the name of a key that is forgotten."""

    tally: Tally
    key_id: str | None = None
    key_name: str | None = None
    model: str | None = None
    day: date | None = None


class UsageReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was used from ``first`` to ``last`` day."""

    first: date
    last: date
    rows: tuple[UsageRow, ...]
    total: Tally


def month_days(period: str | None, *, now: float) -> tuple[str, tuple[date, ...]]:
    """A month (``yyyy-mm``; the current one by default) and its days, of the current month those so far.

    :raises InvalidRequestError: it is no month, or has not begun.
    """
    today = datetime.fromtimestamp(now, UTC).date()
    found = _MONTH.fullmatch(period or f"{today:%Y-%m}")
    first = date(int(found[1]), int(found[2]), 1) if found and int(found[1]) else None
    if first is None or first > today:
        raise InvalidRequestError("'period' must be a month that has begun, such as '2026-11'.", param="period")
    following = (first + timedelta(days=31)).replace(day=1)
    return f"{first:%Y-%m}", _days(first, min(following - timedelta(days=1), today))


def span_days(first: str | None, last: str | None, *, now: float) -> tuple[date, ...]:
    """The days from ``first`` to ``last`` (``yyyy-mm-dd``); by default the current month's, up to today.

    :raises InvalidRequestError: one is no date, they are the wrong way round, or too far apart.
    """
    today = datetime.fromtimestamp(now, UTC).date()
    start = _date(first, "from") or today.replace(day=1)
    end = _date(last, "to") or max(today, start)
    if end < start:
        raise InvalidRequestError("'from' must not be after 'to'.", param="from")
    if (end - start).days >= MOST_DAYS:
        raise InvalidRequestError(f"At most {MOST_DAYS} days can be asked for at once.", param="to")
    return _days(start, end)


def _date(text: str | None, param: str) -> date | None:
    if not text:
        return None
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).date()
    except ValueError:
        raise InvalidRequestError(f"'{param}' must be a date such as '2026-11-21'.", param=param) from None


def _days(first: date, last: date) -> tuple[date, ...]:
    return tuple(first + timedelta(days=number) for number in range((last - first).days + 1))
