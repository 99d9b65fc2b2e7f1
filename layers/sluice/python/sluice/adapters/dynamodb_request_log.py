"""The request log: one item per unit of work, in shards, so that a busy key never meets a partition's limit."""

import zlib
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, cast

from sluice.adapters.dynamodb import Item, Table, to_struct
from sluice.domain.admission import sum_of
from sluice.domain.inference import Usage
from sluice.domain.ledger import Spent
from sluice.domain.pricing import Charge
from sluice.domain.request_log import RequestLogEntry

# A partition takes 1,000 writes a second, so this is 8,000 requests a second of a single key:
# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/bp-partition-key-design.html
SHARDS: Final = 8
SECONDS_PER_DAY: Final = 86_400
# Between the time and the id in a sort key, and the character that sorts next to it.
_SEPARATOR: Final = "#"
_AFTER_SEPARATOR: Final = chr(ord(_SEPARATOR) + 1)

# Each is part of the input or of the output; stored only where there are any.
_TOKEN_CLASSES: Final = ("cache_read_tokens", "cache_write_tokens", "cache_write_1h_tokens", "reasoning_tokens")


class DynamoDBRequestLog:
    """A :class:`~sluice.domain.ports.RequestLog`. Entries are deleted ``ttl_days`` after the work began."""

    def __init__(self, table: Table, *, ttl_days: int) -> None:
        self._table = table
        self._ttl_days = ttl_days

    def append(self, entry: RequestLogEntry) -> None:
        """Record the entry; the same ``request_id`` and ``started_at`` replace an earlier one."""
        self._table.put(to_item(entry, expires_at=expiry_of(entry, ttl_days=self._ttl_days)))


def expiry_of(entry: RequestLogEntry, *, ttl_days: int) -> int:
    """When the entry is deleted, in epoch seconds."""
    return int(entry.started_at) + ttl_days * SECONDS_PER_DAY


def spent_against(table: Table, key_id: str, hold: str, *, first: float, last: float) -> Spent:
    """What the entries of a key add up to that name this hold and began from ``first`` to ``last`` (epoch seconds).

    Entries whose cost nobody knows count without one.
    """
    begin, end = (datetime.fromtimestamp(moment, UTC) for moment in (first, last))
    days = [begin.date() + timedelta(days=number) for number in range((end.date() - begin.date()).days + 1)]
    found = (
        item
        for day in days
        for shard in range(SHARDS)
        for item in table.query_between(
            _partition(key_id, day, shard),
            _moment(begin),
            f"{_moment(end)}{_AFTER_SEPARATOR}",
            equals=("hold", hold),
            attributes=("cost_micro_usd", "input_tokens", "output_tokens", "requests"),
        )
    )
    return sum_of(_spent(item) for item in found)


def _spent(item: Mapping[str, Any]) -> Spent:
    return Spent(
        requests=item.get("requests", 1),
        input_tokens=item.get("input_tokens", 0),
        output_tokens=item.get("output_tokens", 0),
        cost_micro_usd=Decimal(item.get("cost_micro_usd", 0)),
    )


def _partition(key_id: str, day: date, shard: int) -> str:
    return f"REQ#{key_id}#{day:%Y%m%d}#{shard}"


def _moment(at: datetime) -> str:
    # Callers may give many requests one id, which by the millisecond would sometimes take each other's place.
    return at.isoformat(timespec="microseconds")


def to_item(entry: RequestLogEntry, *, expires_at: int) -> Item:
    """The entry as it is stored. Everything in the keys follows from the entry, so a repeat finds its own item."""
    started = datetime.fromtimestamp(entry.started_at, UTC)
    shard = zlib.crc32(entry.request_id.encode()) % SHARDS
    return {
        "pk": _partition(entry.key_id, started.date(), shard),
        "sk": f"{_moment(started)}{_SEPARATOR}{entry.request_id}",
        "request_id": entry.request_id,
        "key_id": entry.key_id,
        "mode": entry.mode.value,
        "operation": entry.operation.value,
        "model": entry.model,
        "target": entry.target,
        "status": entry.outcome.value,
        "http_status": entry.http_status,
        "error_code": entry.error_code,
        **_tokens(entry.usage),
        "cost_micro_usd": entry.cost_micro_usd,
        "price_version": entry.price_version,
        "charges": [_charge(one) for one in entry.charges] or None,
        "started_at": Decimal(str(round(entry.started_at, 3))),
        "latency_ms": entry.latency_ms,
        "attempts": entry.attempts,
        "fallbacks": entry.fallbacks,
        "hold": entry.hold,
        "cached": entry.cached or None,
        "requests": None if entry.requests == 1 else entry.requests,
        "expires_at": expires_at,
    }


def from_item(item: Item) -> RequestLogEntry:
    """The entry that :func:`to_item` stored. :raises ConfigurationError: it is malformed."""
    charges = [{**one, "usage": _usage(one)} for one in cast("list[Item]", item.get("charges") or [])]
    parts = {"outcome": item.get("status"), "usage": _usage(item), "charges": charges}
    return to_struct({**item, **parts}, RequestLogEntry)


def _charge(charge: Charge) -> Item:
    fields: Item = {
        "target": charge.target,
        **_tokens(charge.usage),
        "cost_micro_usd": charge.cost_micro_usd,
        "price_version": charge.price_version,
    }
    # The table writes a None inside a list as NULL; what is unknown is absent here too.
    return {name: value for name, value in fields.items() if value is not None}


def _tokens(usage: Usage | None) -> Item:
    """Input and output always, the classes of them that were used, and whether all of it is an estimate."""
    if usage is None:
        return {}
    special = {name: getattr(usage, name) or None for name in _TOKEN_CLASSES}
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        **special,
        "usage_estimated": usage.estimated or None,
    }


def _usage(item: Item) -> Item | None:
    if item.get("input_tokens") is None:
        return None
    names = ("input_tokens", "output_tokens", *_TOKEN_CLASSES)
    counts = {name: item[name] for name in names if item.get(name) is not None}
    return {**counts, "estimated": bool(item.get("usage_estimated"))}
