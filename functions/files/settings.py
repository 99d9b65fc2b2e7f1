"""What files is told by its environment."""

from sluice.runtime.settings import FileSettings


class FilesSettings(FileSettings, frozen=True, kw_only=True):
    """See :class:`FileSettings`."""
