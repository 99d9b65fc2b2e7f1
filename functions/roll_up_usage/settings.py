"""What roll_up_usage is told by its environment."""

from sluice.runtime.settings import TableSettings


class RollUpUsageSettings(TableSettings, frozen=True, kw_only=True):
    """See :class:`TableSettings`."""
