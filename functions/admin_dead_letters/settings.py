"""What admin_dead_letters is told by its environment."""

from sluice.runtime.settings import QueueSettings


class AdminDeadLettersSettings(QueueSettings, frozen=True, kw_only=True):
    """See :class:`QueueSettings`."""
