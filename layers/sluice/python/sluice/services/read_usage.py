"""What was used: for the holder of a key, and for administrators by key, model and day."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

import msgspec

from sluice.domain.errors import InvalidRequestError, NotFoundError
from sluice.domain.inference import Caller
from sluice.domain.ports import KeyStore, Ledger, UsageStore
from sluice.domain.usage import DayUsage, KeyUsage, Tally, UsageReport, UsageRow, month_days, span_days, total

GROUPS: Final = ("key", "model", "day")
_PAGE: Final = 100


@dataclass(frozen=True)
class ReadUsage:
    """Tells the holder of a key.

    Money, requests and tokens of the current month are the ledger's and exact; which models they went to is added up
    a moment later.
    """

    usage: UsageStore
    ledger: Ledger
    now: Callable[[], float] = time.time

    def of(self, caller: Caller, period: str | None) -> KeyUsage:
        """The usage of ``period`` (``yyyy-mm``, by default the current month).

        :raises InvalidRequestError: it is no month, or has not begun.
        """
        now = self.now()
        month, days = month_days(period, now=now)
        by_model = _by_model(self.usage.of_key(caller.key_id, days))
        if month != month_days(None, now=now)[0]:
            return KeyUsage(period=month, total=total(by_model.values()), by_model=_sorted(by_model), standing=None)
        standing = self.ledger.standing(caller.key_id, caller.limits)
        exact = msgspec.structs.replace(
            total(by_model.values()),
            requests=standing.requests,
            input_tokens=standing.input_tokens,
            output_tokens=standing.output_tokens,
            cost_micro_usd=standing.spent_micro_usd,
        )
        return KeyUsage(period=month, total=exact, by_model=_sorted(by_model), standing=standing)


@dataclass(frozen=True)
class ReportUsage:
    """Tells administrators."""

    usage: UsageStore
    keys: KeyStore
    now: Callable[[], float] = time.time

    def report(
        self, *, first: str | None, last: str | None, key_id: str | None, group_by: Sequence[str] = GROUPS
    ) -> UsageReport:
        """The usage of the days from ``first`` to ``last`` (``yyyy-mm-dd``), of one key or all.

        Usage is kept for longer than a revoked key is, whose name then is not known any more.

        :raises InvalidRequestError: a date or a group is none.
        :raises NotFoundError: there is no such key, nor was anything used with it in these days.
        """
        unknown = [group for group in group_by if group not in GROUPS]
        if unknown or not group_by:
            raise InvalidRequestError(f"'group_by' takes {', '.join(GROUPS)}, joined by commas.", param="group_by")
        days = span_days(first, last, now=self.now())
        names, used = self._names(key_id), self._used(key_id, days)
        if key_id is not None and not names and not used:
            raise NotFoundError("There is no key with this id.", param="key_id")
        rows: dict[tuple[str | None, str | None, date | None], Tally] = {}
        for usage in used:
            for model, tally in usage.models.items():
                group = (
                    usage.key_id if "key" in group_by else None,
                    model if "model" in group_by else None,
                    usage.day if "day" in group_by else None,
                )
                rows[group] = rows.get(group, Tally()) + tally
        found = [
            UsageRow(key_id=key, key_name=names.get(key or ""), model=model, day=day, tally=tally)
            for (key, model, day), tally in rows.items()
        ]
        found.sort(key=lambda row: (row.day or days[0], row.key_id or "", row.model or ""))
        return UsageReport(first=days[0], last=days[-1], rows=tuple(found), total=total(rows.values()))

    def _used(self, key_id: str | None, days: Sequence[date]) -> list[DayUsage]:
        if key_id is not None:
            return self.usage.of_key(key_id, days)
        return [usage for day in days for usage in self.usage.of_day(day)]

    def _names(self, key_id: str | None) -> dict[str, str]:
        if key_id is not None:
            return {key.id: key.name for key in self.keys.by_id(key_id)[:1]}
        names: dict[str, str] = {}
        after: str | None = None
        while True:
            page, after = self.keys.page(limit=_PAGE, after=after)
            names |= {key.id: key.name for key in page}
            if after is None:
                return names


def _by_model(used: Sequence[DayUsage]) -> dict[str, Tally]:
    models: dict[str, Tally] = {}
    for usage in used:
        for model, tally in usage.models.items():
            models[model] = models.get(model, Tally()) + tally
    return models


def _sorted(by_model: dict[str, Tally]) -> tuple[tuple[str, Tally], ...]:
    return tuple(sorted(by_model.items(), key=lambda pair: (-pair[1].cost_micro_usd, pair[0])))
