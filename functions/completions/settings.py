"""What completions is told by its environment."""

from sluice.runtime.settings import InferenceSettings


class CompletionsSettings(InferenceSettings, frozen=True, kw_only=True):
    """See :class:`InferenceSettings`."""
