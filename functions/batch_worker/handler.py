"""Messages of the chunks queue: each points to some lines of a batch, which are run."""

import os
from functools import cache
from typing import Any

import msgspec

from functions.batch_worker.settings import BatchWorkerSettings
from sluice.domain.batches import ChunkPointer
from sluice.domain.deadline import Deadline
from sluice.runtime import batch_pipeline
from sluice.runtime.events import event_function
from sluice.runtime.settings import load
from sluice.runtime.snapstart import before_snapshot
from sluice.services.run_chunks import RunChunks
from sluice.telemetry import logs
from sluice.wire.records import deliveries, keep

_decode = msgspec.json.Decoder(ChunkPointer).decode


@before_snapshot
@cache
def service() -> RunChunks:
    """Built once per container."""
    settings = load(BatchWorkerSettings, os.environ)
    return batch_pipeline.run_chunks(
        settings,
        queue_url=settings.queue_url,
        assembly_queue_url=settings.assembly_queue_url,
        line_concurrency=settings.line_concurrency,
        provider_concurrency=settings.provider_concurrency,
        line_tries=settings.line_tries,
        lease_s=settings.lease_seconds,
        max_receive_count=settings.max_receive_count,
        retry_base_s=settings.retry_base_seconds,
    )


@event_function
def handler(event: dict[str, Any], deadline: Deadline) -> dict[str, Any]:
    """Run the chunks that the messages point to; what is not finished stays in the queue."""
    messages = deliveries(event, _decode)
    kept = service().run(messages, deadline)
    logs.canonical(records=len(messages), kept=len(kept))
    return keep(kept)
