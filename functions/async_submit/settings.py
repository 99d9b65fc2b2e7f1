"""What async_submit is told by its environment."""

from sluice.runtime.settings import Days, ReplaySettings, Text


class AsyncSubmitSettings(ReplaySettings, frozen=True, kw_only=True):
    """``result_ttl_days``: how long a request and its answer are kept at most.

    ``webhooks_allow_private``: whether plain HTTP and private addresses may be called back.
    """

    queue_url: Text
    result_ttl_days: Days
    webhooks_allow_private: bool = False
