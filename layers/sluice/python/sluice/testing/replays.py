"""Responses to requests with an Idempotency-Key in memory."""

import threading

from sluice.domain.errors import SluiceError
from sluice.domain.replay import ReplayClaim, StoredResponse, in_flight, mismatch


class FakeReplays:
    """Implements :class:`~sluice.domain.ports.ReplayStore`. ``failing`` maps a method's name to what it raises."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], tuple[ReplayClaim, StoredResponse | None]] = {}
        self.failing: dict[str, SluiceError] = {}
        self._lock = threading.Lock()

    def begin(self, claim: ReplayClaim, *, now: float) -> StoredResponse | None:
        self._fail("begin")
        with self._lock:
            held, response = self.records.get(_place(claim), (None, None))
            if held is None or _is_free(held, response, now):
                self.records[_place(claim)] = claim, None
                return None
        if held.fingerprint != claim.fingerprint:
            raise mismatch()
        if response is None:
            raise in_flight(held.until - now)
        return response

    def complete(self, claim: ReplayClaim, response: StoredResponse) -> None:
        self._fail("complete")
        with self._lock:
            if self._is_ours(claim):
                self.records[_place(claim)] = claim, response

    def release(self, claim: ReplayClaim) -> None:
        self._fail("release")
        with self._lock:
            if self._is_ours(claim):
                del self.records[_place(claim)]

    def _is_ours(self, claim: ReplayClaim) -> bool:
        held, _ = self.records.get(_place(claim), (None, None))
        return held is not None and held.claim_id == claim.claim_id

    def _fail(self, method: str) -> None:
        if error := self.failing.get(method):
            raise error


def _is_free(held: ReplayClaim, response: StoredResponse | None, now: float) -> bool:
    return held.expires_at <= now or (response is None and held.until <= now)


def _place(claim: ReplayClaim) -> tuple[str, str]:
    return claim.key_id, claim.name
