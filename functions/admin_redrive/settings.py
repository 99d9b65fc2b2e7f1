"""What admin_redrive is told by its environment."""

from sluice.runtime.settings import QueueSettings


class AdminRedriveSettings(QueueSettings, frozen=True, kw_only=True):
    """See :class:`QueueSettings`."""
