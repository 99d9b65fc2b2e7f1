"""What workflow_ended is told by its environment."""

from sluice.runtime.settings import TableSettings


class WorkflowEndedSettings(TableSettings, frozen=True, kw_only=True):
    """See :class:`TableSettings`."""
