"""What administrators see of queues: how full they are, and why messages are dead."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from sluice.domain.ports import DeadLetterReasons, QueueDepths
from sluice.domain.redrive import DeadLetterReason, QueueDepth


class DeadLetterReport(msgspec.Struct, frozen=True, kw_only=True):
    """A queue and the newest reasons for its dead letters; ``more`` says that there are older ones."""

    depth: QueueDepth
    reasons: Sequence[DeadLetterReason]
    more: bool


@dataclass(frozen=True)
class InspectQueues:
    """Looks, and changes nothing."""

    depths: QueueDepths
    reasons: DeadLetterReasons

    def all(self) -> Sequence[QueueDepth]:
        """Every queue. :raises StateError: a queue does not answer."""
        return [self.depths.of_queue(name) for name in self.depths.names()]

    def dead_letters(self, name: str, *, limit: int) -> DeadLetterReport:
        """The newest ``limit`` reasons of a queue.

        A worker that is killed on every receive never says why, so there can be fewer reasons than dead letters.

        :raises NotFoundError: there is no such queue.
        :raises StateError: the queue or the table does not answer.
        """
        depth = self.depths.of_queue(name)
        found = self.reasons.of_queue(name, limit=limit + 1)
        return DeadLetterReport(depth=depth, reasons=found[:limit], more=len(found) > limit)
