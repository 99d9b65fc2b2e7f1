"""What embeddings is told by its environment."""

from sluice.runtime.settings import InferenceSettings


class EmbeddingsSettings(InferenceSettings, frozen=True, kw_only=True):
    """See :class:`InferenceSettings`."""
