"""API keys, by hash; an index lists them by id."""

from collections.abc import Sequence
from typing import Any, Final

from sluice.adapters import dynamodb_audit
from sluice.adapters.dynamodb import ABSENT, ConditionFailedError, Item, Put, Table, to_struct, to_values
from sluice.domain.audit import AdminAction
from sluice.domain.errors import NotFoundError
from sluice.domain.keys import ApiKey, newest_first

INDEX: Final = "gsi1"
OWNER: Final = "KEYS"
PREFIX: Final = "KEY#"
SORT_KEY: Final = "META"
# How long a revoked key can still be looked up by people who wonder what it was.
KEPT_AFTER_REVOCATION_S: Final = 90 * 86_400
# How long the log can still say that a secret has been replaced, rather than that it is unknown.
KEPT_AFTER_RETIREMENT_S: Final = 7 * 86_400
# Every change counts one up, so whoever has a lower number to replace has read the latest.
_UNCHANGED: Final = "attribute_exists(pk) AND (attribute_not_exists(version) OR version < :version)"


class DynamoDBKeys:
    """A :class:`~sluice.domain.ports.KeyStore`.

    A key's own expiry is stored as ``expires_at_s``: the table's TTL attribute is ``expires_at``, and an expired key
    is kept; only a revoked one, and a secret that was replaced, is deleted in the end.
    """

    def __init__(self, table: Table) -> None:
        self._table = table

    def get(self, key_hash: str) -> ApiKey | None:
        # Whoever asks remembers the answer: were it of before a revocation, the key would be open for longer than that.
        item = self._table.get(f"{PREFIX}{key_hash}", SORT_KEY, consistent=True)
        return _from_item(item) if item else None

    def by_id(self, key_id: str) -> tuple[ApiKey, ...]:
        return newest_first([_from_item(item) for item in self._table.query_index(INDEX, OWNER, key_id)])

    def page(self, *, limit: int, after: str | None) -> tuple[tuple[ApiKey, ...], str | None]:
        found: list[ApiKey] = []
        for item in self._table.iterate_index(INDEX, OWNER, after=after, page_size=limit + 1):
            key = _from_item(item)
            if key.retires_at is not None:
                # Its current secret stands for the key.
                continue
            if len(found) == limit:
                return tuple(found), found[-1].id
            found.append(key)
        return tuple(found), None

    def create(self, key: ApiKey, action: AdminAction) -> None:
        self._table.transact(Put(_to_item(key), ABSENT), Put(dynamodb_audit.to_item(action)))

    def replace(self, keys: Sequence[ApiKey], action: AdminAction, *, added: ApiKey | None = None) -> None:
        writes = [Put(_to_item(key), _UNCHANGED, {":version": key.version}) for key in keys]
        if added is not None:
            writes.append(Put(_to_item(added), ABSENT))
        try:
            self._table.transact(*writes, Put(dynamodb_audit.to_item(action)))
        except ConditionFailedError as exc:
            if exc.item is None:
                raise NotFoundError("There is no key with this id.", param="id") from exc
            raise


def _to_item(key: ApiKey) -> Item:
    values = to_values(key)
    return {
        "pk": f"{PREFIX}{values.pop('key_hash')}",
        "sk": SORT_KEY,
        "gsi1pk": OWNER,
        "gsi1sk": key.id,
        "expires_at_s": values.pop("expires_at"),
        "expires_at": _gone_at(key),
        **values,
    }


def _gone_at(key: ApiKey) -> int | None:
    """When the table may forget the item."""
    if key.revoked_at is not None:
        return key.revoked_at + KEPT_AFTER_REVOCATION_S
    return None if key.retires_at is None else key.retires_at + KEPT_AFTER_RETIREMENT_S


def _from_item(item: dict[str, Any]) -> ApiKey:
    key_hash = str(item["pk"]).removeprefix(PREFIX)
    return to_struct({**item, "key_hash": key_hash, "expires_at": item.get("expires_at_s")}, ApiKey)
