"""Messages as a queue hands them out: each points to some work, and comes again until it is acknowledged."""

from enum import StrEnum
from typing import Any, Generic, Protocol, TypeVar, cast

import msgspec


class QueueName(StrEnum):
    """What operators call the queues. Each has a dead-letter queue."""

    ASYNC = "async"
    BATCHES = "batches"
    CHUNKS = "chunks"
    ASSEMBLY = "assembly"
    WEBHOOKS = "webhooks"


class Pointer(Protocol):
    """What travels through a queue: never the work itself, only where it is to be found.

    A message that is put off for long is replaced by a new one, of which the queue counts the receives from the start.
    ``receives`` is how many there were before that were attempts, since the work last got on.
    """

    @property
    def receives(self) -> int:
        """Receives of the messages before this one that were attempts, since the work last got on."""
        ...

    @property
    def subject(self) -> str:
        """The id of what it points to."""
        ...


P = TypeVar("P", bound=Pointer)
P_contra = TypeVar("P_contra", bound=Pointer, contravariant=True)


class Delivery(msgspec.Struct, Generic[P], frozen=True, kw_only=True):
    """One message as the queue handed it out.

    ``receive_count`` is how often the queue handed this message out, this time included.
    """

    message_id: str
    receipt_handle: str
    receive_count: int
    pointer: P

    @property
    def tries(self) -> int:
        """How many receives were or are attempts: those of this message, and those that its pointer counts."""
        return self.receive_count + self.pointer.receives

    def waited(self, *, got_on: bool = False) -> P:
        """The pointer for the message that comes in place of this one, if this receive was no attempt.

        ``got_on``: it has recorded some of the work, so the attempts that failed before have not kept it from getting
        on, and count no more. A ``waits`` that the pointer may have is one more.
        """
        changes = {"receives": 0 if got_on else self.tries - 1}
        waits = getattr(self.pointer, "waits", None)
        if waits is not None:
            changes["waits"] = waits + 1
        # Every pointer is a struct, which its protocol cannot say.
        waited: P = msgspec.structs.replace(cast("Any", self.pointer), **changes)
        return waited


class Unreadable(msgspec.Struct, frozen=True, kw_only=True):
    """A message whose body is no pointer of the kind that its queue is for. Fields as of :class:`Delivery`."""

    message_id: str
    receipt_handle: str
    receive_count: int

    @property
    def tries(self) -> int:
        """How often it was handed out."""
        return self.receive_count
