"""Messages of the async queue: each points to a job, which is run."""

import os
from functools import cache
from typing import Any

import msgspec

from functions.async_worker.settings import AsyncWorkerSettings
from sluice.domain.deadline import Deadline
from sluice.domain.jobs import JobPointer
from sluice.runtime import durable
from sluice.runtime.events import event_function
from sluice.runtime.settings import load
from sluice.runtime.snapstart import before_snapshot
from sluice.services.run_job import RunJob
from sluice.telemetry import logs
from sluice.wire.records import deliveries, keep

_decode = msgspec.json.Decoder(JobPointer).decode


@before_snapshot
@cache
def service() -> RunJob:
    """Built once per container."""
    settings = load(AsyncWorkerSettings, os.environ)
    return durable.run_job(
        settings,
        bucket_name=settings.bucket_name,
        queue_url=settings.queue_url,
        max_receive_count=settings.max_receive_count,
        retry_base_s=settings.retry_base_seconds,
    )


@event_function
def handler(event: dict[str, Any], deadline: Deadline) -> dict[str, Any]:
    """Run the jobs of a batch; what is not finished stays in the queue."""
    batch = deliveries(event, _decode)
    kept = service().run(batch, deadline)
    logs.canonical(records=len(batch), kept=len(kept))
    return keep(kept)
