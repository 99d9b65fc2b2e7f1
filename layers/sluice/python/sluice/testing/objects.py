"""An object store in memory."""

from sluice.domain.errors import NotFoundError, SluiceError


class FakeObjects:
    """Implements :class:`~sluice.domain.ports.ObjectStore`. ``failing`` is raised by every call while it is set."""

    def __init__(self) -> None:
        self.bodies: dict[str, bytes] = {}
        self.failing: SluiceError | None = None

    def put(self, key: str, body: bytes) -> None:
        self._fail()
        self.bodies[key] = body

    def get(self, key: str) -> bytes:
        self._fail()
        try:
            return self.bodies[key]
        except KeyError:
            raise NotFoundError("There is no such object.") from None

    def _fail(self) -> None:
        if self.failing is not None:
            raise self.failing
