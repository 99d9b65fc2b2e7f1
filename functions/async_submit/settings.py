"""What async_submit is told by its environment."""

from sluice.runtime.settings import Days, TableSettings, Text


class AsyncSubmitSettings(TableSettings, frozen=True, kw_only=True):
    """``result_ttl_days``: how long a request and its answer are kept."""

    bucket_name: Text
    queue_url: Text
    result_ttl_days: Days
