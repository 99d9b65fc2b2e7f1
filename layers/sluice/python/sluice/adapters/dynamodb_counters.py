"""Changes of an item whose attributes are numbers: additions, and conditions that take what is missing for zero."""

from collections.abc import Iterable
from decimal import Decimal

Number = int | Decimal


class Change:
    """One update of an item, built up step by step. Attribute names need no placeholders and are nobody's words."""

    def __init__(self) -> None:
        self.values: dict[str, Number] = {}
        self._adds: dict[str, str] = {}
        self._sets: dict[str, str] = {}
        self._removes: frozenset[str] = frozenset()
        self._conditions: list[str] = []

    @property
    def expression(self) -> str:
        """The update expression."""
        clauses = {
            "SET": [f"{name} = {value}" for name, value in self._sets.items()],
            "ADD": [f"{name} {value}" for name, value in self._adds.items()],
            "REMOVE": sorted(self._removes - self._adds.keys() - self._sets.keys()),
        }
        return " ".join(f"{word} {', '.join(parts)}" for word, parts in clauses.items() if parts)

    @property
    def condition(self) -> str | None:
        """The condition expression, if there are conditions."""
        return " AND ".join(self._conditions) or None

    def add(self, name: str, amount: Number) -> None:
        """Add to what is there; zero changes nothing, not even what is missing. At most once for each name."""
        if amount:
            self._adds[name] = self._value(amount)

    def put(self, name: str, value: Number) -> None:
        """Replace what is there."""
        self._sets[name] = self._value(value)

    def remove(self, names: Iterable[str]) -> None:
        """Take these away, but for those that are changed otherwise."""
        self._removes = self._removes.union(names)

    def at_most(self, name: str, value: Number) -> None:
        """Only if it is not above ``value``."""
        self._require(f"{name} <= {self._value(value)}", name, zero_holds=value >= 0)

    def exactly(self, name: str, value: Number) -> None:
        """Only if it is ``value``."""
        self._require(f"{name} = {self._value(value)}", name, zero_holds=value == 0)

    def above_zero(self, name: str) -> None:
        """Only if it is positive."""
        self._require(f"{name} > {self._value(0)}", name, zero_holds=False)

    def there(self, name: str) -> None:
        """Only if it is there at all."""
        self._conditions.append(f"attribute_exists({name})")

    def _require(self, comparison: str, name: str, *, zero_holds: bool) -> None:
        self._conditions.append(f"(attribute_not_exists({name}) OR {comparison})" if zero_holds else comparison)

    def _value(self, value: Number) -> str:
        name = f":v{len(self.values)}"
        self.values[name] = value
        return name
