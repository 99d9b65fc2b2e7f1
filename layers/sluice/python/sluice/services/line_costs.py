"""What one line of a batch can come to: the most money, and the work.

Which target will answer a line is not known when money is set aside for it, so it is reckoned at the dearest of all
that may. A line that every target would refuse for what it asks costs nothing: it gets its error for free.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Final

import msgspec

from sluice.domain import bounds
from sluice.domain.bounds import UNSAID_OUTPUT_TOKENS, Bound
from sluice.domain.classification import ClassificationRequest, unknown_intents
from sluice.domain.errors import CallerError, InvalidRequestError
from sluice.domain.inference import Caller, ChatRequest, EmbeddingRequest, Operation
from sluice.domain.ledger import ZERO
from sluice.domain.limits import bounded, check_output, generous
from sluice.domain.ports import RouteSource
from sluice.domain.pricing import Ceiling, ceiling
from sluice.domain.routing import RouteTable, Target, able, needs
from sluice.domain.tasks import Task, TaskRequest
from sluice.services import classify
from sluice.services.admit import without_price

# A line names its model: a file may name as many as it has lines.
_REMEMBERED_ROUTES: Final = 1_000
# An answer that is not of the form asked for goes back once, with what is wrong with it (structured_output). Of a token
# of the answer that is read again, four bytes are text that has been reckoned by the byte.
_REPAIR_TOKENS: Final = 2_048
_BYTES_PER_TOKEN: Final = 4


class LineCost(msgspec.Struct, frozen=True, gc=False):
    """``inside`` says that every model that may answer runs within the function itself."""

    most_micro_usd: Decimal
    bound: Bound
    inside: bool


class _Known(msgspec.Struct, frozen=True):
    """What a name stands for; or why it may not be used."""

    targets: tuple[Target, ...] = ()
    inside: bool = False
    refused: CallerError | None = None


class LineCosts:
    """Reckons lines. ``most_output_tokens`` is the deployment's own limit to an answer.

    What a model's name stands for is looked up once, for as long as the routes are the same.
    """

    def __init__(self, routes: RouteSource, *, most_output_tokens: int | None) -> None:
        self._routes = routes
        self._most = most_output_tokens
        self._table: RouteTable | None = None
        self._known: dict[tuple[str, Operation, tuple[str, ...] | None], _Known] = {}
        self._ceilings: dict[tuple[str, bool, bool], Ceiling | None] = {}

    def of(self, task: Task, caller: Caller) -> LineCost:
        """What the line comes to at most.

        :raises NotFoundError: there is no such model, or no such intent set.
        :raises PermissionDeniedError: the key may not use it; or has a budget, and nobody can tell the price.
        :raises InvalidRequestError: the model cannot do this at all.
        """
        table = self._current()
        known = self._behind(table, task, caller.allowed_models)
        request = _with_labels(task.request, table)
        targets = _willing(request, known.targets, self._most)
        bound_at = self._bounds(request, targets)
        costs = [self._cost(bound, target) for bound, target in zip(bound_at, targets, strict=True)]
        if caller.limits.has_budget and costs and all(cost is None for cost in costs):
            raise without_price()
        most = max((cost for cost in costs if cost is not None), default=ZERO)
        return LineCost(most, bound_at[0] if bound_at else Bound(calls=0), known.inside)

    def _current(self) -> RouteTable:
        table = self._routes.load()
        if table is not self._table:
            self._table = table
            self._known.clear()
            self._ceilings.clear()
        return table

    def _behind(self, table: RouteTable, task: Task, allowed_models: tuple[str, ...] | None) -> _Known:
        place = (task.model, task.operation, allowed_models)
        known = self._known.get(place)
        if known is None:
            if len(self._known) >= _REMEMBERED_ROUTES:
                self._known.clear()
            known = self._known[place] = _looked_up(table, *place)
        if known.refused is not None:
            raise known.refused
        return known

    def _bounds(self, request: TaskRequest, targets: Sequence[Target]) -> list[Bound]:
        """The most that the request comes to at each target."""
        if isinstance(request, ChatRequest):
            whole = bounds.of_chat(request)
            return [_of_chat(request, whole, target, self._most) for target in targets]
        if isinstance(request, ClassificationRequest):
            return [classify.bound_of(request, target) for target in targets]
        bound = bounds.of_embedding(request) if isinstance(request, EmbeddingRequest) else Bound()
        return [bound] * len(targets)

    def _cost(self, bound: Bound, target: Target) -> Decimal | None:
        """What the calls cost at most; ``None`` when nobody can tell."""
        dearest = self._ceiling(target, bound)
        if dearest is None:
            return None
        return dearest.cost(calls=bound.calls, input_tokens=bound.input_tokens, output_tokens=bound.output_tokens)

    def _ceiling(self, target: Target, bound: Bound) -> Ceiling | None:
        reads, writes = bound.input_tokens > 0, bound.output_tokens > 0
        if target.price is not None and target.price.tiers:
            # Which rates there are depends on how long the line is.
            return ceiling(target.price, input_tokens=bound.input_tokens, writes=writes, batch=True)
        place = (target.name, reads, writes)
        if place not in self._ceilings:
            self._ceilings[place] = ceiling(target.price, input_tokens=bound.input_tokens, writes=writes, batch=True)
        return self._ceilings[place]


def _looked_up(table: RouteTable, model: str, operation: Operation, allowed_models: tuple[str, ...] | None) -> _Known:
    try:
        targets = table.resolve(model, operation, allowed_models)
    except CallerError as error:
        return _Known(refused=error)
    return _Known(targets=targets, inside=all(target.provider == "in_process" for target in targets))


def _with_labels(request: TaskRequest, table: RouteTable) -> TaskRequest:
    if not isinstance(request, ClassificationRequest) or request.intents is None:
        return request
    known = table.intent_sets.get(request.intents)
    if known is None:
        raise unknown_intents(request.intents)
    return msgspec.structs.replace(request, labels=known.labels)


def _willing(request: TaskRequest, targets: tuple[Target, ...], most: int | None) -> tuple[Target, ...]:
    """Those that may answer; none when the request asks for what nobody does."""
    if not isinstance(request, ChatRequest):
        return targets
    try:
        check_output(request, most=most)
        return generous(able(targets, needs(request, streaming=False)), max_tokens=request.max_tokens)
    except InvalidRequestError:
        return ()


def _of_chat(request: ChatRequest, whole: Bound, target: Target, most: int | None) -> Bound:
    said = bounded(request, target, most=most).max_tokens
    output = UNSAID_OUTPUT_TOKENS if said is None else said
    if request.response_format is None:
        return Bound(input_tokens=whole.input_tokens, output_tokens=output)
    again = whole.input_tokens + output * _BYTES_PER_TOKEN + _REPAIR_TOKENS
    return Bound(calls=2, input_tokens=whole.input_tokens + again, output_tokens=2 * output)
