"""Money that is set aside in the ledger: writes for the transactions of whoever it was set aside for.

Most holds belong to one request, which is over in seconds: they expire with their function. What is set aside belongs
to something that lasts for hours and that the table knows of. So it leaves its bucket, which is what expires, and stays
committed (:mod:`sluice.adapters.dynamodb_ledger_items`). From then on it moves only in transactions with what it was
set aside for, which says in the same write how much of it there still is.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from sluice.adapters import dynamodb_ledger_items as items
from sluice.adapters.dynamodb import Update
from sluice.adapters.dynamodb_counters import Change
from sluice.adapters.dynamodb_ledger import spend, update_of
from sluice.domain.admission import EXACT, Window
from sluice.domain.batches import Funds
from sluice.domain.ledger import Hold, Spent


def setting_aside(hold: Hold, item: Mapping[str, Any] | None, window: Window) -> Update:
    """Take a hold out of its bucket, if it is still in there: what has expired is nobody's.

    ``item`` is that of the hold's shard, as it was a moment ago: what is outdated in it goes with the same write, as
    nobody may ever settle a request of this key.
    """
    code = items.bucket_code(hold.month, hold.bucket)
    change = Change()
    change.add(f"h{code}", -hold.cost_micro_usd)
    change.add(f"k{code}", -1)
    change.above_zero(f"k{code}")
    change.remove(items.outdated(item or {}, window))
    return update_of(hold.key_id, hold.shard, change)


def settling(key_id: str, funds: Funds, spent: Spent, *, released: Decimal) -> list[Update]:
    """Spend, and give back what of ``released`` was not spent; no write where nothing changes."""
    change = Change()
    spend(change, funds.month, spent, committed=EXACT.subtract(spent.cost_micro_usd, released))
    return [update_of(key_id, funds.shard, change)] if change.expression else []
