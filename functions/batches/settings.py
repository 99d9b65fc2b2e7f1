"""What batches is told by its environment."""

from sluice.runtime.settings import BatchSettings


class BatchesSettings(BatchSettings, frozen=True, kw_only=True):
    """See :class:`BatchSettings`."""
