"""Routes are data: aliases that callers name, and the provider targets behind them.

What a request may be answered by is found in this order, and the first step that leaves nothing says why:

1. the name: an alias stands for its targets, a target's name for itself; ``x-sluice-target`` picks one target;
2. the key's allowed models: who may use an alias reaches every target behind it;
3. the operation, and the place (the alias's own ``regions``, then the caller's ``x-sluice-region``);
4. what the request needs: tools, a JSON schema, streaming;
5. the context: the estimated input, and the output where the caller bounds it, have to fit.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from enum import StrEnum
from typing import Final, Literal

import msgspec

from sluice.domain.classification import IntentSet
from sluice.domain.errors import ContextTooLongError, InvalidRequestError, NotFoundError, PermissionDeniedError
from sluice.domain.inference import ChatRequest, Operation
from sluice.domain.ledger import Standing
from sluice.domain.pricing import Price

ProviderName = Literal["bedrock", "openai_compatible", "sagemaker", "in_process"]
CacheStatus = Literal["bypass", "hit", "miss", "refresh"]

TARGET_HEADER: Final = "x-sluice-target"
STRATEGY_HEADER: Final = "x-sluice-strategy"
REGION_HEADER: Final = "x-sluice-region"


class Strategy(StrEnum):
    """In which order the targets of an alias are tried (:mod:`sluice.domain.strategies`)."""

    PRIORITY = "priority"
    WEIGHTED = "weighted"
    ROUND_ROBIN = "round_robin"
    COST = "cost"
    LATENCY = "latency"


class Capability(StrEnum):
    """What not every chat target can do."""

    TOOLS = "tools"
    JSON_SCHEMA = "json_schema"
    STREAMING = "streaming"


# The field of the request that asks for it, for the caller who has to leave it out.
_ASKED_BY: Final = {
    Capability.TOOLS: "tools",
    Capability.JSON_SCHEMA: "response_format",
    Capability.STREAMING: "stream",
}


class Guardrail(msgspec.Struct, frozen=True, kw_only=True):
    """A guardrail of Amazon Bedrock, applied to what goes in and what comes out."""

    id: str
    version: str


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """One model at one provider. ``name`` is ``<provider label>/<model label>``; ``model`` is the provider's own id.

    ``region`` is where the provider runs it; a target that does not say is never chosen by region.
    ``attempt_timeout_s`` shortens the deployment's own for a target that is quick or given up. ``max_tokens_field`` is
    by which name an OpenAI-compatible server takes the longest answer: OpenAI's reasoning models refuse ``max_tokens``
    (https://platform.openai.com/docs/api-reference/chat/create), and many other servers know nothing else.
    """

    name: str
    provider: ProviderName
    model: str
    operations: tuple[Operation, ...]
    capabilities: frozenset[Capability] = frozenset({Capability.STREAMING})
    created: int = 0
    base_url: str | None = None
    secret_field: str | None = None
    region: str | None = None
    context_length: int | None = None
    max_output_tokens: int | None = None
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    attempt_timeout_s: float | None = None
    guardrail: Guardrail | None = None
    price: Price | None = None


class AliasTarget(msgspec.Struct, frozen=True, kw_only=True):
    """A target's place behind an alias. ``weight`` is its share under ``weighted``; 0 makes it a fallback only."""

    target: str
    weight: int = 1


class Alias(msgspec.Struct, frozen=True, kw_only=True):
    """A name that stands for targets.

    ``regions`` holds every request to these places (data residency). ``hedge_after_ms`` is how long a first target may
    keep silent before a second is asked as well; ``None`` leaves it to the deployment. ``cache_ttl_s`` is how long an
    answer may be given again to the same key; ``None`` caches only what a request asks to be cached.
    """

    name: str
    operation: Operation
    targets: tuple[AliasTarget, ...]
    strategy: Strategy = Strategy.PRIORITY
    regions: tuple[str, ...] = ()
    hedge_after_ms: int | None = None
    cache_ttl_s: int | None = None


class Preferences(msgspec.Struct, frozen=True, kw_only=True):
    """What one request asks of its routing and caching, by header. ``None`` leaves it to the route."""

    target: str | None = None
    strategy: str | None = None
    region: str | None = None
    cache: str | None = None
    cache_ttl: str | None = None


NO_PREFERENCES: Final = Preferences()


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """How a request was handled, answered or not; what the ``x-sluice-`` headers tell.

    ``fallbacks`` counts the targets that come before ``target`` (a name) in the order chosen. ``cost_micro_usd`` of
    ``None`` means unknown. ``overhead_ms`` is the time that was not spent on waiting for a provider. ``cache`` is what
    the cache had to do with it, ``age_s`` how old an answer from it is. ``standing`` is how the key stands after it;
    ``max_output_tokens`` is told where the key's limits left less room for output than there would have been.
    """

    target: str | None = None
    attempts: int = 0
    fallbacks: int = 0
    cost_micro_usd: Decimal | None = None
    overhead_ms: float = 0.0
    hedged: bool = False
    cache: CacheStatus = "bypass"
    age_s: int | None = None
    standing: Standing | None = None
    max_output_tokens: int | None = None


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """The targets that may answer one request, in the alias's own order, and how to choose among them.

    ``weights`` belong to ``targets``, one each.
    """

    targets: tuple[Target, ...]
    weights: tuple[int, ...]
    strategy: Strategy
    hedge_after_ms: int | None = None
    cache_ttl_s: int | None = None

    def kept(self, names: frozenset[str]) -> "Route":
        """This route with only these targets."""
        pairs = [
            (target, weight) for target, weight in zip(self.targets, self.weights, strict=True) if target.name in names
        ]
        return msgspec.structs.replace(
            self, targets=tuple(target for target, _ in pairs), weights=tuple(weight for _, weight in pairs)
        )


class RouteTable(msgspec.Struct, frozen=True, kw_only=True):
    """Every alias, target and intent set of the deployment, by name."""

    targets: Mapping[str, Target]
    aliases: Mapping[str, Alias]
    intent_sets: Mapping[str, IntentSet] = {}

    def resolve(
        self, model: str, operation: Operation, allowed_models: tuple[str, ...] | None = None
    ) -> tuple[Target, ...]:
        """The targets that ``model`` (an alias or a target's name) stands for, in the alias's order.

        :raises NotFoundError: no such alias or target.
        :raises PermissionDeniedError: the key may not use it.
        :raises InvalidRequestError: it exists but cannot do ``operation``.
        """
        return self.route(model, operation, allowed_models).targets

    def route(
        self,
        model: str,
        operation: Operation,
        allowed_models: tuple[str, ...] | None = None,
        preferences: Preferences = NO_PREFERENCES,
    ) -> Route:
        """Who may answer: steps 1 to 3 of the above.

        :raises NotFoundError: no such alias or target; ``param`` says whether the model or the header names it.
        :raises PermissionDeniedError: the key may not use it.
        :raises InvalidRequestError: it cannot do ``operation``, is nowhere in the region, or a header is wrong.
        """
        alias = self.aliases.get(model)
        behind = alias.targets if alias else (AliasTarget(target=model),)
        known = tuple(entry for entry in behind if entry.target in self.targets)
        if not known:
            raise NotFoundError(
                f"The model '{model}' does not exist. GET /v1/models lists what does.",
                code="model_not_found",
                param="model",
            )
        if allowed_models is not None and model not in allowed_models:
            raise PermissionDeniedError(f"This key may not use the model '{model}'.", param="model")
        if preferences.target is not None:
            known = self._picked(preferences.target, known, allowed_models)
        able = tuple(entry for entry in known if operation in self.targets[entry.target].operations)
        if not able:
            picked = preferences.target is not None
            raise InvalidRequestError(
                f"The model '{preferences.target or model}' cannot be used for this endpoint ({operation.value}).",
                code="unsupported_operation",
                param=TARGET_HEADER if picked else "model",
            )
        placed = self._placed(able, alias.regions if alias else (), preferences.region)
        return Route(
            targets=tuple(self.targets[entry.target] for entry in placed),
            weights=tuple(entry.weight for entry in placed),
            strategy=_strategy(preferences.strategy, alias),
            hedge_after_ms=alias.hedge_after_ms if alias else None,
            cache_ttl_s=alias.cache_ttl_s if alias else None,
        )

    def _picked(
        self, name: str, behind: tuple[AliasTarget, ...], allowed_models: tuple[str, ...] | None
    ) -> tuple[AliasTarget, ...]:
        if name not in self.targets:
            raise NotFoundError(
                f"{TARGET_HEADER}: there is no target '{name}'.", code="target_not_found", param=TARGET_HEADER
            )
        if picked := tuple(entry for entry in behind if entry.target == name):
            return picked
        if allowed_models is not None and name not in allowed_models:
            raise PermissionDeniedError(
                f"{TARGET_HEADER}: this key may not use the target '{name}'.", param=TARGET_HEADER
            )
        return (AliasTarget(target=name),)

    def _placed(
        self, entries: tuple[AliasTarget, ...], regions: tuple[str, ...], preferred: str | None
    ) -> tuple[AliasTarget, ...]:
        held = tuple(e for e in entries if not regions or any(_within(self.targets[e.target], r) for r in regions))
        if not held:
            raise InvalidRequestError(
                "No target of this model is in the regions that it is held to.", code="no_target_in_region"
            )
        if preferred is None:
            return held
        placed = tuple(entry for entry in held if _within(self.targets[entry.target], preferred))
        if not placed:
            raise InvalidRequestError(
                f"{REGION_HEADER}: no target of this model is in '{preferred}'.",
                code="no_target_in_region",
                param=REGION_HEADER,
            )
        return placed


def _strategy(asked: str | None, alias: Alias | None) -> Strategy:
    if asked is None:
        return alias.strategy if alias else Strategy.PRIORITY
    try:
        return Strategy(asked)
    except ValueError:
        raise InvalidRequestError(
            f"{STRATEGY_HEADER}: must be one of {', '.join(Strategy)}.", code="invalid_strategy", param=STRATEGY_HEADER
        ) from None


def _within(target: Target, region: str) -> bool:
    """Whether the target is in ``region``, which may be the beginning of a name: ``eu`` holds ``eu-central-1``."""
    return target.region is not None and (target.region == region or target.region.startswith(f"{region}-"))


def needs(request: object, *, streaming: bool) -> frozenset[Capability]:
    """What a target must be able to do for this request."""
    needed = {Capability.STREAMING} if streaming else set[Capability]()
    if isinstance(request, ChatRequest):
        if request.tools and request.tool_choice != "none":
            needed.add(Capability.TOOLS)
        if request.response_format is not None:
            needed.add(Capability.JSON_SCHEMA)
    return frozenset(needed)


def able(targets: Sequence[Target], needed: frozenset[Capability]) -> tuple[Target, ...]:
    """Those that can do all of ``needed``.

    :raises InvalidRequestError: none can; it names the field that asks for what they lack.
    """
    found = tuple(target for target in targets if needed <= target.capabilities)
    if found:
        return found
    common = [name for name in Capability if name in needed and not any(name in each.capabilities for each in targets)]
    lacking = (common or sorted(needed))[0]
    raise InvalidRequestError(
        f"No target of this model supports '{_ASKED_BY[lacking]}'.",
        code="unsupported_parameter",
        param=_ASKED_BY[lacking],
    )


def roomy(targets: Sequence[Target], *, input_tokens: int, output_tokens: int | None) -> tuple[Target, ...]:
    """Those whose context holds the request. The input is an estimate, so only what is clearly too long is left out.

    :raises ContextTooLongError: none does.
    """
    found = tuple(target for target in targets if _fits(target, input_tokens, output_tokens))
    if found:
        return found
    raise ContextTooLongError(
        "The request is too long for the context of every model that it may use.", target=targets[-1].name
    )


# Four characters a token is right within a factor of two for most languages and code.
_BENEFIT_OF_DOUBT: Final = 2


def _fits(target: Target, input_tokens: int, output_tokens: int | None) -> bool:
    if target.context_length is None:
        return True
    certain = input_tokens // _BENEFIT_OF_DOUBT
    return certain + min(output_tokens or 0, target.context_length // 2) < target.context_length


def fits_by_estimate(target: Target, *, input_tokens: int, output_tokens: int | None) -> bool:
    """Whether the estimate as it is fits: such targets are tried before those that only may hold the request."""
    return target.context_length is None or input_tokens + (output_tokens or 0) <= target.context_length
