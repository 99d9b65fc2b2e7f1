"""Routes are data: aliases that callers name, and the provider targets behind them."""

from collections.abc import Mapping
from typing import Literal

import msgspec

from sluice.domain.errors import InvalidRequestError, NotFoundError, PermissionDeniedError
from sluice.domain.inference import Operation
from sluice.domain.pricing import Price

ProviderName = Literal["bedrock", "openai_compatible"]


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """One model at one provider. ``name`` is ``<provider label>/<model label>``; ``model`` is the provider's own id."""

    name: str
    provider: ProviderName
    model: str
    operations: tuple[Operation, ...]
    created: int = 0
    base_url: str | None = None
    secret_field: str | None = None
    context_length: int | None = None
    max_output_tokens: int | None = None
    price: Price | None = None


class AliasTarget(msgspec.Struct, frozen=True, kw_only=True):
    """A target's place behind an alias."""

    target: str


class Alias(msgspec.Struct, frozen=True, kw_only=True):
    """A name that stands for targets, tried in order."""

    name: str
    operation: Operation
    targets: tuple[AliasTarget, ...]
    strategy: Literal["priority"] = "priority"


class RouteTable(msgspec.Struct, frozen=True, kw_only=True):
    """Every alias and target of the deployment, by name."""

    targets: Mapping[str, Target]
    aliases: Mapping[str, Alias]

    def resolve(
        self, model: str, operation: Operation, allowed_models: tuple[str, ...] | None = None
    ) -> tuple[Target, ...]:
        """The targets to try for ``model`` (an alias or a target's name), best first.

        :raises NotFoundError: no such alias or target.
        :raises PermissionDeniedError: the key may not use it.
        :raises InvalidRequestError: it exists but cannot do ``operation``.
        """
        alias = self.aliases.get(model)
        names = [entry.target for entry in alias.targets] if alias else [model]
        candidates = [self.targets[name] for name in names if name in self.targets]
        if not candidates:
            raise NotFoundError(
                f"The model '{model}' does not exist. GET /v1/models lists what does.",
                code="model_not_found",
                param="model",
            )
        if allowed_models is not None and model not in allowed_models:
            raise PermissionDeniedError(f"This key may not use the model '{model}'.", param="model")
        able = tuple(target for target in candidates if operation in target.operations)
        if not able:
            raise InvalidRequestError(
                f"The model '{model}' cannot be used for this endpoint ({operation.value}).",
                code="unsupported_operation",
                param="model",
            )
        return able
