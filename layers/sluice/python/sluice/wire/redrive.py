"""Dead letters going back to their queue, over HTTP. Times are milliseconds since 1970, as the queue counts them."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from sluice.domain.redrive import Redriven


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
