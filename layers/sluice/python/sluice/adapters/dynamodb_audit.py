"""Records of what administrators did: by day, so that one query tells who did what when."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from sluice.adapters.dynamodb import Item, Table, to_struct, to_values
from sluice.domain.audit import AdminAction

PREFIX: Final = "AUDIT#"
KEPT_S: Final = 400 * 86_400
# Milliseconds: DynamoDB has no floats, and clocks are no better.
_PRECISION: Final = Decimal("0.001")


class DynamoDBAudit:
    """An :class:`~sluice.domain.ports.AuditLog`, for actions that change nothing in the table."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def record(self, action: AdminAction) -> None:
        self._table.put(to_item(action))


def to_item(action: AdminAction) -> Item:
    """The item of an action."""
    moment = datetime.fromtimestamp(action.at, UTC)
    return {
        "pk": f"{PREFIX}{moment:%Y%m%d}",
        "sk": f"{moment.isoformat(timespec='milliseconds')}#{action.id}",
        **to_values(action),
        # As every item of the table that is announced has one.
        "status": action.status,
        "at": Decimal(action.at).quantize(_PRECISION),
        "expires_at": int(action.at) + KEPT_S,
    }


def from_item(item: Item) -> AdminAction:
    """The action of an item.

    :raises ConfigurationError: it is malformed.
    """
    return to_struct(item, AdminAction)
