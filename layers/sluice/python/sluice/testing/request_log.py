"""A request log in memory."""

from sluice.domain.errors import SluiceError
from sluice.domain.request_log import RequestLogEntry


class FakeRequestLog:
    """Implements :class:`~sluice.domain.ports.RequestLog`. ``failing`` is raised by every call while it is set."""

    def __init__(self) -> None:
        self.stored: dict[tuple[str, float, str], RequestLogEntry] = {}
        self.failing: SluiceError | None = None

    @property
    def entries(self) -> list[RequestLogEntry]:
        """Every entry, in the order in which they first came."""
        return list(self.stored.values())

    def append(self, entry: RequestLogEntry) -> None:
        if self.failing is not None:
            raise self.failing
        self.stored[entry.key_id, entry.started_at, entry.unit] = entry
