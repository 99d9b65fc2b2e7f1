"""What chat_completions is told by its environment."""

from sluice.runtime.settings import InferenceSettings


class ChatCompletionsSettings(InferenceSettings, frozen=True, kw_only=True):
    """See :class:`InferenceSettings`."""
