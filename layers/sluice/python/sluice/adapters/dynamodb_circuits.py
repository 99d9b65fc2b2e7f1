"""Circuits and latencies of targets, shared by all containers: two small items per target, read in one batch."""

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, TypeVar

from sluice.adapters.dynamodb import ABSENT, ConditionFailedError, Table, to_struct, to_values
from sluice.domain.resilience import CLEAN, UNMEASURED, Circuit, Health, TargetState

CIRCUIT: Final = "CIRCUIT"
HEALTH: Final = "HEALTH"
SORT_KEYS: Final = {CIRCUIT: "STATE", HEALTH: "EWMA"}
# Of a target that is gone nothing remains; of one that is used every change prolongs it.
TTL_S: Final = 86_400
# Milliseconds are enough, and every digit is paid for.
_PRECISION: Final = Decimal("0.001")

Part = TypeVar("Part", Circuit, Health)


class DynamoDBTargetStates:
    """A :class:`~sluice.domain.ports.TargetStates`.

    An item carries a random version. A counter would do as well until somebody deletes the item: from then on a
    container that still remembers the old one could take a new one for it.
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

    def read(self, names: Sequence[str]) -> Mapping[str, TargetState]:
        """One round trip for up to fifty targets."""
        keys = [(f"{kind}#{name}", sort_key) for name in names for kind, sort_key in SORT_KEYS.items()]
        items = {item["pk"]: item for item in self._table.get_many(keys)}
        return {
            name: _state(items.get(f"{CIRCUIT}#{name}"), items.get(f"{HEALTH}#{name}"))
            for name in names
            if f"{CIRCUIT}#{name}" in items or f"{HEALTH}#{name}" in items
        }

    def swap_circuit(self, name: str, circuit: Circuit, *, version: str | None) -> tuple[bool, TargetState]:
        swapped, item = self._swap(CIRCUIT, name, circuit, version)
        return swapped, _state(item, None)

    def swap_health(self, name: str, health: Health, *, version: str | None) -> tuple[bool, TargetState]:
        swapped, item = self._swap(HEALTH, name, health, version)
        return swapped, _state(None, item)

    def _swap(self, kind: str, name: str, part: Part, version: str | None) -> tuple[bool, Mapping[str, Any] | None]:
        values = {field: _exact(value) for field, value in to_values(part).items()}
        item = {
            "pk": f"{kind}#{name}",
            "sk": SORT_KEYS[kind],
            **values,
            "version": self._new_version(),
            "expires_at": int(self._now()) + TTL_S,
        }
        condition, given = (ABSENT, None) if version is None else ("version = :version", {":version": version})
        try:
            self._table.put(item, condition=condition, values=given)
        except ConditionFailedError as conflict:
            return False, conflict.item
        return True, item


def _state(circuit: Mapping[str, Any] | None, health: Mapping[str, Any] | None) -> TargetState:
    return TargetState(
        circuit=to_struct(circuit, Circuit) if circuit else CLEAN,
        circuit_version=str(circuit["version"]) if circuit else None,
        health=to_struct(health, Health) if health else UNMEASURED,
        health_version=str(health["version"]) if health else None,
    )


def _exact(value: Any) -> Any:
    return Decimal(str(value)).quantize(_PRECISION) if isinstance(value, float) else value
