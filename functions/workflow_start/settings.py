"""What workflow_start is told by its environment."""

from sluice.runtime.settings import Days, ReplaySettings, Text


class WorkflowStartSettings(ReplaySettings, frozen=True, kw_only=True):
    """``result_ttl_days``: how long an execution and its answers are kept."""

    state_machine_arn: Text
    result_ttl_days: Days
