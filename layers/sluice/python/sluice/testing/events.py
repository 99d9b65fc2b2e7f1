"""An event bus in memory."""

from collections.abc import Sequence

from sluice.domain.errors import SluiceError
from sluice.domain.events import EventV1


class FakeBus:
    """Implements :class:`~sluice.domain.ports.EventBus`. ``refusals`` is how often it will still refuse a resource."""

    def __init__(self) -> None:
        self.events: list[EventV1] = []
        self.calls = 0
        self.refusals: dict[str, int] = {}
        self.failing: SluiceError | None = None

    def publish(self, events: Sequence[EventV1]) -> Sequence[int]:
        self.calls += 1
        if self.failing is not None:
            raise self.failing
        refused = []
        for index, event in enumerate(events):
            if self.refusals.get(event.resource_id, 0) > 0:
                self.refusals[event.resource_id] -= 1
                refused.append(index)
            else:
                self.events.append(event)
        return refused
