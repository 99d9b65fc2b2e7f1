"""API keys: 256 random bits, stored only as a SHA-256 hash.

A key has full entropy, so a plain hash is enough: there is nothing to guess that a slow hash would slow down.

Rotation
--------
A key keeps its id, its limits and its ledger for life, while its secrets come and go. The *current* secret has no end
of its own; those before it retire, each at its time. Every live secret is stored with all that is known of the key, so
that one read opens a door, and every change rewrites all of them at once.
"""

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Final

import msgspec

from sluice.domain.inference import Caller
from sluice.domain.ledger import NO_LIMITS, Limits

KEY_PREFIX: Final = "sk-sluice-"
SHOWN_CHARACTERS: Final = len(KEY_PREFIX) + 4
# The current one and those that are about to retire.
MOST_SECRETS: Final = 5


class Scope(StrEnum):
    """What a key may be good for. A key without scopes is good for everything."""

    INFERENCE = "inference"
    BATCH = "batch"
    WORKFLOW = "workflow"


class KeyStatus(StrEnum):
    """active: opens what it may. expired: may be given a later end. revoked: for good."""

    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"


class KeySettings(msgspec.Struct, frozen=True, kw_only=True):
    """What administrators decide about a key.

    No ``scopes`` means all of them, ``allowed_models`` of ``None`` every model, ``expires_at`` (epoch seconds) of
    ``None`` never.
    """

    name: str
    scopes: tuple[str, ...] = ()
    allowed_models: tuple[str, ...] | None = None
    limits: Limits = NO_LIMITS
    expires_at: int | None = None


class RetiringSecret(msgspec.Struct, frozen=True, kw_only=True):
    """A secret before the current one, good until ``retires_at`` (epoch seconds)."""

    key_hash: str
    prefix: str
    retires_at: int


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """What is stored of a key with one of its secrets. Times are epoch seconds; those that are ``None`` mean never.

    ``key_hash``, ``prefix`` and ``retires_at`` are of the secret: ``retires_at`` of the current one is ``None``. All
    else is of the key and the same with each of its secrets: ``retiring`` are those before the current one, as of the
    last change; ``version`` counts the changes, and is 0 for keys that were made before any were counted.
    """

    id: str
    key_hash: str
    name: str
    prefix: str
    created_at: int
    scopes: tuple[str, ...] = ()
    allowed_models: tuple[str, ...] | None = None
    expires_at: int | None = None
    revoked_at: int | None = None
    retires_at: int | None = None
    limits: Limits = NO_LIMITS
    retiring: tuple[RetiringSecret, ...] = ()
    version: int = 0

    @property
    def settings(self) -> KeySettings:
        """What was decided about the key."""
        return KeySettings(
            name=self.name,
            scopes=self.scopes,
            allowed_models=self.allowed_models,
            limits=self.limits,
            expires_at=self.expires_at,
        )

    def usable_at(self, now: float) -> bool:
        """Whether this secret opens anything at ``now`` (epoch seconds)."""
        return self.status_at(now) is KeyStatus.ACTIVE and not self.is_retired_at(now)

    def status_at(self, now: float) -> KeyStatus:
        """How the key, whatever becomes of its secrets, stands at ``now`` (epoch seconds)."""
        if self.revoked_at is not None:
            return KeyStatus.REVOKED
        if self.expires_at is not None and self.expires_at <= now:
            return KeyStatus.EXPIRED
        return KeyStatus.ACTIVE

    def is_retired_at(self, now: float) -> bool:
        """Whether another secret has taken the place of this one for good."""
        return self.retires_at is not None and self.retires_at <= now

    def retiring_at(self, now: float) -> tuple[RetiringSecret, ...]:
        """The secrets besides the current one that are still good at ``now`` (epoch seconds)."""
        return tuple(secret for secret in self.retiring if now < secret.retires_at)


def whole(found: Sequence[ApiKey], *, now: float) -> tuple[ApiKey, ...] | None:
    """The live secrets of one key out of those that were found of it, the current one first.

    ``None`` when they do not fit together: whoever looked them up saw only a part of the last change.
    """
    current = [key for key in found if key.retires_at is None]
    if len(current) != 1:
        return None
    by_hash: Mapping[str, ApiKey] = {key.key_hash: key for key in found}
    expected = [current[0].key_hash, *(secret.key_hash for secret in current[0].retiring_at(now))]
    live = tuple(by_hash[key_hash] for key_hash in expected if key_hash in by_hash)
    fits = len(live) == len(expected) and all(key.version == current[0].version for key in live)
    return live if fits else None


def newest_first(found: Sequence[ApiKey]) -> tuple[ApiKey, ...]:
    """Secrets of one key: the current one, then those before it, the one that retires last first."""
    return tuple(sorted(found, key=lambda key: (key.retires_at is not None, -(key.retires_at or 0))))


def caller_of(key: ApiKey, request_id: str) -> Caller:
    """Whoever holds the key, as the one who asks in this request."""
    return Caller(
        key_id=key.id,
        request_id=request_id,
        allowed_models=key.allowed_models,
        scopes=key.scopes,
        limits=key.limits,
    )


def new_secret() -> str:
    """A new key as the caller will send it; shown once, never stored."""
    return KEY_PREFIX + secrets.token_urlsafe(32)


def hash_secret(secret: str) -> str:
    """The SHA-256 of a key in hexadecimal, which is all that is ever stored of it."""
    return hashlib.sha256(secret.encode()).hexdigest()
