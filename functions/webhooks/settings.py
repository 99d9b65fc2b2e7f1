"""What webhooks is told by its environment."""

from sluice.runtime.settings import TableSettings


class WebhooksSettings(TableSettings, frozen=True, kw_only=True):
    """See :class:`TableSettings`."""
