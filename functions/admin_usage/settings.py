"""What admin_usage is told by its environment."""

from sluice.runtime.settings import TableSettings


class AdminUsageSettings(TableSettings, frozen=True, kw_only=True):
    """See :class:`TableSettings`."""
