"""What workflow_start is told by its environment."""

from sluice.runtime.settings import Days, TableSettings, Text


class WorkflowStartSettings(TableSettings, frozen=True, kw_only=True):
    """``result_ttl_days``: how long an execution and its answers are kept."""

    bucket_name: Text
    state_machine_arn: Text
    result_ttl_days: Days
