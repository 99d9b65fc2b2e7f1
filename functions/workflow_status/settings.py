"""What workflow_status is told by its environment."""

from sluice.runtime.settings import TableSettings, Text


class WorkflowStatusSettings(TableSettings, frozen=True, kw_only=True):
    """See :class:`TableSettings`."""

    bucket_name: Text
    state_machine_arn: Text
