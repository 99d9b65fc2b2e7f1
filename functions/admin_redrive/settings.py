"""What admin_redrive is told by its environment."""

from sluice.runtime.settings import TableSettings, Text


class AdminRedriveSettings(TableSettings, frozen=True, kw_only=True):
    """See :class:`TableSettings`."""

    async_queue_url: Text
    async_dlq_url: Text
