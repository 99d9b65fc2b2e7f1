"""What classify is told by its environment."""

from sluice.runtime.settings import InferenceSettings


class ClassifySettings(InferenceSettings, frozen=True, kw_only=True):
    """See :class:`InferenceSettings`."""
