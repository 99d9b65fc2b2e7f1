"""Routes in memory."""

from decimal import Decimal

from sluice.domain.errors import SluiceError
from sluice.domain.inference import Operation
from sluice.domain.pricing import Price
from sluice.domain.routing import Alias, AliasTarget, RouteTable, Target

PRICE = Price(version="2026-01", input_per_mtok=Decimal("0.035"), output_per_mtok=Decimal("0.14"))
BOTH = (Operation.CHAT, Operation.EMBED)


def target(name: str, *, price: Price | None = PRICE, operations: tuple[Operation, ...] = BOTH) -> Target:
    """A Bedrock target for both operations."""
    return Target(
        name=name,
        provider="bedrock",
        model=f"model-of-{name}",
        operations=operations,
        created=1_700_000_000,
        price=price,
    )


def alias(name: str, *targets: str, operation: Operation = Operation.CHAT) -> Alias:
    """An alias for ``targets``, in this order."""
    return Alias(name=name, operation=operation, targets=tuple(AliasTarget(target=each) for each in targets))


class FakeRoutes:
    """Implements :class:`~sluice.domain.ports.RouteSource`. ``failing`` is raised by every call while it is set."""

    def __init__(self, *entries: Target | Alias) -> None:
        self.entries = list(entries)
        self.failing: SluiceError | None = None

    def load(self) -> RouteTable:
        if self.failing is not None:
            raise self.failing
        return RouteTable(
            targets={entry.name: entry for entry in self.entries if isinstance(entry, Target)},
            aliases={entry.name: entry for entry in self.entries if isinstance(entry, Alias)},
        )
