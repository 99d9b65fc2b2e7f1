"""Who durable work is done for, by what is known of its key now and not when it was accepted."""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from sluice.domain.errors import AuthenticationError, StateError
from sluice.domain.inference import Caller
from sluice.domain.keys import ApiKey, caller_of
from sluice.domain.ports import KeyStore

REMEMBERED_KEYS: Final = 1_000
CACHE_S: Final = 60.0


class KeyHolders:
    """Finds the caller behind a key's id. A key that is good is believed to be so for ``cache_s`` seconds.

    So work that waits when its key is revoked is not done any more, from about a minute after that; and limits that are
    changed hold for the work that waits.

    Keys are looked up in an index that follows the table with a short delay: of a new key it may have nothing yet, of
    one that was just rotated only the secret that has retired. Work is accepted for keys that are there, and these are
    kept for months after they were revoked, so one that is not seen is a failure that passes. Work whose key is really
    gone uses up its attempts and ends as any other that cannot be done, in its dead-letter queue if it has one.
    """

    def __init__(
        self,
        keys: KeyStore,
        *,
        cache_s: float = CACHE_S,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keys = keys
        self._cache_s = cache_s
        self._now = now
        self._clock = clock
        self._known: OrderedDict[str, tuple[float, ApiKey]] = OrderedDict()

    def caller(self, key_id: str, request_id: str) -> Caller:
        """Who asks for the work ``request_id``.

        :raises AuthenticationError: the key is revoked or has expired.
        :raises StateError: nobody can tell now.
        """
        now = self._now()
        key = self._remembered(key_id, now)
        if key is None:
            key = self._looked_up(key_id, now)
            self._remember(key)
        return caller_of(key, request_id)

    def _looked_up(self, key_id: str, now: float) -> ApiKey:
        live = [secret for secret in self._keys.by_id(key_id) if not secret.is_retired_at(now)]
        if not live:
            raise StateError("The key that this was asked for with cannot be found.", code="key_unreadable")
        # Every change is made to all live secrets and counted: the highest count is the latest that is seen of it.
        key = max(live, key=lambda secret: secret.version)
        if not key.usable_at(now):
            raise AuthenticationError("The key that this was asked for with is not valid any more.")
        return key

    def _remembered(self, key_id: str, now: float) -> ApiKey | None:
        """What is still believed. That a key has expired is looked up: it may have got a later end meanwhile."""
        until, key = self._known.get(key_id, (0.0, None))
        return key if key is not None and self._clock() < until and key.usable_at(now) else None

    def _remember(self, key: ApiKey) -> None:
        self._known[key.id] = (self._clock() + self._cache_s, key)
        while len(self._known) > REMEMBERED_KEYS:
            self._known.popitem(last=False)
