"""What async_worker is told by its environment."""

from typing import Annotated

from msgspec import Meta

from sluice.runtime.settings import InferenceSettings, Text


class AsyncWorkerSettings(InferenceSettings, frozen=True, kw_only=True):
    """``max_receive_count``: receives that are attempts. ``retry_base_seconds``: the first step of the backoff."""

    queue_url: Text
    max_receive_count: Annotated[int, Meta(ge=1, le=1000)]
    retry_base_seconds: Annotated[float, Meta(gt=0, le=900)]
