"""What admin_keys is told by its environment."""

from sluice.runtime.settings import TableSettings


class AdminKeysSettings(TableSettings, frozen=True, kw_only=True):
    """See :class:`TableSettings`."""
