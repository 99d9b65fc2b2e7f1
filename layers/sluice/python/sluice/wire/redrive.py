"""Queues, their dead letters, and the way back for them, over HTTP.

``before_ms`` is milliseconds since 1970, as the queue counts them; all other times are epoch seconds.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from sluice.domain.redrive import DeadLetterReason, QueueDepth, Redriven


class QueueRedriveRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of ``POST /admin/queues/{name}/redrive``, which may be left out.

    Only what was sent before ``before_ms`` is moved, by default before now. A request moves what it has time for; to
    go on, repeat it with the ``before_ms`` that it answered, so that what fails again meanwhile is left alone.
    """

    before_ms: Annotated[int, Meta(ge=0, le=253_402_300_799_999)] | None = None


class QueueRedriveObject(msgspec.Struct, frozen=True, kw_only=True):
    """The answer. ``done`` says that nothing is left to move."""

    object: Literal["queue.redrive"] = "queue.redrive"
    queue: str
    moved: int
    done: bool
    before_ms: int

    @classmethod
    def of(cls, redriven: Redriven) -> "QueueRedriveObject":
        """What was done."""
        return cls(queue=redriven.queue, moved=redriven.moved, done=redriven.done, before_ms=redriven.before_ms)


class QueueObject(msgspec.Struct, frozen=True, kw_only=True):
    """One queue, by about how many messages are ready, being worked on, waiting for their time, and dead."""

    object: Literal["queue"] = "queue"
    name: str
    waiting: int
    in_flight: int
    delayed: int
    dead_letters: int

    @classmethod
    def of(cls, depth: QueueDepth) -> "QueueObject":
        """How full it is."""
        return cls(
            name=depth.queue,
            waiting=depth.waiting,
            in_flight=depth.in_flight,
            delayed=depth.delayed,
            dead_letters=depth.dead,
        )


class QueueList(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to ``GET /admin/queues``."""

    object: Literal["list"] = "list"
    data: Sequence[QueueObject]


class DeadLetterObject(msgspec.Struct, frozen=True, kw_only=True):
    """Why one message is dead. ``subject`` is what it was about: an id, or ``<batch id>/<chunk>``.

    ``receives`` is how often it was tried, ``failed_at`` when it was given up.
    """

    object: Literal["dead_letter"] = "dead_letter"
    message_id: str
    subject: str | None
    code: str
    message: str
    receives: int
    failed_at: int

    @classmethod
    def of(cls, reason: DeadLetterReason) -> "DeadLetterObject":
        """The reason for an administrator."""
        return cls(
            message_id=reason.message_id,
            subject=reason.subject,
            code=reason.code,
            message=reason.message,
            receives=reason.receives,
            failed_at=reason.at,
        )


class DeadLetterList(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to ``GET /admin/queues/{name}/dead-letters``: the newest first.

    ``dead_letters`` is about how many there are, those without a reason included.
    """

    object: Literal["list"] = "list"
    queue: str
    dead_letters: int
    data: Sequence[DeadLetterObject]
    has_more: bool

    @classmethod
    def of(cls, depth: QueueDepth, reasons: Sequence[DeadLetterReason], *, more: bool) -> "DeadLetterList":
        """The reasons that are known of a queue's dead letters."""
        data = [DeadLetterObject.of(reason) for reason in reasons]
        return cls(queue=depth.queue, dead_letters=depth.dead, data=data, has_more=more)
