"""Webhook secrets in the table: one item for each key.

They stand there as they are, since signing takes the secret itself; the table is encrypted with the deployment's own
key, and nobody but the functions that make them and sign with them may read the item.
"""

from contextlib import suppress
from typing import Any, Final

from sluice.adapters.dynamodb import ABSENT, PRESENT, ConditionFailedError, Table, to_struct, to_values
from sluice.domain.webhooks import WebhookSecrets

PREFIX: Final = "WEBHOOK#"
SORT_KEY: Final = "SECRET"


class DynamoDBWebhookSecrets:
    """Implements :class:`~sluice.domain.ports.WebhookSecretStore`."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def get(self, key_id: str) -> WebhookSecrets | None:
        item = self._table.get(_partition(key_id), SORT_KEY, consistent=True)
        return to_struct(item, WebhookSecrets) if item else None

    def put(self, secrets: WebhookSecrets) -> None:
        is_first = secrets.version == 1
        try:
            self._table.put(
                {"pk": _partition(secrets.key_id), "sk": SORT_KEY, **to_values(secrets)},
                condition=ABSENT if is_first else "version = :before",
                values=None if is_first else {":before": secrets.version - 1},
            )
        except ConditionFailedError as exc:
            if not _is_stored(secrets, exc.item):
                raise

    def delete(self, key_id: str) -> None:
        with suppress(ConditionFailedError):
            self._table.delete(_partition(key_id), SORT_KEY, condition=PRESENT)


def _is_stored(secrets: WebhookSecrets, item: dict[str, Any] | None) -> bool:
    """Whether our own write got there before: botocore repeats a call whose answer was lost."""
    return item is not None and to_struct(item, WebhookSecrets) == secrets


def _partition(key_id: str) -> str:
    return f"{PREFIX}{key_id}"
