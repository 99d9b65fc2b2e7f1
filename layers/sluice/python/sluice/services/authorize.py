"""Who is asking: from the headers of a request to the key they prove."""

import re
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final

from sluice.domain.errors import AuthenticationError
from sluice.domain.keys import KEY_PREFIX, ApiKey, KeyStatus, hash_secret
from sluice.domain.ports import KeyStore

REMEMBERED_KEYS: Final = 1_000
_BEARER: Final = re.compile(r"Bearer +(\S+) *", re.IGNORECASE)
# What cannot be a key is refused without a read: 32 bytes in URL-safe base64 are 43 characters.
_SHAPE: Final = re.compile(re.escape(KEY_PREFIX) + r"[A-Za-z0-9_-]{43}")


class _Memory:
    """What was read of the last few keys, each for a limited time."""

    def __init__(self, *, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._entries: OrderedDict[str, tuple[float, ApiKey | None]] = OrderedDict()

    def recall(self, key_hash: str) -> tuple[bool, ApiKey | None]:
        """Whether anything fresh is known, and what."""
        until, key = self._entries.get(key_hash, (0.0, None))
        return self._clock() < until, key

    def keep(self, key_hash: str, key: ApiKey | None) -> None:
        """Remember, at the price of forgetting the oldest."""
        self._entries[key_hash] = (self._clock() + self._seconds, key)
        self._entries.move_to_end(key_hash)
        if len(self._entries) > REMEMBERED_KEYS:
            self._entries.popitem(last=False)


class Authorize:
    """Checks API keys. What the store says of a key, also that there is none, is believed for ``cache_seconds``.

    So a revoked key opens doors for at most that long, and hammering with one wrong key costs one read.
    """

    def __init__(
        self,
        keys: KeyStore,
        *,
        cache_seconds: float,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keys = keys
        self._now = now
        # Kept apart, so that a flood of invented keys cannot push the real ones out.
        self._known = _Memory(seconds=cache_seconds, clock=clock)
        self._unknown = _Memory(seconds=cache_seconds, clock=clock)

    def authorize(self, headers: Mapping[str, str]) -> ApiKey:
        """The usable key that ``headers`` (names in lower case) carry, as a bearer token or in ``x-api-key``.

        :raises AuthenticationError: there is none; ``code`` is always the same, ``message`` says why for the log.
        :raises StateError: the key cannot be looked up.
        """
        key = self._look_up(hash_secret(_presented(headers)))
        if key is None:
            raise AuthenticationError("The key is unknown.")
        # Not remembered but checked each time: a key expires at its own hour, not when the memory does.
        now = self._now()
        if not key.usable_at(now):
            status = key.status_at(now)
            why = "rotated, and this secret has retired" if status is KeyStatus.ACTIVE else status.value
            raise AuthenticationError(f"The key {key.id} is {why}.")
        return key

    def _look_up(self, key_hash: str) -> ApiKey | None:
        for memory in (self._known, self._unknown):
            fresh, key = memory.recall(key_hash)
            if fresh:
                return key
        key = self._keys.get(key_hash)
        (self._unknown if key is None else self._known).keep(key_hash, key)
        return key


def _presented(headers: Mapping[str, str]) -> str:
    authorization = headers.get("authorization")
    if authorization is None:
        secret = headers.get("x-api-key", "").strip()
    else:
        # A header that is there but malformed is a mistake worth telling, not a reason to look elsewhere.
        bearer = _BEARER.fullmatch(authorization.strip())
        secret = bearer.group(1) if bearer else ""
    if not _SHAPE.fullmatch(secret):
        raise AuthenticationError("No well-formed key was sent.")
    return secret
