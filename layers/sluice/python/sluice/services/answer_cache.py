"""The cache of answers: exact, of one key's own, and never in the way of a request.

An answer is looked up for the target that would be asked first now, and stored under the one that gave it. So a change
of routes is a change of answers, and what a fallback answered is not taken for the first target's word.

Whatever fails here is logged and counted as ``CacheFailed``, and the request goes on as if there were no cache.
"""

import time
from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from sluice.domain.caching import CachedAnswer, Caching, caching_of, fingerprint_of, worth_keeping
from sluice.domain.errors import SluiceError
from sluice.domain.inference import Operation
from sluice.domain.ports import AnswerStore
from sluice.domain.routing import Target
from sluice.telemetry import logs, metrics

__all__ = ["AnswerCache", "Found", "caching_of"]

Result = TypeVar("Result")
_log = logs.get_logger()


class Found(msgspec.Struct, Generic[Result], frozen=True, kw_only=True):
    """An answer from the cache, ``age_s`` seconds old, and the name of the target that gave it."""

    result: Result
    age_s: int
    target_name: str


class AnswerCache:
    """Finds answers and keeps them, for the key that asked and no other."""

    def __init__(self, store: AnswerStore, *, now: Callable[[], float] = time.time) -> None:
        self._store = store
        self._now = now

    def find(
        self,
        caching: Caching,
        key_id: str,
        operation: Operation,
        request: msgspec.Struct,
        target: Target,
        kind: type[Result],
    ) -> Found[Result] | None:
        """The answer that ``target`` gave before, if there is one, not older than the request wants it. Never raises.

        ``kind`` is the type of the answer.
        """
        if not caching.read:
            return None
        now = self._now()
        try:
            answer = self._store.get(key_id, fingerprint_of(operation, request, target), now=now)
            if answer is None:
                return None
            # Stored before a clock that lags behind: an age is never negative.
            age_s = max(0, int(now - answer.stored_at))
            if age_s >= caching.ttl_s:
                return None
            result = msgspec.json.decode(answer.result, type=kind)
        except (SluiceError, msgspec.MsgspecError) as error:
            _failed("find", error)
            return None
        return Found(result=result, age_s=age_s, target_name=answer.target)

    def keep(
        self,
        caching: Caching,
        key_id: str,
        operation: Operation,
        request: msgspec.Struct,
        target: Target,
        result: msgspec.Struct,
    ) -> None:
        """Store what ``target`` answered, if it is whole. Never raises.

        Not for an answer that was given less room than the request asked for, as one that a key's limits cut short:
        the next time there may be more.
        """
        if not worth_keeping(result):
            return
        stored_at = int(self._now())
        try:
            answer = CachedAnswer(
                result=msgspec.json.encode(result),
                target=target.name,
                stored_at=stored_at,
                expires_at=stored_at + caching.ttl_s,
            )
            self._store.put(key_id, fingerprint_of(operation, request, target), answer)
        except SluiceError as error:
            _failed("keep", error)


def _failed(step: str, error: Exception) -> None:
    _log.error("cache_failed", step=step, **logs.describe(error))
    metrics.emit(CacheFailed=1)
