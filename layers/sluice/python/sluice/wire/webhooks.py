"""Webhooks as they are sent (Standard Webhooks, with OpenAI's payloads), and their secrets over HTTP.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import hashlib
import hmac
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from sluice.domain.webhooks import (
    DEFAULT_OVERLAP_S,
    WebhookEvent,
    WebhookMessage,
    WebhookSecret,
    WebhookSecrets,
    secret_bytes,
)

USER_AGENT: Final = "Sluice-Webhooks/1"
LONGEST_OVERLAP_S: Final = 7 * 86_400
# Events are named after who announces them; to a caller there is but one who does.
_OURS: Final = "sluice."


class WebhookData(msgspec.Struct, frozen=True, kw_only=True):
    """What it is about: the id of a batch or an asynchronous request, of which the API tells the rest."""

    id: str


class WebhookBody(msgspec.Struct, frozen=True, kw_only=True):
    """The payload, as OpenAI's. ``type`` is ``batch.completed``, ``async.failed`` …, ``created_at`` epoch seconds."""

    id: str
    object: Literal["event"] = "event"
    created_at: int
    type: str
    data: WebhookData


def signed(event: WebhookEvent, secrets: Sequence[WebhookSecret], *, now: float) -> WebhookMessage:
    """The message that tells of ``event``, sent at ``now`` (epoch seconds), with a signature by each of ``secrets``.

    Its id is the event's, so that whoever gets it twice can tell.
    """
    body = msgspec.json.encode(
        WebhookBody(
            id=event.id,
            created_at=int(datetime.fromisoformat(event.time).timestamp()),
            type=event.type.removeprefix(_OURS),
            data=WebhookData(id=event.resource_id),
        )
    )
    timestamp = str(int(now))
    content = b".".join((event.id.encode(), timestamp.encode(), body))
    return WebhookMessage(
        body=body,
        headers={
            "content-type": "application/json",
            "user-agent": USER_AGENT,
            "webhook-id": event.id,
            "webhook-timestamp": timestamp,
            "webhook-signature": " ".join(_signature(secret, content) for secret in secrets),
        },
    )


def _signature(secret: WebhookSecret, content: bytes) -> str:
    digest = hmac.new(secret_bytes(secret.secret), content, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


class WebhookSecretRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of ``POST /webhooks/secret``, which may be left out.

    ``overlap_seconds`` is how long the secrets that there are go on signing beside the new one, at most.
    """

    overlap_seconds: Annotated[int, Meta(ge=0, le=LONGEST_OVERLAP_S)] = DEFAULT_OVERLAP_S


class RetiringWebhookSecret(msgspec.Struct, frozen=True, kw_only=True):
    """A secret that was replaced and signs along until ``retires_at``."""

    prefix: str
    retires_at: int


class WebhookSecretObject(msgspec.Struct, frozen=True, kw_only=True):
    """A key's secret, without the secret: ``prefix`` is how it begins. Times are epoch seconds."""

    object: Literal["webhook_secret"] = "webhook_secret"
    prefix: str
    created_at: int
    retiring: tuple[RetiringWebhookSecret, ...]

    @classmethod
    def of(cls, secrets: WebhookSecrets) -> "WebhookSecretObject":
        """What may be shown of ``secrets``."""
        return cls(
            prefix=secrets.current.prefix, created_at=secrets.current.created_at, retiring=_retiring(secrets.secrets)
        )


class WebhookSecretMade(WebhookSecretObject, frozen=True, kw_only=True):
    """The answer to making one: the only time that ``secret`` is ever shown."""

    secret: str

    @classmethod
    def showing(cls, secrets: WebhookSecrets) -> "WebhookSecretMade":
        """``secrets`` with the current one in full."""
        shown = WebhookSecretObject.of(secrets)
        return cls(
            secret=secrets.current.secret,
            prefix=shown.prefix,
            created_at=shown.created_at,
            retiring=shown.retiring,
        )


class WebhookSecretDeleted(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to deleting it."""

    object: Literal["webhook_secret"] = "webhook_secret"
    deleted: Literal[True] = True


def _retiring(secrets: Sequence[WebhookSecret]) -> tuple[RetiringWebhookSecret, ...]:
    return tuple(
        RetiringWebhookSecret(prefix=secret.prefix, retires_at=secret.retires_at)
        for secret in secrets
        if secret.retires_at is not None
    )
