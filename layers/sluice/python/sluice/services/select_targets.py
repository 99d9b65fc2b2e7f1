"""Which targets may answer a request, and in which order they are tried."""

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Protocol

import msgspec

from sluice.domain import limits
from sluice.domain.inference import Caller, ChatRequest, Operation
from sluice.domain.ports import RouteSource
from sluice.domain.routing import Preferences, Route, Strategy, Target, able, fits_by_estimate, needs, roomy
from sluice.domain.strategies import Demand, Dice, in_order
from sluice.services.admit import is_payable, without_price
from sluice.services.watch_targets import WatchTargets

# Strategies that choose by how targets have been doing; only routes of these pay for measuring.
_MEASURED: Final = frozenset({Strategy.COST, Strategy.LATENCY})


class Asked(Protocol):
    """A request for a model."""

    @property
    def model(self) -> str:
        """An alias or a target's name."""
        ...


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """The targets to try, best first. ``measured`` says whether how they do is to be remembered.

    ``hedge_after_ms`` and ``cache_ttl_s`` are the route's own; ``None`` where it has none.
    """

    targets: tuple[Target, ...]
    demand: Demand
    measured: bool
    hedge_after_ms: int | None
    cache_ttl_s: int | None = None


class SelectTargets:
    """Selects by the routes, the request, and what is known of the targets' health."""

    def __init__(
        self, routes: RouteSource, watch: WatchTargets, *, dice: Dice, now: Callable[[], float] = time.time
    ) -> None:
        self._routes = routes
        self._watch = watch
        self._dice = dice
        self._now = now
        self._turns = _Turns(dice)

    def __call__(
        self,
        request: Asked,
        operation: Operation,
        caller: Caller,
        preferences: Preferences,
        *,
        streaming: bool,
        batch: bool = False,
    ) -> Selection:
        """The targets for ``request``; ``batch`` says that it is a line of a batch, which has rates of its own.

        Where money is limited, nothing is asked whose price nobody knows beforehand.

        :raises CallerError: none can serve it, or may.
        :raises ContextTooLongError: it fits none.
        """
        demand = msgspec.structs.replace(Demand.of(request), batch=batch)
        route = self._routes.load().route(request.model, operation, caller.allowed_models, preferences)
        targets = able(route.targets, needs(request, streaming=streaming))
        if isinstance(request, ChatRequest):
            targets = limits.generous(targets, max_tokens=request.max_tokens)
            targets = roomy(targets, input_tokens=demand.input_tokens, output_tokens=demand.output_bound)
        if caller.limits.has_budget:
            targets = _priced(targets, request, batch=batch)
        route = route.kept(frozenset(target.name for target in targets))
        return Selection(
            targets=self._in_order(request.model, route, demand),
            demand=demand,
            measured=route.strategy in _MEASURED,
            hedge_after_ms=route.hedge_after_ms,
            cache_ttl_s=route.cache_ttl_s,
        )

    def _in_order(self, model: str, route: Route, demand: Demand) -> tuple[Target, ...]:
        names = [target.name for target in route.targets]
        self._watch.look(names)
        ordered = in_order(
            route,
            demand,
            health=self._watch.health(names),
            now=self._now(),
            turn=self._turns.next(model) if route.strategy is Strategy.ROUND_ROBIN else 0,
            dice=self._dice,
        )
        # The sort is stable: among those that hold the request for certain, the strategy's order stays.
        return tuple(sorted(ordered, key=lambda target: not _surely_fits(target, demand)))


def _priced(targets: Sequence[Target], request: object, *, batch: bool) -> tuple[Target, ...]:
    priced = tuple(target for target in targets if is_payable(request, target, batch=batch))
    if not priced:
        raise without_price()
    return priced


def _surely_fits(target: Target, demand: Demand) -> bool:
    return fits_by_estimate(target, input_tokens=demand.input_tokens, output_tokens=demand.output_bound)


class _Turns:
    """Whose turn it is under ``round_robin``, per alias; starts anywhere, so that new containers spread at once."""

    def __init__(self, dice: Dice) -> None:
        self._dice = dice
        self._counters: dict[str, Iterator[int]] = {}

    def next(self, name: str) -> int:
        if name not in self._counters:
            self._counters[name] = itertools.count(self._dice.randrange(1 << 16))
        return next(self._counters[name])
