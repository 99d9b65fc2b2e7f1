"""What workflow_run_step is told by its environment."""

from sluice.runtime.settings import InferenceSettings, Text


class WorkflowRunStepSettings(InferenceSettings, frozen=True, kw_only=True):
    """See :class:`InferenceSettings`."""

    bucket_name: Text
