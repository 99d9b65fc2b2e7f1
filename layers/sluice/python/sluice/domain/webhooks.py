"""Webhooks: a message to a caller's own server, signed, when something that the caller waits for has ended.

Messages are those of the Standard Webhooks (https://www.standardwebhooks.com), which OpenAI's clients verify too.

Secrets
-------
A key has a secret of its own to sign with. Unlike the key itself it has to be stored as it is, since both sides
calculate with it. The *current* secret has no end of its own; those before it sign along until they retire, so that a
server can be given the new one in between.
"""

import base64
import secrets
from collections.abc import Mapping
from typing import Annotated, Final

import msgspec

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - what every secret begins with, and no secret
# Standard Webhooks asks for 24 to 64.
SECRET_BYTES: Final = 32
SHOWN_CHARACTERS: Final = len(SECRET_PREFIX) + 4
DEFAULT_OVERLAP_S: Final = 86_400
# The current one and those that are about to retire.
MOST_SECRETS: Final = 5
GONE: Final = 410


class WebhookSecret(msgspec.Struct, frozen=True, kw_only=True):
    """What messages are signed with: ``whsec_`` and 32 random bytes in base64. Times are epoch seconds.

    ``retires_at`` of the current one is ``None``.
    """

    secret: str
    created_at: int
    retires_at: int | None = None

    @property
    def prefix(self) -> str:
        """As much of it as may be shown."""
        return self.secret[:SHOWN_CHARACTERS]


class WebhookSecrets(msgspec.Struct, frozen=True, kw_only=True):
    """The secrets of one key, the current one first. ``version`` counts the changes, from 1."""

    key_id: str
    version: int
    secrets: tuple[WebhookSecret, ...]

    @property
    def current(self) -> WebhookSecret:
        """The newest."""
        return self.secrets[0]

    def live_at(self, now: float) -> tuple[WebhookSecret, ...]:
        """Those that sign at ``now`` (epoch seconds), the current one first."""
        return tuple(secret for secret in self.secrets if secret.retires_at is None or now < secret.retires_at)


class WebhookEvent(msgspec.Struct, frozen=True, kw_only=True):
    """What a message is about: the fields of an event (:class:`~sluice.domain.events.EventV1`) that it takes."""

    id: str
    type: str
    time: str
    key_id: str
    resource_id: str


class WebhookPointer(msgspec.Struct, frozen=True, kw_only=True):
    """What travels to the sender: the event as the bus delivers it, of which the rest is left unread.

    ``receives`` is how many receives there were of the messages that this one replaces.
    """

    detail: WebhookEvent
    receives: Annotated[int, msgspec.Meta(ge=0)] = 0

    @property
    def subject(self) -> str:
        """The id of what the event is about."""
        return self.detail.resource_id


class WebhookMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One message as it is sent. Header names are lower case."""

    body: bytes
    headers: Mapping[str, str]


class WebhookAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What a server said to a message. ``retry_after_s`` is how long it wants to be left alone, if it says so."""

    status: int
    retry_after_s: float | None = None

    @property
    def is_taken(self) -> bool:
        """Whether it has the message."""
        return 200 <= self.status < 300


def new_webhook_secret() -> str:
    """A new secret, as the caller is shown it once."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def secret_bytes(secret: str) -> bytes:
    """The bytes that a secret stands for."""
    return base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
