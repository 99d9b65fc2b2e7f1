"""What chat is told by its environment."""

from sluice.runtime.settings import InferenceSettings


class ChatSettings(InferenceSettings, frozen=True, kw_only=True):
    """See :class:`InferenceSettings`."""
