"""API keys, for administrators: create, look at, change, rotate and revoke. Every change is stored with its record."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

import msgspec

from sluice.domain.audit import Administrator, AdminVerb
from sluice.domain.errors import ConflictError, InvalidRequestError, NotFoundError, StateConflictError
from sluice.domain.ids import is_id, new_id
from sluice.domain.keys import (
    MOST_SECRETS,
    SHOWN_CHARACTERS,
    ApiKey,
    KeySettings,
    KeyStatus,
    RetiringSecret,
    hash_secret,
    new_secret,
    whole,
)
from sluice.domain.ledger import REQUESTS_PER_SHARD_AND_MINUTE, shards_for
from sluice.domain.ports import KeyStore

ATTEMPTS: Final = 5
PAUSE_S: Final = 0.1
_NONE: Final = "none"


@dataclass(frozen=True)
class ManageKeys:
    """Changes keys, all secrets of one at once.

    A change is written only over what was read, so that none of two that race is lost, and no secret that a rotation
    adds can slip past a revocation.
    """

    keys: KeyStore
    now: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep

    def create(self, settings: KeySettings, by: Administrator) -> tuple[ApiKey, str]:
        """A new key and its secret, which is known only here and now.

        :raises InvalidRequestError: it would be expired already.
        """
        now = self.now()
        _check_expiry(settings.expires_at, now)
        limits = msgspec.structs.replace(settings.limits, shards=shards_for(settings.limits))
        secret = new_secret()
        key = ApiKey(
            id=new_id("key"),
            key_hash=hash_secret(secret),
            name=settings.name,
            prefix=secret[:SHOWN_CHARACTERS],
            created_at=int(now),
            scopes=settings.scopes,
            allowed_models=settings.allowed_models,
            expires_at=settings.expires_at,
            limits=limits,
            version=1,
        )
        changes = {"prefix": key.prefix, **{name: text for name, text in _told(key).items() if text != _NONE}}
        self.keys.create(key, by.did(AdminVerb.KEY_CREATED, key.id, at=now, changes=changes))
        return key, secret

    def page(self, *, limit: int, after: str | None) -> tuple[Sequence[ApiKey], str | None]:
        """Up to ``limit`` keys behind the id ``after``, in order of their ids; and the ``after`` of the next page."""
        return self.keys.page(limit=limit, after=after)

    def get(self, key_id: str) -> ApiKey:
        """The key with its current secret.

        :raises NotFoundError: no such key.
        """
        return self._found(key_id)[0]

    def update(self, key_id: str, change: Callable[[KeySettings], KeySettings], by: Administrator) -> ApiKey:
        """Change what was decided about a key. Its ledger stays split as it was when it was created.

        :raises InvalidRequestError: it would be expired already, or allowed more than its ledger can take.
        :raises ConflictError: it is revoked.
        :raises NotFoundError: no such key.
        """

        def updated(secrets: Sequence[ApiKey], now: float) -> Sequence[ApiKey]:
            current = secrets[0]
            _check_not_revoked(current, now)
            settings = change(current.settings)
            if settings.expires_at != current.expires_at:
                _check_expiry(settings.expires_at, now)
            _check_capacity(settings, current)
            return [_with(key, settings) for key in secrets]

        def changes(before: ApiKey, after: ApiKey) -> Mapping[str, str]:
            old, new = _told(before), _told(after)
            return {name: text for name, text in new.items() if text != old[name]}

        return self._change(key_id, AdminVerb.KEY_UPDATED, by, updated, changes)

    def rotate(self, key_id: str, by: Administrator, *, overlap_s: int) -> tuple[ApiKey, str]:
        """A new secret for the same key; those that it has work for ``overlap_s`` seconds more at most.

        Authorizers believe their memory for up to a minute: an overlap that is shorter may last as long as that.

        :raises ConflictError: the key is revoked or expired, or has too many secrets that still work.
        :raises NotFoundError: no such key.
        """
        secret = new_secret()

        def rotated(secrets: Sequence[ApiKey], now: float) -> Sequence[ApiKey]:
            current = secrets[0]
            _check_not_revoked(current, now)
            if current.status_at(now) is KeyStatus.EXPIRED:
                raise ConflictError("This key is expired: give it a later 'expires_at' first.", code="key_expired")
            ends_at = int(now) + overlap_s
            retired = [
                msgspec.structs.replace(key, retires_at=min(key.retires_at or ends_at, ends_at)) for key in secrets
            ]
            renewed = msgspec.structs.replace(
                current, key_hash=hash_secret(secret), prefix=secret[:SHOWN_CHARACTERS], retires_at=None
            )
            return [renewed, *retired]

        def changes(_before: ApiKey, after: ApiKey) -> Mapping[str, str]:
            return {"prefix": after.prefix, "overlap_seconds": str(overlap_s)}

        return self._change(key_id, AdminVerb.KEY_ROTATED, by, rotated, changes), secret

    def revoke(self, key_id: str, by: Administrator) -> ApiKey:
        """Revoke a key with all its secrets, for good; authorizers believe their memory for up to a minute longer.

        One that is revoked stays as it is.

        :raises NotFoundError: no such key.
        """

        def revoked(secrets: Sequence[ApiKey], now: float) -> Sequence[ApiKey]:
            return [msgspec.structs.replace(key, revoked_at=key.revoked_at or int(now)) for key in secrets]

        return self._change(key_id, AdminVerb.KEY_REVOKED, by, revoked, lambda _before, _after: {}, insist=True)

    def _change(
        self,
        key_id: str,
        verb: AdminVerb,
        by: Administrator,
        change: Callable[[Sequence[ApiKey], float], Sequence[ApiKey]],
        changes: Callable[[ApiKey, ApiKey], Mapping[str, str]],
        *,
        insist: bool = False,
    ) -> ApiKey:
        """Store what ``change`` makes of the key's live secrets (the current one first, a new one before it).

        With ``insist`` it is in the end stored with what there is of them, even if some should be missing for good.
        """
        for attempt in range(ATTEMPTS):
            if attempt:
                self.sleep(PAUSE_S * 2**attempt)
            now, found = self.now(), self._found(key_id)
            before = whole(found, now=now)
            if before is None and insist and attempt == ATTEMPTS - 1:
                before = found
            if before is None:
                continue
            after = change(before, now)
            if list(after) == list(before):
                return before[0]
            after = _as_one(after, now)
            action = by.did(verb, key_id, at=now, changes=changes(before[0], after[0]))
            added = after[0] if len(after) > len(before) else None
            try:
                self.keys.replace(after[1:] if added else after, action, added=added)
            except StateConflictError:
                continue
            return after[0]
        raise StateConflictError("The key is being changed by somebody else. Try again.")

    def _found(self, key_id: str) -> tuple[ApiKey, ...]:
        # What cannot be an id need not be looked up.
        found = self.keys.by_id(key_id) if is_id("key", key_id) else ()
        if not found:
            raise NotFoundError("There is no key with this id.", param="id")
        return found


def _as_one(secrets: Sequence[ApiKey], now: float) -> list[ApiKey]:
    """The secrets with what they share: which of them retire, and the version after this change."""
    retiring = tuple(
        RetiringSecret(key_hash=key.key_hash, prefix=key.prefix, retires_at=key.retires_at)
        for key in secrets
        if key.retires_at is not None and key.retires_at > now
    )
    if len(retiring) >= MOST_SECRETS:
        raise ConflictError(
            f"This key has {len(retiring)} secrets that still work. Wait until one retires, or rotate without overlap.",
            code="too_many_secrets",
        )
    version = max(key.version for key in secrets) + 1
    return [msgspec.structs.replace(key, retiring=retiring, version=version) for key in secrets]


def _with(key: ApiKey, settings: KeySettings) -> ApiKey:
    return msgspec.structs.replace(
        key,
        name=settings.name,
        scopes=settings.scopes,
        allowed_models=settings.allowed_models,
        limits=settings.limits,
        expires_at=settings.expires_at,
    )


def _told(key: ApiKey) -> dict[str, str]:
    """What was decided about a key, as text, by field."""
    limits = key.limits
    return {
        "name": key.name,
        "scopes": ",".join(key.scopes) or _NONE,
        "allowed_models": _NONE if key.allowed_models is None else ",".join(key.allowed_models),
        "rpm": _text(limits.rpm),
        "tpm": _text(limits.tpm),
        "monthly_budget_micro_usd": _text(limits.monthly_budget_micro_usd),
        "total_budget_micro_usd": _text(limits.total_budget_micro_usd),
        "expires_at": _text(key.expires_at),
    }


def _text(value: int | Decimal | None) -> str:
    return _NONE if value is None else f"{value:f}" if isinstance(value, Decimal) else str(value)


def _check_expiry(expires_at: int | None, now: float) -> None:
    if expires_at is not None and expires_at <= now:
        raise InvalidRequestError("'expires_at' must be in the future, in seconds since 1970.", param="expires_at")


def _check_not_revoked(key: ApiKey, now: float) -> None:
    if key.status_at(now) is KeyStatus.REVOKED:
        raise ConflictError("This key is revoked, which is for good: create a new one.", code="key_revoked")


def _check_capacity(settings: KeySettings, key: ApiKey) -> None:
    most = REQUESTS_PER_SHARD_AND_MINUTE * key.limits.shards
    rpm = settings.limits.rpm
    if rpm is not None and rpm > most and rpm != key.limits.rpm:
        raise InvalidRequestError(
            f"'rpm' of this key can be {most} at most: its ledger was split for that when it was created, and cannot be"
            " split again. Create a new key.",
            param="rpm",
        )
