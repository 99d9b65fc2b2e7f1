"""API keys, by hash; an index finds them by id."""

from typing import Any, Final

from sluice.adapters.dynamodb import ABSENT, Table, to_struct, to_values
from sluice.domain.errors import NotFoundError
from sluice.domain.keys import ApiKey

INDEX: Final = "gsi1"
OWNER: Final = "KEYS"
SORT_KEY: Final = "META"
# How long a revoked key can still be looked up by people who wonder what it was.
KEPT_AFTER_REVOCATION_S: Final = 90 * 86_400


class DynamoDBKeys:
    """A :class:`~sluice.domain.ports.KeyStore`.

    A key's own expiry is stored as ``expires_at_s``: the table's TTL attribute is ``expires_at``, and an expired key
    is kept, only a revoked one is deleted in the end.
    """

    def __init__(self, table: Table) -> None:
        self._table = table

    def get(self, key_hash: str) -> ApiKey | None:
        """The key with this hash, or ``None``."""
        item = self._table.get(_partition(key_hash), SORT_KEY)
        return _from_item(item) if item else None

    def create(self, key: ApiKey) -> None:
        """Store a new key."""
        values = to_values(key)
        item = {
            "pk": _partition(values.pop("key_hash")),
            "sk": SORT_KEY,
            "gsi1pk": OWNER,
            "gsi1sk": key.id,
            "expires_at_s": values.pop("expires_at"),
            **values,
        }
        self._table.put(item, condition=ABSENT)

    def revoke(self, key_id: str, *, now: int) -> ApiKey:
        """Mark a key as revoked; the first time counts."""
        found = self._table.query_index(INDEX, OWNER, key_id)
        if not found:
            raise NotFoundError("There is no key with this id.", param="id")
        item = self._table.update(
            found[0]["pk"],
            SORT_KEY,
            "SET revoked_at = if_not_exists(revoked_at, :now), expires_at = if_not_exists(expires_at, :gone)",
            values={":now": now, ":gone": now + KEPT_AFTER_REVOCATION_S},
        )
        return _from_item(item)


def _partition(key_hash: str) -> str:
    return f"KEY#{key_hash}"


def _from_item(item: dict[str, Any]) -> ApiKey:
    key_hash = item["pk"].removeprefix("KEY#")
    return to_struct({**item, "key_hash": key_hash, "expires_at": item.get("expires_at_s")}, ApiKey)
