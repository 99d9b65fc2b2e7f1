"""What batch_worker is told by its environment."""

from typing import Annotated

from msgspec import Meta

from sluice.runtime.settings import InferenceSettings, Text


class BatchWorkerSettings(InferenceSettings, frozen=True, kw_only=True):
    """``queue_url`` is the chunks queue's, ``assembly_queue_url`` that of drained batches.

    ``line_concurrency``: lines at once in a chunk. ``provider_concurrency``: chunks at once per provider, of all
    batches together, and at most per target, which throttles lower. ``line_tries``: attempts at a chunk that may leave
    a line which failed by itself; the last of them gives it an error. Nobody else takes a chunk for ``lease_seconds``
    after its worker was last heard of. ``max_receive_count``: receives that are attempts. ``retry_base_seconds``: the
    first step of the backoff.
    """

    queue_url: Text
    assembly_queue_url: Text
    line_concurrency: Annotated[int, Meta(ge=1, le=256)] = 16
    provider_concurrency: Annotated[int, Meta(ge=1, le=1000)] = 6
    line_tries: Annotated[int, Meta(ge=1, le=100)] = 5
    # Less than the time in which a worker looks about itself twice could not be kept.
    lease_seconds: Annotated[float, Meta(ge=5, le=900)] = 60.0
    max_receive_count: Annotated[int, Meta(ge=1, le=1000)]
    retry_base_seconds: Annotated[float, Meta(gt=0, le=900)]
