"""What batch_assembler is told by its environment."""

from typing import Annotated

from msgspec import Meta

from sluice.runtime.settings import TableSettings, Text


class BatchAssemblerSettings(TableSettings, frozen=True, kw_only=True):
    """``queue_url`` is the assembly queue's, the others those to which work is sent again that has stalled.

    ``file_ttl_days``: for how long the files of a batch are kept that does not say so. Every batch is looked after each
    ``watch_seconds``; nobody else takes one for ``lease_seconds`` after its assembler was last heard of.
    ``max_receive_count``: receives that are attempts. ``retry_base_seconds``: the first step of the backoff.
    """

    bucket_name: Text
    queue_url: Text
    batches_queue_url: Text
    chunks_queue_url: Text
    file_ttl_days: Annotated[int, Meta(ge=1, le=365)]
    watch_seconds: Annotated[int, Meta(ge=1, le=900)] = 60
    lease_seconds: Annotated[float, Meta(ge=1, le=900)] = 60.0
    max_receive_count: Annotated[int, Meta(ge=1, le=1000)]
    retry_base_seconds: Annotated[float, Meta(gt=0, le=900)]
