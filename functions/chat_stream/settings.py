"""What chat_stream is told by its environment."""

from typing import Annotated

from msgspec import Meta

from sluice.runtime.settings import InferenceSettings


class ChatStreamSettings(InferenceSettings, frozen=True, kw_only=True):
    """``key_cache_seconds`` is how long a revoked key may go on opening doors."""

    key_cache_seconds: Annotated[float, Meta(ge=0, le=60)] = 60
