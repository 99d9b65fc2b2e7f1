"""Whether the platform can serve: asked by monitors, without a key."""

import msgspec

from sluice import __version__
from sluice.domain.ports import RouteSource


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """The state of the platform. ``models`` counts the names that callers may use."""

    status: str
    version: str
    environment: str
    models: int

    @property
    def serving(self) -> bool:
        """Whether requests can be served."""
        return self.status == "ok"


class CheckHealth:
    """Healthy means that requests can be routed: there is a route table, and it is not empty."""

    def __init__(self, routes: RouteSource, environment: str) -> None:
        self._routes = routes
        self._environment = environment

    def check(self) -> Health:
        """The current state.

        :raises StateError: the routes cannot be read.
        :raises ConfigurationError: they are malformed.
        """
        table = self._routes.load()
        return Health(
            status="ok" if table.targets else "no_routes",
            version=__version__,
            environment=self._environment,
            models=len(table.targets) + len(table.aliases),
        )
