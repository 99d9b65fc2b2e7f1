"""Who durable work is done for, by what is known of its key now and not when it was accepted."""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from sluice.domain.errors import AuthenticationError
from sluice.domain.inference import Caller
from sluice.domain.keys import ApiKey, caller_of
from sluice.domain.ports import KeyStore

REMEMBERED_KEYS: Final = 1_000
CACHE_S: Final = 60.0


class KeyHolders:
    """Finds the caller behind a key's id. What the store says is believed for ``cache_s`` seconds.

    So work that waits when its key is revoked is not done any more, from a minute after that at the latest; and limits
    that are changed hold for the work that waits.
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
        self._known: OrderedDict[str, tuple[float, tuple[ApiKey, ...]]] = OrderedDict()

    def caller(self, key_id: str, request_id: str) -> Caller:
        """Who asks for the work ``request_id``.

        :raises AuthenticationError: the key is revoked, has expired, or is not there.
        :raises StateError: nobody can tell.
        """
        now = self._now()
        key = next((secret for secret in self._secrets(key_id) if secret.usable_at(now)), None)
        if key is None:
            raise AuthenticationError("The key that this was asked for with is not valid any more.")
        return caller_of(key, request_id)

    def _secrets(self, key_id: str) -> tuple[ApiKey, ...]:
        until, secrets = self._known.get(key_id, (0.0, ()))
        if self._clock() < until:
            return secrets
        secrets = self._keys.by_id(key_id)
        self._known[key_id] = (self._clock() + self._cache_s, secrets)
        while len(self._known) > REMEMBERED_KEYS:
            self._known.popitem(last=False)
        return secrets
