"""Usage by key, day and model: one item for each partition of the request log that it is the sum of.

DynamoDB's stream brings the changes of a partition in order, and sometimes again: Lambda repeats a batch that failed,
whole or in halves. An item remembers the last change that it has counted and is written only by who has read that, so
every entry counts exactly once, at the price of one read and one write a batch and partition.
https://docs.aws.amazon.com/lambda/latest/dg/services-ddb-batchfailurereporting.html
"""

import itertools
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any, Final

from sluice.adapters import dynamodb_request_log
from sluice.adapters.dynamodb import ABSENT, ConditionFailedError, Item, Table, from_item, to_struct, to_values
from sluice.domain.errors import ConfigurationError, StateError
from sluice.domain.usage import DayUsage, LogPartition, Tally, UsageChange

PREFIX: Final = "USAGE#"
SORT_KEY: Final = "V1"
INDEX: Final = "gsi1"
KEPT_DAYS: Final = 400
ATTEMPTS: Final = 5
# Sequence numbers are digits without leading zeros, at most 40 of them, so that as text they need to be filled up.
# https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_StreamRecord.html
_DIGITS: Final = 40
_LOG_PREFIX: Final = "REQ#"
_WRITES: Final = frozenset({"INSERT", "MODIFY"})


class DynamoDBUsage:
    """A :class:`~sluice.domain.ports.UsageStore`."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def record(self, partition: LogPartition, changes: Sequence[UsageChange]) -> None:
        for _ in range(ATTEMPTS):
            found = self._table.get(_partition_key(partition), SORT_KEY, consistent=True)
            last = str(found["last_sequence"]) if found else ""
            fresh = [change for change in changes if _padded(change.sequence) > last]
            if not fresh:
                return
            condition, values = (ABSENT, None) if found is None else ("last_sequence = :last", {":last": last})
            try:
                self._table.put(_item(partition, found, fresh), condition=condition, values=values)
            except ConditionFailedError:
                continue
            return
        raise StateError("The usage of a key is being written by too many at once. Try again.")

    def of_key(self, key_id: str, days: Sequence[date]) -> list[DayUsage]:
        partitions = [
            LogPartition(key_id, f"{day:%Y%m%d}", shard) for day in days for shard in range(dynamodb_request_log.SHARDS)
        ]
        items = self._table.get_many([(_partition_key(partition), SORT_KEY) for partition in partitions])
        return sorted(_merged(items), key=lambda usage: usage.day)

    def of_day(self, day: date) -> list[DayUsage]:
        items = self._table.query_index(INDEX, f"{PREFIX}{day:%Y%m%d}")
        return sorted(_merged(items), key=lambda usage: usage.key_id)


def changes_of(record: Mapping[str, Any]) -> UsageChange | None:
    """What a record of the table's stream says of the request log, if anything.

    :raises ValueError: it cannot be understood.
    """
    try:
        body = record["dynamodb"]
        pk = str(from_item(body["Keys"])["pk"])
        if not pk.startswith(_LOG_PREFIX) or record["eventName"] not in _WRITES:
            return None
        old = body.get("OldImage")
        return UsageChange(
            partition=_log_partition(pk),
            sequence=str(body["SequenceNumber"]),
            entry=dynamodb_request_log.from_item(from_item(body["NewImage"])),
            before=dynamodb_request_log.from_item(from_item(old)) if old else None,
        )
    except (KeyError, TypeError, AttributeError, ConfigurationError) as exc:
        # The text of these may quote a value; their type is enough.
        raise ValueError(f"The stream record cannot be understood: {type(exc).__name__}.") from exc


def _item(partition: LogPartition, found: Item | None, fresh: Sequence[UsageChange]) -> Item:
    models = _models(found) if found else {}
    for model, tally in itertools.chain.from_iterable(change.tallies() for change in fresh):
        models[model] = models.get(model, Tally()) + tally
    began = datetime.strptime(partition.day, "%Y%m%d").replace(tzinfo=UTC).timestamp()
    return {
        "pk": _partition_key(partition),
        "sk": SORT_KEY,
        "gsi1pk": f"{PREFIX}{partition.day}",
        "gsi1sk": f"{partition.key_id}#{partition.shard}",
        "key_id": partition.key_id,
        "day": partition.day,
        "last_sequence": max(_padded(change.sequence) for change in fresh),
        "models": {model: to_values(tally) for model, tally in models.items()},
        "expires_at": int(began) + KEPT_DAYS * dynamodb_request_log.SECONDS_PER_DAY,
    }


def _merged(items: Sequence[Item]) -> list[DayUsage]:
    days: dict[tuple[str, str], dict[str, Tally]] = {}
    for item in items:
        models = days.setdefault((str(item["key_id"]), str(item["day"])), {})
        for model, tally in _models(item).items():
            models[model] = models.get(model, Tally()) + tally
    return [
        DayUsage(key_id=key_id, day=datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC).date(), models=models)
        for (key_id, day), models in days.items()
    ]


def _models(item: Item) -> dict[str, Tally]:
    stored: Any = item["models"]
    return {model: to_struct(tally, Tally) for model, tally in stored.items()}


def _partition_key(partition: LogPartition) -> str:
    return f"{PREFIX}{partition.key_id}#{partition.day}#{partition.shard}"


def _log_partition(pk: str) -> LogPartition:
    key_id, day, shard = pk.removeprefix(_LOG_PREFIX).rsplit("#", 2)
    return LogPartition(key_id, day, int(shard))


def _padded(sequence: str) -> str:
    return sequence.zfill(_DIGITS)
