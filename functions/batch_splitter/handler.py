"""Messages of the batches queue: each points to a batch, whose input is checked and put into chunks."""

import os
from functools import cache
from typing import Any

import msgspec

from functions.batch_splitter.settings import BatchSplitterSettings
from sluice.domain.batches import BatchPointer
from sluice.domain.chunk_plan import ChunkLimits
from sluice.domain.deadline import Deadline
from sluice.runtime import batch_pipeline
from sluice.runtime.events import event_function
from sluice.runtime.settings import load
from sluice.runtime.snapstart import before_snapshot
from sluice.services.plan_chunks import InputLimits
from sluice.services.split_batch import SplitBatch
from sluice.telemetry import logs
from sluice.wire.records import deliveries, keep

_decode = msgspec.json.Decoder(BatchPointer).decode


def _limits(settings: BatchSplitterSettings) -> InputLimits:
    return InputLimits(
        lines=settings.max_lines,
        total_bytes=settings.max_batch_bytes,
        line_bytes=settings.max_line_bytes,
        chunk=ChunkLimits(lines=settings.chunk_lines_max, seconds=settings.chunk_seconds),
        at_once=settings.line_concurrency,
    )


@before_snapshot
@cache
def service() -> SplitBatch:
    """Built once per container."""
    settings = load(BatchSplitterSettings, os.environ)
    return batch_pipeline.split_batch(
        settings,
        bucket_name=settings.bucket_name,
        queue_url=settings.queue_url,
        chunks_queue_url=settings.chunks_queue_url,
        limits=_limits(settings),
        most_output_tokens=settings.max_output_tokens,
        lease_s=settings.lease_seconds,
        max_receive_count=settings.max_receive_count,
        retry_base_s=settings.retry_base_seconds,
    )


@event_function
def handler(event: dict[str, Any], deadline: Deadline) -> dict[str, Any]:
    """Split the batches that the messages point to; what is not finished stays in the queue."""
    messages = deliveries(event, _decode)
    kept = service().run(messages, deadline)
    logs.canonical(records=len(messages), kept=len(kept))
    return keep(kept)
