"""The request log: one item per unit of work, in shards, so that a busy key never meets a partition's limit."""

import zlib
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, NamedTuple, cast

import msgspec

from sluice.adapters.dynamodb import Item, Table, to_struct
from sluice.domain.admission import NOTHING, sum_of
from sluice.domain.inference import Usage
from sluice.domain.ledger import Spent
from sluice.domain.pricing import Charge
from sluice.domain.request_log import RequestLogEntry

# A partition takes 1,000 writes a second, so this is 8,000 requests a second of a single key:
# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/bp-partition-key-design.html
SHARDS: Final = 8
SECONDS_PER_DAY: Final = 86_400
# Between the time and the unit of work in a sort key, and the character that sorts next to it.
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
        """Record the entry; the same ``unit`` of the same key and start replaces an earlier one."""
        self._table.put(to_item(entry, expires_at=expiry_of(entry, ttl_days=self._ttl_days)))


def expiry_of(entry: RequestLogEntry, *, ttl_days: int) -> int:
    """When the entry is deleted, in epoch seconds."""
    return int(entry.started_at) + ttl_days * SECONDS_PER_DAY


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """How far the entries that name a ``hold`` have been read, and what those add up to.

    ``unread`` has each partition that has more, with the sort key to go on from; ``last`` is the sort key to stop at.
    Entries whose cost nobody knows count without one.
    """

    hold: str
    last: str
    unread: Mapping[str, str]
    spent: Spent = NOTHING

    @classmethod
    def of(cls, key_id: str, hold: str, *, first: float, last: float) -> "Reading":
        """Nothing yet, of what a key began from ``first`` to ``last`` (epoch seconds)."""
        begin, end = (datetime.fromtimestamp(moment, UTC) for moment in (first, last))
        days = [begin.date() + timedelta(days=number) for number in range((end.date() - begin.date()).days + 1)]
        partitions = (_partition(key_id, day, shard) for day in days for shard in range(SHARDS))
        return cls(
            hold=hold, last=f"{_moment(end)}{_AFTER_SEPARATOR}", unread=dict.fromkeys(partitions, _moment(begin))
        )

    def page(self, table: Table, partition: str) -> "Page":
        """The next page of a partition that has more."""
        found, end = table.page_between(
            partition,
            self.unread[partition],
            self.last,
            equals=("hold", self.hold),
            attributes=("cost_micro_usd", "input_tokens", "output_tokens", "requests"),
        )
        # No key sorts between one and the same with this character behind it.
        return Page(partition, sum_of(map(_spent, found)), None if end is None else f"{end}\0")

    def with_pages(self, pages: Iterable["Page"]) -> "Reading":
        """How far it is with these."""
        pages = tuple(pages)
        following = {page.partition: page.following for page in pages}
        unread = {**self.unread, **following}
        return msgspec.structs.replace(
            self,
            unread={partition: sk for partition, sk in unread.items() if sk is not None},
            spent=sum_of((self.spent, *(page.spent for page in pages))),
        )


class Page(NamedTuple):
    """What a page of a partition adds up to, and the sort key to go on from, if there is more."""

    partition: str
    spent: Spent
    following: str | None


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
    return at.isoformat(timespec="microseconds")


def to_item(entry: RequestLogEntry, *, expires_at: int) -> Item:
    """The entry as it is stored. Everything in the keys follows from the entry, so a repeat finds its own item.

    Nothing in them but the key is the caller's choice: one request id for all would undo the shards.
    """
    started = datetime.fromtimestamp(entry.started_at, UTC)
    shard = zlib.crc32(entry.unit.encode()) % SHARDS
    return {
        "pk": _partition(entry.key_id, started.date(), shard),
        "sk": f"{_moment(started)}{_SEPARATOR}{entry.unit}",
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
    unit = str(item["sk"]).partition(_SEPARATOR)[2]
    parts = {"unit": unit, "outcome": item.get("status"), "usage": _usage(item), "charges": charges}
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
