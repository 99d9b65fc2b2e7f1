"""What webhook_sender is told by its environment."""

from typing import Annotated

from msgspec import Meta

from sluice.runtime.settings import TableSettings, Text


class WebhookSenderSettings(TableSettings, frozen=True, kw_only=True):
    """``max_receive_count``: receives that are attempts. ``retry_base_seconds``: the first step of the backoff.

    ``webhook_timeout_seconds`` is what one attempt may take. ``webhooks_allow_private``: whether plain HTTP and private
    addresses may be called.
    """

    queue_url: Text
    max_receive_count: Annotated[int, Meta(ge=1, le=1000)]
    retry_base_seconds: Annotated[float, Meta(gt=0, le=900)]
    webhook_timeout_seconds: Annotated[float, Meta(gt=0, le=60)]
    webhooks_allow_private: bool = False
