"""What admin_circuits is told by its environment."""

from sluice.runtime.settings import TableSettings


class AdminCircuitsSettings(TableSettings, frozen=True, kw_only=True):
    """See :class:`TableSettings`."""
