"""Usage in memory."""

from collections.abc import Sequence
from datetime import date

from sluice.domain.usage import DayUsage, LogPartition, Tally, UsageChange


class FakeUsage:
    """Implements :class:`~sluice.domain.ports.UsageStore`."""

    def __init__(self) -> None:
        self._last: dict[LogPartition, int] = {}
        self._tallies: dict[tuple[str, date], dict[str, Tally]] = {}

    def record(self, partition: LogPartition, changes: Sequence[UsageChange]) -> None:
        for change in changes:
            if int(change.sequence) <= self._last.get(partition, -1):
                continue
            self._last[partition] = int(change.sequence)
            day = date.fromisoformat(partition.day)
            models = self._tallies.setdefault((partition.key_id, day), {})
            for model, tally in change.tallies():
                models[model] = models.get(model, Tally()) + tally

    def of_key(self, key_id: str, days: Sequence[date]) -> list[DayUsage]:
        return [usage for day in sorted(days) for usage in self.of_day(day) if usage.key_id == key_id]

    def of_day(self, day: date) -> list[DayUsage]:
        found = sorted((key_id, models) for (key_id, of), models in self._tallies.items() if of == day)
        return [DayUsage(key_id=key_id, day=day, models=models) for key_id, models in found]
