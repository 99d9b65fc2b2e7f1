"""Messages that nobody could work off, on their way back to the queue that they fell out of."""

from collections.abc import Mapping
from typing import Any

import msgspec


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A message of a dead-letter queue. ``sent_ms`` is when it was last sent, in milliseconds since 1970.

    ``handle`` is good for this receipt only. ``attributes`` are whatever else the queue has to be told to send it again
    as it was.
    """

    handle: str
    body: str
    sent_ms: int
    attributes: Mapping[str, Any] = {}


class Redriven(msgspec.Struct, frozen=True, kw_only=True):
    """What a redrive did. ``done`` says that nothing is left to move that was sent before ``before_ms``."""

    queue: str
    moved: int
    done: bool
    before_ms: int
