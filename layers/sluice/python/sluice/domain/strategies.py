"""In which order the targets of a route are tried.

==============  ======================================================================================================
priority        the alias's own order
weighted        drawn by weight, without putting back, so that the fallbacks are in proportion too; weight 0 comes last
round_robin     each request starts one target further; every container starts at a random one and counts for itself,
                which spreads evenly without a write that all requests would have to share
cost            the cheapest for *this* request first (:func:`expected_cost`); an unknown price comes last
latency         power of two choices: of two targets drawn at random the quicker one, by its shared peak-EWMA of
                milliseconds per output token; a target that nobody has measured yet counts as quick, so that it will be
==============  ======================================================================================================

Everything random is drawn from the ``Dice`` passed in.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Final, Protocol, TypeVar

import msgspec

from sluice.domain.inference import ChatRequest, EmbeddingRequest, Usage
from sluice.domain.pricing import cost_micro_usd
from sluice.domain.resilience import UNMEASURED, Health
from sluice.domain.routing import Route, Strategy, Target
from sluice.domain.streaming import estimated_tokens

T = TypeVar("T")

# What a chat answer comes to as long as nobody knows better.
TYPICAL_OUTPUT_TOKENS: Final = 256


class Dice(Protocol):
    """The part of :class:`random.Random` that is used."""

    def random(self) -> float:
        """From 0.0 up to, and never, 1.0."""
        ...

    def randrange(self, stop: int, /) -> int:
        """From 0 up to, and never, ``stop``."""
        ...


class Demand(msgspec.Struct, frozen=True, kw_only=True):
    """What a request is expected to use, as far as it can be told beforehand.

    ``output_bound`` is the caller's own limit. ``writes`` says whether the model writes at all: an embedding does not.
    ``batch`` says that it is a line of a batch, which has rates of its own.
    """

    input_tokens: int = 0
    output_bound: int | None = None
    writes: bool = False
    batch: bool = False

    @classmethod
    def of(cls, request: object) -> "Demand":
        """An estimate for any request."""
        if isinstance(request, ChatRequest):
            return cls(input_tokens=_chat_tokens(request), output_bound=request.max_tokens, writes=True)
        if isinstance(request, EmbeddingRequest):
            return cls(input_tokens=estimated_tokens(request.inputs))
        return cls()

    def output_tokens(self, target: Target, health: Health) -> int:
        """What ``target`` will probably write: its mean so far, within the caller's and its own bounds."""
        if not self.writes:
            return 0
        bounds = [bound for bound in (self.output_bound, target.max_output_tokens) if bound is not None]
        usual = health.output_tokens
        if usual is None:
            usual = TYPICAL_OUTPUT_TOKENS if self.output_bound is None else self.output_bound
        return min([math.ceil(usual), *bounds])


def _chat_tokens(request: ChatRequest) -> int:
    texts = [message.content for message in request.messages]
    texts += [call.arguments for message in request.messages for call in message.tool_calls]
    # Tools are part of the prompt too; their schema is sent as JSON, of which this is about the length.
    texts += [f"{tool.name}{tool.description or ''}{tool.parameters}" for tool in request.tools]
    return estimated_tokens(texts)


def expected_cost(demand: Demand, target: Target, health: Health) -> Decimal | None:
    """What this request will probably cost at ``target`` in micro-dollars; ``None`` when that cannot be known.

    The share of the input that the provider's cache held lately is taken at the cache's price.
    """
    usage = Usage(
        input_tokens=demand.input_tokens,
        output_tokens=demand.output_tokens(target, health),
        cache_read_tokens=int(demand.input_tokens * min(health.cached_share or 0.0, 1.0)),
    )
    return cost_micro_usd(usage, target.price, batch=demand.batch)


def in_order(
    route: Route, demand: Demand, *, health: Mapping[str, Health], now: float, turn: int, dice: Dice
) -> tuple[Target, ...]:
    """The targets of ``route``, the first to be tried first. ``turn`` counts this container's requests."""
    targets = route.targets
    match route.strategy:
        case Strategy.PRIORITY:
            return targets
        case Strategy.WEIGHTED:
            return weighted(targets, route.weights, dice)
        case Strategy.ROUND_ROBIN:
            start = turn % len(targets)
            return (*targets[start:], *targets[:start])
        case Strategy.COST:
            return tuple(sorted(targets, key=lambda each: _price_tag(demand, each, health)))
        case Strategy.LATENCY:
            return two_choices(targets, lambda each: health.get(each.name, UNMEASURED).score(now), dice)


def _price_tag(demand: Demand, target: Target, health: Mapping[str, Health]) -> tuple[bool, Decimal]:
    cost = expected_cost(demand, target, health.get(target.name, UNMEASURED))
    return cost is None, cost or Decimal(0)


def weighted(items: Sequence[T], weights: Sequence[int], dice: Dice) -> tuple[T, ...]:
    """All ``items``, drawn one after the other in proportion to their weights; those that weigh nothing come last."""
    left = [(item, weight) for item, weight in zip(items, weights, strict=True) if weight > 0]
    drawn: list[T] = []
    while left:
        mark = dice.random() * sum(weight for _, weight in left)
        position = 0
        while position < len(left) - 1 and mark >= left[position][1]:
            mark -= left[position][1]
            position += 1
        drawn.append(left.pop(position)[0])
    return (*drawn, *(item for item, weight in zip(items, weights, strict=True) if weight <= 0))


def two_choices(items: Sequence[T], score: Callable[[T], float], dice: Dice) -> tuple[T, ...]:
    """All ``items``: each time the better (lower) of two drawn at random from what is left."""
    left, chosen = list(items), []
    while len(left) > 1:
        first = dice.randrange(len(left))
        second = dice.randrange(len(left) - 1)
        second += second >= first
        chosen.append(left.pop(first if score(left[first]) <= score(left[second]) else second))
    return (*chosen, *left)
