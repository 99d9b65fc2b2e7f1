"""Responses to requests with an Idempotency-Key in the table: one item each, claimed by one conditional write.

An item without a body is a claim; with one, a response. A response whose object is gone counts as a claim given back.
"""

from typing import Any, Final

import msgspec

from sluice.adapters.dynamodb import ConditionFailedError, Table, size_of, to_struct
from sluice.adapters.packed import HAS_NO_BODY, Bodies, has_body
from sluice.domain.replay import ReplayClaim, StoredResponse, in_flight, mismatch

PREFIX: Final = "IDEM#"
SORT_KEY: Final = "V1"
# So that claiming and keeping cost one write unit each.
MOST_BYTES: Final = 1024
# A second one after a response turned out to be gone; a third for whoever lost the race for it.
CLAIM_ATTEMPTS: Final = 3

# Our own claim may be there already: botocore repeats a call whose answer was lost.
_FREE: Final = (
    f"attribute_not_exists(pk) OR expires_at <= :now OR (lives_until <= :now AND {HAS_NO_BODY})"
    " OR claim_id IN (:mine, :gone)"
)
_OURS: Final = "claim_id = :mine"


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    """An item without its body. ``fingerprint`` is as bytes, which takes half the room."""

    fingerprint: bytes
    claim_id: str
    lives_until: int


class DynamoDBReplays:
    """Implements :class:`~sluice.domain.ports.ReplayStore`."""

    def __init__(self, table: Table, bodies: Bodies) -> None:
        self._table = table
        self._bodies = bodies

    def begin(self, claim: ReplayClaim, *, now: float) -> StoredResponse | None:
        gone = claim.claim_id
        for _ in range(CLAIM_ATTEMPTS):
            found = self._claim(claim, now, gone)
            if found is None:
                return None
            record = to_struct(found, _Record)
            if record.fingerprint.hex() != claim.fingerprint:
                raise mismatch()
            if not has_body(found):
                raise in_flight(record.lives_until - now)
            body = self._bodies.unpacked(found)
            if body is not None:
                return msgspec.msgpack.decode(body, type=StoredResponse)
            gone = record.claim_id
        raise in_flight(1.0)

    def _claim(self, claim: ReplayClaim, now: float, gone: str) -> dict[str, Any] | None:
        """``None`` once the claim holds, else the item that is in its way."""
        try:
            self._table.put(
                _item(claim),
                condition=_FREE,
                values={":now": int(now), ":mine": claim.claim_id, ":gone": gone},
            )
        except ConditionFailedError as exc:
            if exc.item is None:
                raise
            return exc.item
        return None

    def complete(self, claim: ReplayClaim, response: StoredResponse) -> None:
        # The headers with the body, since they are much the same from one response to the next and compress well.
        body = self._bodies.packed(
            msgspec.msgpack.encode(response),
            room=MOST_BYTES - size_of(_item(claim)),
            key=f"{claim.key_id}/replay/{claim.name}/{claim.claim_id}",
        )
        [(name, value)] = body.items()
        try:
            self._table.update(
                _partition(claim),
                SORT_KEY,
                f"SET {name} = :body",
                condition=_OURS,
                values=_mine(claim) | {":body": value},
            )
        except ConditionFailedError:
            return

    def release(self, claim: ReplayClaim) -> None:
        try:
            self._table.delete(_partition(claim), SORT_KEY, condition=_OURS, values=_mine(claim))
        except ConditionFailedError:
            return


def _item(claim: ReplayClaim) -> dict[str, object]:
    return {
        "pk": _partition(claim),
        "sk": SORT_KEY,
        "fingerprint": bytes.fromhex(claim.fingerprint),
        "claim_id": claim.claim_id,
        "lives_until": claim.until,
        "expires_at": claim.expires_at,
    }


def _mine(claim: ReplayClaim) -> dict[str, object]:
    return {":mine": claim.claim_id}


def _partition(claim: ReplayClaim) -> str:
    return f"{PREFIX}{claim.key_id}#{claim.name}"
