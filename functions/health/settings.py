"""What health is told by its environment."""

from sluice.runtime.settings import TableSettings


class HealthSettings(TableSettings, frozen=True, kw_only=True):
    """See :class:`TableSettings`."""
