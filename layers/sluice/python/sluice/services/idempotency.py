"""Requests with an Idempotency-Key: claimed before any work is done, and answered again from what was stored.

What it costs: one write to claim the key and one to keep the response or to give the claim back. A replay is one write
that is refused and tells why.

* The store fails at the claim: so does the request, before anything was done. It can be made again.
* It fails at the end: the answer that was paid for is given all the same. The claim runs out by itself; until then a
  repetition is told that the request is at work, and after that it is made again.
* The function is killed: as above.
"""

import math
import secrets
import time
from collections.abc import Callable
from typing import Final

from sluice.domain import replay
from sluice.domain.errors import SluiceError, StateError
from sluice.domain.ports import ReplayStore
from sluice.domain.replay import ReplayClaim, StoredResponse
from sluice.telemetry import logs, metrics

# A claim outlives the function that made it by this much, as no two clocks agree to the second.
CLAIM_MARGIN_S: Final = 5.0
_log = logs.get_logger()


class Idempotency:
    """Claims Idempotency-Keys. Responses are kept for ``ttl_s`` seconds."""

    def __init__(
        self,
        store: ReplayStore,
        *,
        ttl_s: int,
        now: Callable[[], float] = time.time,
        new_claim: Callable[[], str] = lambda: secrets.token_urlsafe(12),
    ) -> None:
        self._store = store
        self._ttl_s = ttl_s
        self._now = now
        self._new_claim = new_claim

    def claim(self, key_id: str, header: str, fingerprint: str, *, alive_s: float) -> ReplayClaim:
        """What a request has to claim. ``alive_s`` is how many seconds its function lives at the most.

        :raises InvalidRequestError: the header's value is no Idempotency-Key.
        """
        now = self._now()
        until = math.ceil(now + alive_s + CLAIM_MARGIN_S)
        return ReplayClaim(
            key_id=key_id,
            name=replay.name_of(replay.idempotency_key(header)),
            fingerprint=fingerprint,
            claim_id=self._new_claim(),
            until=until,
            # Whatever the deployment says: a claim must not be forgotten while it is at work.
            expires_at=max(until, int(now) + self._ttl_s),
        )

    def begin(self, claim: ReplayClaim) -> StoredResponse | None:
        """``None`` if the claim holds, and the work is to be done; else the response to be given again.

        :raises RequestInFlightError: another request with the key is at work.
        :raises IdempotencyMismatchError: the key belongs to another request.
        :raises StateError: nobody knows; nothing was done.
        """
        return self._store.begin(claim, now=self._now())

    def complete(self, claim: ReplayClaim, response: StoredResponse) -> None:
        """Keep the response for whoever repeats the request. Where the store is not there, that is only logged."""
        try:
            self._store.complete(claim, response)
        except StateError as error:
            _failed("complete", error)

    def release(self, claim: ReplayClaim) -> None:
        """Let the request be made again. Never raises: why there is no response to keep is what has to be told."""
        try:
            self._store.release(claim)
        except SluiceError as error:
            _failed("release", error)


def _failed(step: str, error: SluiceError) -> None:
    _log.error("idempotency_failed", step=step, **logs.describe(error))
    metrics.emit(IdempotencyFailed=1)
