"""Messages of the assembly queue: each points to a batch, which is watched over or put together at its end."""

import os
from functools import cache
from typing import Any

import msgspec

from functions.batch_assembler.settings import BatchAssemblerSettings
from sluice.domain.batches import BatchPointer
from sluice.domain.deadline import Deadline
from sluice.runtime import batch_pipeline
from sluice.runtime.events import event_function
from sluice.runtime.settings import load
from sluice.runtime.snapstart import before_snapshot
from sluice.services.assemble_batch import AssembleBatch
from sluice.telemetry import logs
from sluice.wire.records import deliveries, keep

_decode = msgspec.json.Decoder(BatchPointer).decode


@before_snapshot
@cache
def service() -> AssembleBatch:
    """Built once per container."""
    settings = load(BatchAssemblerSettings, os.environ)
    return batch_pipeline.assemble_batch(
        settings,
        bucket_name=settings.bucket_name,
        queue_url=settings.queue_url,
        batches_queue_url=settings.batches_queue_url,
        chunks_queue_url=settings.chunks_queue_url,
        file_ttl_days=settings.file_ttl_days,
        watch_s=settings.watch_seconds,
        lease_s=settings.lease_seconds,
        max_receive_count=settings.max_receive_count,
        retry_base_s=settings.retry_base_seconds,
    )


@event_function
def handler(event: dict[str, Any], deadline: Deadline) -> dict[str, Any]:
    """Look after the batches that the messages point to; what is not finished stays in the queue."""
    messages = deliveries(event, _decode)
    kept = service().run(messages, deadline)
    logs.canonical(records=len(messages), kept=len(kept))
    return keep(kept)
