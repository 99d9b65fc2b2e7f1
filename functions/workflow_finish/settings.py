"""What workflow_finish is told by its environment."""

from sluice.runtime.settings import TableSettings


class WorkflowFinishSettings(TableSettings, frozen=True, kw_only=True):
    """See :class:`TableSettings`."""
