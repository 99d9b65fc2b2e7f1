"""What score is told by its environment."""

from sluice.runtime.settings import InferenceSettings


class ScoreSettings(InferenceSettings, frozen=True, kw_only=True):
    """See :class:`InferenceSettings`."""
