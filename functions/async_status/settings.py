"""What async_status is told by its environment."""

from sluice.runtime.settings import TableSettings, Text


class AsyncStatusSettings(TableSettings, frozen=True, kw_only=True):
    """See :class:`TableSettings`."""

    bucket_name: Text
