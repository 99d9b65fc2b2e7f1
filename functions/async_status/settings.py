"""What async_status is told by its environment."""

from sluice.runtime.settings import ReplaySettings


class AsyncStatusSettings(ReplaySettings, frozen=True, kw_only=True):
    """See :class:`ReplaySettings`."""
