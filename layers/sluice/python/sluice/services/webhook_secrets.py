"""The secrets that webhooks are signed with, and whether a URL may be called back at all."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from sluice.domain.callback_urls import split_callback_url
from sluice.domain.errors import ConflictError, InvalidRequestError, NotFoundError, StateConflictError
from sluice.domain.inference import Caller
from sluice.domain.ports import WebhookSecretStore
from sluice.domain.webhooks import (
    DEFAULT_OVERLAP_S,
    MOST_SECRETS,
    WebhookSecret,
    WebhookSecrets,
    new_webhook_secret,
)

# Of those who rotate the same key's secret at the same moment each comes through, one after the other.
ATTEMPTS: Final = 5


@dataclass(frozen=True)
class ManageWebhookSecrets:
    """Makes, shows and deletes the secrets of the caller's own key."""

    store: WebhookSecretStore
    clock: Callable[[], float] = time.time

    def rotate(self, caller: Caller, *, overlap_s: int = DEFAULT_OVERLAP_S) -> WebhookSecrets:
        """The key's secrets with a new current one. Those before it sign along for ``overlap_s`` more, at most.

        :raises ConflictError: too many still sign along.
        """
        for _ in range(ATTEMPTS):
            rotated = self._rotated(caller.key_id, overlap_s)
            try:
                self.store.put(rotated)
            except StateConflictError:
                continue
            return rotated
        raise ConflictError("The secret is being changed by others at the same time. Try again.")

    def get(self, caller: Caller) -> WebhookSecrets:
        """The key's secrets, without those that have retired. :raises NotFoundError: it has none."""
        stored = self.store.get(caller.key_id)
        if stored is None:
            raise _no_secret()
        return msgspec.structs.replace(stored, secrets=stored.live_at(self.clock()))

    def delete(self, caller: Caller) -> None:
        """Forget all of them: nothing can be called back any more. :raises NotFoundError: there is none."""
        # Decided by what is read and not by what the deletion finds: one that is repeated finds nothing.
        if self.store.get(caller.key_id) is None:
            raise _no_secret()
        self.store.delete(caller.key_id)

    def _rotated(self, key_id: str, overlap_s: int) -> WebhookSecrets:
        now = int(self.clock())
        stored = self.store.get(key_id)
        made = WebhookSecret(secret=new_webhook_secret(), created_at=now)
        if stored is None:
            return WebhookSecrets(key_id=key_id, version=1, secrets=(made,))
        retiring = tuple(_retired(secret, now + overlap_s) for secret in stored.live_at(now)) if overlap_s else ()
        if len(retiring) >= MOST_SECRETS:
            raise ConflictError(
                f"This key has {len(retiring)} secrets that still sign. Wait until one retires, or rotate without"
                " overlap.",
                code="too_many_secrets",
            )
        return WebhookSecrets(key_id=key_id, version=stored.version + 1, secrets=(made, *retiring))


@dataclass(frozen=True)
class CallbackUrls:
    """Decides whether a request may name a URL to be called back."""

    secrets: WebhookSecretStore
    allow_private: bool

    def check(self, url: str, caller: Caller, *, param: str) -> None:
        """See that messages can be sent to ``url`` and signed; ``param`` is the field or header it came in.

        :raises InvalidRequestError: it is no URL that is ever called, or the key has no secret to sign with.
        """
        split_callback_url(url, allow_private=self.allow_private, param=param)
        if self.secrets.get(caller.key_id) is None:
            raise InvalidRequestError(
                "This key has no secret to sign webhooks with. Make one with POST /v1/webhooks/secret, and give it to"
                " the server that is to be called.",
                code="webhook_secret_missing",
                param=param,
            )


def _retired(secret: WebhookSecret, retires_at: int) -> WebhookSecret:
    earlier = retires_at if secret.retires_at is None else min(secret.retires_at, retires_at)
    return msgspec.structs.replace(secret, retires_at=earlier)


def _no_secret() -> NotFoundError:
    return NotFoundError("This key has no webhook secret. Make one with POST /v1/webhooks/secret.")
