"""Cached answers in the table, each under the key whose request it answered."""

import secrets
from typing import Final

import msgspec

from sluice.adapters.dynamodb import Table, to_struct
from sluice.adapters.packed import Bodies
from sluice.domain.caching import CachedAnswer

PREFIX: Final = "CACHE#"
SORT_KEY: Final = "V1"
# What a body may have in the item itself. Four units of reading or writing cost less than a call of S3, and no wait.
MOST_INLINE: Final = 4096


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    """An item without its body."""

    target: str
    stored_at: int
    expires_at: int


class DynamoDBAnswers:
    """Implements :class:`~sluice.domain.ports.AnswerStore`."""

    def __init__(self, table: Table, bodies: Bodies) -> None:
        self._table = table
        self._bodies = bodies

    def get(self, key_id: str, fingerprint: str, *, now: float) -> CachedAnswer | None:
        item = self._table.get(_partition(key_id, fingerprint), SORT_KEY)
        if item is None:
            return None
        record = to_struct(item, _Record)
        # DynamoDB deletes what has expired within a few days.
        if record.expires_at <= now:
            return None
        body = self._bodies.unpacked(item)
        if body is None:
            return None
        return CachedAnswer(result=body, target=record.target, stored_at=record.stored_at, expires_at=record.expires_at)

    def put(self, key_id: str, fingerprint: str, answer: CachedAnswer) -> None:
        # A name of its own, or a reader could be given a later answer under an earlier one's age.
        name = f"{key_id}/cache/{fingerprint}/{secrets.token_urlsafe(12)}"
        self._table.put(
            {
                "pk": _partition(key_id, fingerprint),
                "sk": SORT_KEY,
                "target": answer.target,
                "stored_at": answer.stored_at,
                "expires_at": answer.expires_at,
                **self._bodies.packed(answer.result, room=MOST_INLINE, key=name),
            }
        )


def _partition(key_id: str, fingerprint: str) -> str:
    return f"{PREFIX}{key_id}#{fingerprint}"
