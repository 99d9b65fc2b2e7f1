"""API keys: 256 random bits, stored only as a SHA-256 hash.

A key has full entropy, so a plain hash is enough: there is nothing to guess that a slow hash would slow down.
"""

import hashlib
import secrets

import msgspec

KEY_PREFIX = "sk-sluice-"
SHOWN_CHARACTERS = len(KEY_PREFIX) + 4


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """What is stored of a key. Times are epoch seconds; ``expires_at`` and ``revoked_at`` of ``None`` mean never."""

    id: str
    key_hash: str
    name: str
    prefix: str
    created_at: int
    scopes: tuple[str, ...] = ()
    allowed_models: tuple[str, ...] | None = None
    expires_at: int | None = None
    revoked_at: int | None = None

    def usable_at(self, now: float) -> bool:
        """Whether the key opens anything at ``now`` (epoch seconds)."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


def new_secret() -> str:
    """A new key as the caller will send it; shown once, never stored."""
    return KEY_PREFIX + secrets.token_urlsafe(32)


def hash_secret(secret: str) -> str:
    """The SHA-256 of a key in hexadecimal, which is all that is ever stored of it."""
    return hashlib.sha256(secret.encode()).hexdigest()
