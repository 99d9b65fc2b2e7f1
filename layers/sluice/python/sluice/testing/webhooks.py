"""Webhooks in memory: the secrets of keys, and servers that take messages."""

import threading

from sluice.domain.errors import SluiceError, StateConflictError, WebhookError
from sluice.domain.webhooks import WebhookAnswer, WebhookMessage, WebhookSecrets


class FakeWebhookSecrets:
    """Implements :class:`~sluice.domain.ports.WebhookSecretStore`. ``failing`` is raised while it is set."""

    def __init__(self) -> None:
        self.stored: dict[str, WebhookSecrets] = {}
        self.failing: SluiceError | None = None
        self._lock = threading.Lock()

    def get(self, key_id: str) -> WebhookSecrets | None:
        self._fail()
        return self.stored.get(key_id)

    def put(self, secrets: WebhookSecrets) -> None:
        self._fail()
        with self._lock:
            before = self.stored.get(secrets.key_id)
            if before == secrets:
                return
            if (before.version if before else 0) != secrets.version - 1:
                raise StateConflictError("Somebody else has changed the secrets.")
            self.stored[secrets.key_id] = secrets

    def delete(self, key_id: str) -> None:
        self._fail()
        with self._lock:
            self.stored.pop(key_id, None)

    def _fail(self) -> None:
        if self.failing is not None:
            raise self.failing


class FakeWebhookSender:
    """Implements :class:`~sluice.domain.ports.WebhookSender`: keeps what was sent and answers with ``answers``.

    Each answer is used once, but for the last; an error among them is raised.
    """

    def __init__(self, *answers: WebhookAnswer | WebhookError) -> None:
        self.answers = list(answers) or [WebhookAnswer(status=204)]
        self.sent: list[tuple[str, WebhookMessage]] = []
        self._lock = threading.Lock()

    def post(self, url: str, message: WebhookMessage, *, timeout_s: float) -> WebhookAnswer:
        with self._lock:
            self.sent.append((url, message))
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, WebhookError):
            raise answer
        return answer
