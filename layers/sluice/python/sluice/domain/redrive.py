"""Messages that nobody could work off, on their way back to the queue that they fell out of."""

from collections.abc import Mapping
from typing import Any

import msgspec


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A message of a dead-letter queue. ``sent_ms`` is when it was last sent, in milliseconds since 1970.

    ``message_id`` is the one that it had in its own queue; ``handle`` is good for this receipt only. ``attributes`` are
    whatever else the queue has to be told to send it again as it was.
    """

    message_id: str
    handle: str
    body: str
    sent_ms: int
    attributes: Mapping[str, Any] = {}


class DeadLetterReason(msgspec.Struct, frozen=True, kw_only=True):
    """Why a message could not be worked off. ``subject`` is what it pointed to (a job, ``batch_…/3``), if it said so.

    ``at`` is epoch seconds; ``receives`` is how often it was tried. ``message`` quotes nothing that a caller wrote.
    """

    queue: str
    message_id: str
    subject: str | None = None
    code: str
    message: str
    at: int
    receives: int


class Redriven(msgspec.Struct, frozen=True, kw_only=True):
    """What a redrive did. ``done`` says that nothing is left to move that was sent before ``before_ms``."""

    queue: str
    moved: int
    done: bool
    before_ms: int


class QueueDepth(msgspec.Struct, frozen=True, kw_only=True):
    """About how many messages a queue has: ready, being worked on, and waiting for their time; and how many are dead.

    The queue counts them by and by, so that none of these is exact while messages come and go.
    """

    queue: str
    waiting: int
    in_flight: int
    delayed: int
    dead: int
