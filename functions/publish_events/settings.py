"""What publish_events is told by its environment."""

from sluice.runtime.settings import Settings, Text


class PublishEventsSettings(Settings, frozen=True, kw_only=True):
    """See :class:`Settings`."""

    event_bus_name: Text
