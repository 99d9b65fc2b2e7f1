"""How fast batches go at each target, shared by all workers: one small item per target."""

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from sluice.adapters.dynamodb import ABSENT, ConditionFailedError, Table, to_struct, to_values
from sluice.domain.pace import Pace, PaceState

PREFIX: Final = "PACE#"
SORT_KEY: Final = "STATE"
# Of a target that no batch uses any more nothing remains.
TTL_S: Final = 86_400
# Milliseconds are enough, and every digit is paid for.
_PRECISION: Final = Decimal("0.001")


class DynamoDBPace:
    """Implements :class:`~sluice.domain.ports.PaceStore`.

    An item carries a random version, as those of the circuits do, so that one that was deleted meanwhile is never taken
    for another.
    """

    def __init__(
        self,
        table: Table,
        *,
        now: Callable[[], float] = time.time,
        new_version: Callable[[], str] = lambda: uuid.uuid4().hex,
    ) -> None:
        self._table = table
        self._now = now
        self._new_version = new_version

    def read(self, names: Sequence[str]) -> Mapping[str, PaceState]:
        items = self._table.get_many([(f"{PREFIX}{name}", SORT_KEY) for name in names], consistent=True)
        return {str(item["pk"]).removeprefix(PREFIX): _state(item) for item in items}

    def swap(self, name: str, pace: Pace, *, version: str | None) -> tuple[bool, PaceState]:
        values = {field: _exact(value) for field, value in to_values(pace).items()}
        item = {
            "pk": f"{PREFIX}{name}",
            "sk": SORT_KEY,
            **values,
            "version": self._new_version(),
            "expires_at": int(self._now()) + TTL_S,
        }
        condition, given = (ABSENT, None) if version is None else ("version = :version", {":version": version})
        try:
            self._table.put(item, condition=condition, values=given)
        except ConditionFailedError as conflict:
            if conflict.item is not None and conflict.item.get("version") == item["version"]:
                # Our own write got there before: botocore repeats a call whose answer was lost.
                return True, _state(item)
            return False, _state(conflict.item)
        return True, _state(item)


def _state(item: Mapping[str, Any] | None) -> PaceState:
    return PaceState(pace=to_struct(item, Pace), version=str(item["version"])) if item else PaceState()


def _exact(value: Any) -> Any:
    return Decimal(str(value)).quantize(_PRECISION) if isinstance(value, float) else value
