"""Work off the chunks queue, one chunk after the other."""

from collections.abc import Sequence
from dataclasses import dataclass

from sluice.domain.batches import ChunkPointer
from sluice.domain.deadline import Deadline
from sluice.domain.deliveries import Delivery, Unreadable
from sluice.services.consume import Consumer, Outcome
from sluice.services.run_chunk import RunChunk


@dataclass(frozen=True)
class RunChunks:
    """Every delivery of every chunk's message ends in the right state, however often it comes."""

    consumer: Consumer[ChunkPointer]
    run_chunk: RunChunk

    def run(self, deliveries: Sequence[Delivery[ChunkPointer] | Unreadable], deadline: Deadline) -> list[str]:
        """The ids of the messages that the queue must keep: to deliver them again, or to move them to its DLQ."""

        def work(delivery: Delivery[ChunkPointer], _: bool) -> Outcome[ChunkPointer]:  # noqa: FBT001 - as Consumer calls
            return self.run_chunk.work(delivery, deadline)

        return self.consumer.run(deliveries, work, deadline, give_up=self.run_chunk.give_up)
