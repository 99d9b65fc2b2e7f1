"""What administrators did: one record for each change, stored in the same transaction as the change."""

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from sluice.domain.ids import new_id


class AdminVerb(StrEnum):
    """What was done."""

    KEY_CREATED = "key.created"
    KEY_UPDATED = "key.updated"
    KEY_ROTATED = "key.rotated"
    KEY_REVOKED = "key.revoked"
    QUEUE_REDRIVEN = "queue.redriven"


class AdminAction(msgspec.Struct, frozen=True, kw_only=True):
    """One change. ``actor`` is the ARN of whoever signed the request; ``subject`` the key's id or the queue's name.

    ``at`` is epoch seconds. ``changes`` holds what was changed, by field, as text; never a secret.
    """

    id: str
    verb: AdminVerb
    actor: str
    subject: str
    at: float
    request_id: str
    changes: Mapping[str, str] = {}

    @property
    def status(self) -> str:
        """What the change left its subject as: created, updated, rotated, revoked or redriven."""
        return self.verb.value.partition(".")[2]


class Administrator(msgspec.Struct, frozen=True, kw_only=True):
    """Whoever signed a request (an ARN), and that request."""

    actor: str
    request_id: str

    def did(self, verb: AdminVerb, subject: str, *, at: float, changes: Mapping[str, str] | None = None) -> AdminAction:
        """The record of something this request did."""
        return AdminAction(
            id=new_id("act"),
            verb=verb,
            actor=self.actor,
            subject=subject,
            at=at,
            request_id=self.request_id,
            changes=changes or {},
        )
