from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from sluice.domain.keys import ApiKey
from sluice.domain.ledger import Limits
from sluice.runtime.key_context import caller, caller_of, encode

EVERYTHING = Limits(
    rpm=960_000,
    tpm=10**12,
    monthly_budget_micro_usd=Decimal("999999999999999999.999999"),
    total_budget_micro_usd=Decimal("0.000001"),
    shards=64,
)


def key(limits: Limits, **fields: tuple[str, ...] | None) -> ApiKey:
    plain = ApiKey(id="key_1", key_hash="a-hash", name="Büro", prefix="sk", created_at=1, limits=limits)
    return msgspec.structs.replace(plain, **fields)


@pytest.mark.parametrize("limits", [Limits(), Limits(shards=8), Limits(rpm=1), EVERYTHING])
@pytest.mark.parametrize("scopes", [(), ("batch",), ("inference", "batch", "workflow")])
@pytest.mark.parametrize("allowed_models", [None, ("auto",), ("auto", "bedrock/us.one:v1"), ()])
def test_the_route_knows_of_the_key_what_the_authorizer_knew(
    limits: Limits, scopes: tuple[str, ...], allowed_models: tuple[str, ...] | None
) -> None:
    held = key(limits, scopes=scopes, allowed_models=allowed_models)
    context = encode(held)
    # API Gateway takes no lists and no nulls, and adds a value of its own.
    assert all(isinstance(value, str) for value in context.values())
    assert caller({**context, "principalId": "key_1", "integrationLatency": "3"}, "r") == caller_of(held, "r")


def test_neither_the_hash_nor_the_prefix_is_told() -> None:
    assert not {"a-hash", "sk"} & set(encode(key(EVERYTHING)).values())


def test_amounts_are_told_without_an_exponent() -> None:
    limits = Limits(monthly_budget_micro_usd=Decimal("1E+7"), total_budget_micro_usd=Decimal("1E-7"))
    context = encode(key(limits))
    assert (context["monthly_budget_micro_usd"], context["total_budget_micro_usd"]) == ("10000000", "0.0000001")


def test_a_route_without_an_authorizer_has_no_caller() -> None:
    assert caller({}, "request-1") is None


def test_a_context_of_before_there_were_limits_has_none() -> None:
    found = caller({"key_id": "key_1", "key_name": "x", "allowed_models": "auto"}, "request-1")
    assert found is not None
    assert (found.limits, found.scopes, found.allowed_models) == (Limits(), (), ("auto",))


@pytest.mark.parametrize("broken", [{"rpm": "many"}, {"shards": ""}, {"total_budget_micro_usd": "1,5"}])
def test_a_limit_that_cannot_be_read_is_never_taken_for_none(broken: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="no number"):
        caller({"key_id": "key_1", **broken}, "request-1")
