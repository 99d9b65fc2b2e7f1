"""API keys, for administrators: create and revoke."""

import time
from collections.abc import Callable, Sequence

from sluice.domain.errors import InvalidRequestError
from sluice.domain.ids import new_id
from sluice.domain.keys import SHOWN_CHARACTERS, ApiKey, hash_secret, new_secret
from sluice.domain.ports import KeyStore


class ManageKeys:
    """Creates and revokes keys."""

    def __init__(self, keys: KeyStore, now: Callable[[], float] = time.time) -> None:
        self._keys = keys
        self._now = now

    def create(
        self,
        *,
        name: str,
        scopes: Sequence[str] = (),
        allowed_models: Sequence[str] | None = None,
        expires_at: int | None = None,
    ) -> tuple[ApiKey, str]:
        """A new key and its secret, which is known only here and now. ``expires_at`` is epoch seconds.

        :raises InvalidRequestError: it would be expired already.
        """
        now = int(self._now())
        if expires_at is not None and expires_at <= now:
            raise InvalidRequestError("'expires_at' must be in the future, in seconds since 1970.", param="expires_at")
        secret = new_secret()
        key = ApiKey(
            id=new_id("key"),
            key_hash=hash_secret(secret),
            name=name,
            prefix=secret[:SHOWN_CHARACTERS],
            created_at=now,
            scopes=tuple(scopes),
            allowed_models=None if allowed_models is None else tuple(allowed_models),
            expires_at=expires_at,
        )
        self._keys.create(key)
        return key, secret

    def revoke(self, key_id: str) -> ApiKey:
        """Revoke a key for good; authorizers believe their memory for up to a minute longer.

        :raises NotFoundError: no such key.
        """
        return self._keys.revoke(key_id, now=int(self._now()))
