"""Cached answers in memory."""

import threading

from sluice.domain.caching import CachedAnswer
from sluice.domain.errors import SluiceError


class FakeAnswers:
    """Implements :class:`~sluice.domain.ports.AnswerStore`. ``failing`` is raised by every call while it is set."""

    def __init__(self) -> None:
        self.stored: dict[tuple[str, str], CachedAnswer] = {}
        self.failing: SluiceError | None = None
        self._lock = threading.Lock()

    def get(self, key_id: str, fingerprint: str, *, now: float) -> CachedAnswer | None:
        self._fail()
        with self._lock:
            answer = self.stored.get((key_id, fingerprint))
        return None if answer is None or answer.expires_at <= now else answer

    def put(self, key_id: str, fingerprint: str, answer: CachedAnswer) -> None:
        self._fail()
        with self._lock:
            self.stored[key_id, fingerprint] = answer

    def _fail(self) -> None:
        if self.failing is not None:
            raise self.failing
