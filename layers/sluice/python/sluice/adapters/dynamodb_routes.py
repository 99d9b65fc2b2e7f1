"""Aliases and targets, from the item set ``ROUTES`` that Terraform writes."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from sluice.adapters.dynamodb import Table, to_struct
from sluice.domain.classification import IntentSet
from sluice.domain.errors import ConfigurationError, SluiceError
from sluice.domain.routing import Alias, RouteTable, Target
from sluice.telemetry import logs

PARTITION: Final = "ROUTES"
CACHE_SECONDS: Final = 60.0
# After a failed refresh: soon enough to recover, late enough not to add a failing read to every request.
RETRY_SECONDS: Final = 5.0
_log = logs.get_logger()


class DynamoDBRoutes:
    """A :class:`~sluice.domain.ports.RouteSource` that remembers the routes for a minute.

    When they cannot be read again, or have become malformed, the last good ones go on serving: an error in new routes
    must not take down what worked.
    """

    def __init__(self, table: Table, clock: Callable[[], float] = time.monotonic) -> None:
        self._table = table
        self._clock = clock
        self._routes: RouteTable | None = None
        self._fresh_until = 0.0

    def load(self) -> RouteTable:
        """The routes, at most a minute old unless they cannot be refreshed.

        :raises ConfigurationError: the first read found an item that is malformed, naming it.
        :raises StateError: the first read failed.
        """
        if self._routes is not None and self._clock() < self._fresh_until:
            return self._routes
        try:
            self._routes = _parse(self._table.query(PARTITION))
            self._fresh_until = self._clock() + CACHE_SECONDS
        except SluiceError as error:
            if self._routes is None:
                raise
            _log.error("routes_not_refreshed", **logs.describe(error))
            self._fresh_until = self._clock() + RETRY_SECONDS
        return self._routes


def _parse(items: list[dict[str, Any]]) -> RouteTable:
    targets: dict[str, Target] = {}
    aliases: dict[str, Alias] = {}
    intent_sets: dict[str, IntentSet] = {}
    for item in items:
        kind, _, name = str(item.get("sk", "")).partition("#")
        if kind == "TARGET":
            targets[name] = _complete(to_struct(item, Target))
        elif kind == "ALIAS":
            aliases[name] = to_struct(item, Alias)
        elif kind == "INTENTS":
            intent_sets[name] = to_struct(item, IntentSet)
        else:
            raise ConfigurationError(f"The item {PARTITION} / {item.get('sk')} is of no kind that routes have.")
    _check_references(targets, aliases)
    return RouteTable(targets=targets, aliases=aliases, intent_sets=intent_sets)


def _complete(target: Target) -> Target:
    if target.provider == "openai_compatible" and not target.base_url:
        raise ConfigurationError(f"The item {PARTITION} / TARGET#{target.name} is malformed: base_url is missing.")
    if target.guardrail and target.provider != "bedrock":
        # One that is silently not applied would be worse than none.
        raise ConfigurationError(
            f"The item {PARTITION} / TARGET#{target.name} is malformed: only Bedrock has guardrails."
        )
    return target


def _check_references(targets: Mapping[str, Target], aliases: Mapping[str, Alias]) -> None:
    for alias in aliases.values():
        unknown = [entry.target for entry in alias.targets if entry.target not in targets]
        if unknown or not alias.targets:
            what = f"there is no target {unknown[0]}" if unknown else "it has no targets"
            raise ConfigurationError(f"The item {PARTITION} / ALIAS#{alias.name} is malformed: {what}.")
