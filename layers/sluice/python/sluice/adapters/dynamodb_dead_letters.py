"""Why messages ended in dead-letter queues: one item for each message, listed by queue and time.

An item stands under its message's id, so that a reason that is recorded again replaces the one before; the index orders
them by time.
"""

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from sluice.adapters.dynamodb import ABSENT, PRESENT, ConditionFailedError, Item, Table, to_struct, to_values
from sluice.domain.redrive import DeadLetterReason

INDEX: Final = "gsi1"
PREFIX: Final = "DLQ#"
# As long as SQS keeps a message at most.
KEPT_S: Final = 14 * 86_400


class DynamoDBDeadLetterReasons:
    """A :class:`~sluice.domain.ports.DeadLetterReasons`. A list follows the changes with a short delay."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def record(self, reason: DeadLetterReason, *, replace: bool = True) -> None:
        try:
            self._table.put(_to_item(reason), condition=None if replace else ABSENT)
        except ConditionFailedError:
            # What was recorded first is known better.
            return

    def of_queue(self, queue: str, *, limit: int) -> Sequence[DeadLetterReason]:
        found = self._table.iterate_index(INDEX, f"{PREFIX}{queue}", after=None, page_size=limit, newest_first=True)
        return [to_struct(item, DeadLetterReason) for item in itertools.islice(found, limit)]

    def forget(self, queue: str, message_id: str) -> None:
        try:
            self._table.delete(f"{PREFIX}{queue}", message_id, condition=PRESENT)
        except ConditionFailedError:
            # There is none: what a redrive found may have been lost by its worker before it could say why.
            return


def _to_item(reason: DeadLetterReason) -> Item:
    moment = datetime.fromtimestamp(reason.at, UTC)
    partition = f"{PREFIX}{reason.queue}"
    return {
        "pk": partition,
        "sk": reason.message_id,
        "gsi1pk": partition,
        "gsi1sk": f"{moment:%Y-%m-%dT%H:%M:%SZ}#{reason.message_id}",
        **to_values(reason),
        "expires_at": reason.at + KEPT_S,
    }
