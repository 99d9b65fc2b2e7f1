"""Add up what was used, from the table's own stream: every entry of the request log counts exactly once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sluice.domain.ports import UsageStore
from sluice.domain.usage import LogPartition, UsageChange
from sluice.telemetry import logs, metrics

_log = logs.get_logger()


@dataclass(frozen=True)
class RollUpUsage:
    """Adds up the changes of a batch. ``read`` is what a stream record says of the request log, if anything."""

    read: Callable[[Mapping[str, Any]], UsageChange | None]
    usage: UsageStore

    def add(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Count what the records tell.

        :raises StateError: some of it could not be stored; the whole batch may come again.
        """
        batches: dict[LogPartition, list[UsageChange]] = {}
        for record in records:
            change = self._change(record)
            if change is not None:
                batches.setdefault(change.partition, []).append(change)
        for partition, changes in batches.items():
            self.usage.record(partition, changes)
        logs.canonical(records=len(records), partitions=len(batches))

    def _change(self, record: Mapping[str, Any]) -> UsageChange | None:
        try:
            return self.read(record)
        except ValueError as exc:
            # No repeat can mend it, and it must not hold up every later entry of its shard.
            sequence = record.get("dynamodb", {}).get("SequenceNumber")
            _log.error("usage.unreadable_record", sequence=sequence, **logs.describe(exc))
            metrics.emit(UnreadableRecords=1)
            return None
