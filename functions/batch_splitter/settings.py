"""What batch_splitter is told by its environment."""

from typing import Annotated

from msgspec import Meta

from sluice.runtime.settings import TableSettings, Text


class BatchSplitterSettings(TableSettings, frozen=True, kw_only=True):
    """``max_lines``, ``max_batch_bytes`` and ``max_line_bytes`` are the most that an input may have.

    A chunk has so many lines that a worker, at ``line_concurrency`` lines at once, will take about ``chunk_seconds``
    for them, and ``chunk_lines_max`` at most. Nobody else takes a batch for ``lease_seconds`` after its splitter was
    last heard of. ``max_receive_count``: receives that are attempts. ``retry_base_seconds``: the first step of the
    backoff.
    """

    bucket_name: Text
    queue_url: Text
    chunks_queue_url: Text
    max_lines: Annotated[int, Meta(ge=1, le=10_000_000)]
    max_batch_bytes: Annotated[int, Meta(ge=1)]
    max_line_bytes: Annotated[int, Meta(ge=1, le=33_554_432)]
    chunk_lines_max: Annotated[int, Meta(ge=1, le=100_000)]
    chunk_seconds: Annotated[float, Meta(gt=0, le=900)]
    line_concurrency: Annotated[int, Meta(ge=1, le=256)] = 16
    lease_seconds: Annotated[float, Meta(ge=1, le=900)] = 60.0
    max_output_tokens: Annotated[int, Meta(ge=1)] | None = None
    max_receive_count: Annotated[int, Meta(ge=1, le=1000)]
    retry_base_seconds: Annotated[float, Meta(gt=0, le=900)]
