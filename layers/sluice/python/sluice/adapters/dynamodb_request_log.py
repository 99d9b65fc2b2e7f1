"""The request log: one item per unit of work, in shards, so that a busy key never meets a partition's limit."""

import zlib
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final, cast

from sluice.adapters.dynamodb import Item, Table, to_struct
from sluice.domain.inference import Usage
from sluice.domain.pricing import Charge
from sluice.domain.request_log import RequestLogEntry

# A partition takes 1,000 writes a second, so this is 8,000 requests a second of a single key:
# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/bp-partition-key-design.html
SHARDS: Final = 8
SECONDS_PER_DAY: Final = 86_400

# Each is part of the input or of the output; stored only where there are any.
_TOKEN_CLASSES: Final = ("cache_read_tokens", "cache_write_tokens", "cache_write_1h_tokens", "reasoning_tokens")


class DynamoDBRequestLog:
    """A :class:`~sluice.domain.ports.RequestLog`. Entries are deleted ``ttl_days`` after the work began."""

    def __init__(self, table: Table, *, ttl_days: int) -> None:
        self._table = table
        self._ttl_days = ttl_days

    def append(self, entry: RequestLogEntry) -> None:
        """Record the entry; the same ``request_id`` and ``started_at`` replace an earlier one."""
        self._table.put(to_item(entry, expires_at=int(entry.started_at) + self._ttl_days * SECONDS_PER_DAY))


def to_item(entry: RequestLogEntry, *, expires_at: int) -> Item:
    """The entry as it is stored. Everything in the keys follows from the entry, so a repeat finds its own item."""
    started = datetime.fromtimestamp(entry.started_at, UTC)
    shard = zlib.crc32(entry.request_id.encode()) % SHARDS
    return {
        "pk": f"REQ#{entry.key_id}#{started:%Y%m%d}#{shard}",
        "sk": f"{started.isoformat(timespec='milliseconds')}#{entry.request_id}",
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
