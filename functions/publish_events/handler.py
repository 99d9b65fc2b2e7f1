"""The table's stream: what ends a unit of work is announced on the event bus."""

import os
from functools import cache
from typing import Any

from functions.publish_events.settings import PublishEventsSettings
from sluice.domain.deadline import Deadline
from sluice.runtime import durable
from sluice.runtime.events import event_function
from sluice.runtime.settings import load
from sluice.runtime.snapstart import before_snapshot
from sluice.services.publish_events import PublishEvents
from sluice.wire.records import keep


@before_snapshot
@cache
def service() -> PublishEvents:
    """Built once per container."""
    settings = load(PublishEventsSettings, os.environ)
    return durable.publish_events(settings, event_bus_name=settings.event_bus_name)


@event_function
def handler(event: dict[str, Any], deadline: Deadline) -> dict[str, Any]:
    """Announce what a batch of changes tells; the stream is read again from the first that could not be."""
    return keep(service().publish(event["Records"]))
