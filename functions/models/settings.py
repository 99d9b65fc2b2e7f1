"""What models is told by its environment."""

from sluice.runtime.settings import TableSettings


class ModelsSettings(TableSettings, frozen=True, kw_only=True):
    """See :class:`TableSettings`."""
