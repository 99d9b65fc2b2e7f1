"""What usage is told by its environment."""

from sluice.runtime.settings import TableSettings


class UsageSettings(TableSettings, frozen=True, kw_only=True):
    """See :class:`TableSettings`."""
