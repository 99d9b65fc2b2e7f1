"""What the authorizer tells the route's function of a key, and back: both ends of the one contract.

API Gateway passes on flat values only, no list and no null, and hands each of them over as text:
https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-lambda-authorizer-output.html
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from sluice.domain.inference import Caller
from sluice.domain.keys import ApiKey, caller_of
from sluice.domain.ledger import NO_LIMITS, Limits

__all__ = ["caller", "caller_of", "encode"]

# No name of a model or a scope has one (sluice.wire.keys).
_SEPARATOR: Final = ","
_COUNTS: Final = ("rpm", "tpm", "shards")
_AMOUNTS: Final = ("monthly_budget_micro_usd", "total_budget_micro_usd")


def encode(key: ApiKey) -> dict[str, str]:
    """The authorizer's context for a key. What the key does not have is left out."""
    context = {"key_id": key.id, "key_name": key.name}
    if key.allowed_models is not None:
        context["allowed_models"] = _SEPARATOR.join(key.allowed_models)
    if key.scopes:
        context["scopes"] = _SEPARATOR.join(key.scopes)
    limits = {name: getattr(key.limits, name) for name in (*_COUNTS, *_AMOUNTS)}
    return context | {name: f"{limit:f}" if name in _AMOUNTS else str(limit) for name, limit in _given(limits).items()}


def caller(context: Mapping[str, str], request_id: str) -> Caller | None:
    """Who asks, by the context that the authorizer gave; ``None`` where no authorizer was asked.

    :raises ValueError: it is not what :func:`encode` writes, so that the two are not of one deployment.
    """
    key_id = context.get("key_id")
    if not key_id:
        return None
    allowed_models, scopes = context.get("allowed_models"), context.get("scopes")
    return Caller(
        key_id=key_id,
        request_id=request_id,
        allowed_models=None if allowed_models is None else _names(allowed_models),
        scopes=_names(scopes or ""),
        limits=_limits(context),
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(_SEPARATOR) if name)


def _limits(context: Mapping[str, str]) -> Limits:
    values = _given({name: context.get(name) for name in (*_COUNTS, *_AMOUNTS)})
    if not values:
        return NO_LIMITS
    try:
        return msgspec.convert(values, Limits, strict=False)
    except msgspec.ValidationError as exc:
        raise ValueError("The authorizer's context holds a limit that is no number.") from exc


def _given(values: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in values.items() if value is not None}
