"""What workflow_run_step is told by its environment."""

from sluice.runtime.settings import InferenceSettings


class WorkflowRunStepSettings(InferenceSettings, frozen=True, kw_only=True):
    """See :class:`InferenceSettings`."""
