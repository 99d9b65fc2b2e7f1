from __future__ import annotations

import json
from decimal import Decimal
from typing import Any, TypeVar

import msgspec
import pytest

from sluice.domain.errors import InvalidRequestError
from sluice.domain.keys import ApiKey, KeySettings, RetiringSecret, Scope
from sluice.domain.ledger import Limits
from sluice.wire.keys import (
    AdminKeyRequest,
    AdminKeyRotateRequest,
    AdminKeyUpdateRequest,
    KeyList,
    KeyObject,
    KeyWithSecret,
)
from sluice.wire.parsing import parse

T = TypeVar("T")
EVERYTHING = {
    "name": "Büro",
    "scopes": ["inference", "batch"],
    "allowed_models": ["auto", "bedrock/one"],
    "rpm": 60,
    "tpm": 10_000,
    "monthly_budget_usd": "12.50",
    "total_budget_usd": "100",
    "expires_at": 2_000_000_000,
}
SETTINGS = KeySettings(
    name="Büro",
    scopes=("inference", "batch"),
    allowed_models=("auto", "bedrock/one"),
    limits=Limits(
        rpm=60, tpm=10_000, monthly_budget_micro_usd=Decimal(12_500_000), total_budget_micro_usd=Decimal(100_000_000)
    ),
    expires_at=2_000_000_000,
)
KEY = ApiKey(
    id="key_1",
    key_hash="a-hash",
    name="Büro",
    prefix="sk-sluice-abcd",
    created_at=1,
    scopes=("batch",),
    allowed_models=("auto",),
    expires_at=2_000,
    limits=SETTINGS.limits,
    retiring=(
        RetiringSecret(key_hash="old-hash", prefix="sk-sluice-old1", retires_at=999),
        RetiringSecret(key_hash="older-hash", prefix="sk-sluice-old2", retires_at=1_500),
    ),
)


def ask(kind: type[T], fields: dict[str, Any]) -> T:
    return parse(json.dumps(fields).encode(), kind)


def shown(value: object) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(msgspec.json.encode(value))
    return plain


def test_a_name_is_all_it_takes() -> None:
    assert ask(AdminKeyRequest, {"name": "Büro"}).to_settings() == KeySettings(name="Büro")


def test_everything_may_be_limited() -> None:
    assert ask(AdminKeyRequest, EVERYTHING).to_settings() == SETTINGS


def test_what_is_named_twice_counts_once() -> None:
    settings = ask(AdminKeyRequest, {"name": "x", "scopes": ["batch"] * 3, "allowed_models": ["a", "a"]}).to_settings()
    assert (settings.scopes, settings.allowed_models) == (("batch",), ("a",))


WRONG = [
    ({"name": ""}, "name"),
    ({"name": "two\nlines"}, "name"),
    ({"name": "a line\n"}, "name"),
    ({"name": "x" * 129}, "name"),
    ({"allowed_models": []}, "allowed_models"),
    ({"allowed_models": "auto"}, "allowed_models"),
    ({"allowed_models": ["a,b"]}, "allowed_models[0]"),
    ({"allowed_models": ["auto", ""]}, "allowed_models[1]"),
    ({"allowed_models": ["auto\n"]}, "allowed_models[0]"),
    ({"scopes": []}, "scopes"),
    ({"scopes": ["batch", "everything"]}, "scopes[1]"),
    ({"expires_at": "tomorrow"}, "expires_at"),
    ({"expires_at": 0}, "expires_at"),
    ({"expires_at": 10**12}, "expires_at"),
    ({"rpm": 0}, "rpm"),
    ({"rpm": 960_001}, "rpm"),
    ({"rpm": 1.5}, "rpm"),
    ({"tpm": 0}, "tpm"),
    ({"tpm": 10**13}, "tpm"),
    ({"monthly_budget_usd": 5}, "monthly_budget_usd"),
    ({"monthly_budget_usd": "-5"}, "monthly_budget_usd"),
    ({"total_budget_usd": "1e3"}, "total_budget_usd"),
    ({"total_budget_usd": "5\n"}, "total_budget_usd"),
]


@pytest.mark.parametrize(("fields", "param"), [({}, "name"), *WRONG])
def test_what_is_wrong_with_a_new_key_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        ask(AdminKeyRequest, {"name": "x"} | fields if fields else {}).to_settings()
    assert raised.value.param == param


@pytest.mark.parametrize(("fields", "param"), [({"name": None}, "name"), *WRONG])
def test_what_is_wrong_with_a_change_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        ask(AdminKeyUpdateRequest, fields).over(SETTINGS)
    assert raised.value.param == param


# 46 names of 128 characters and one of 66, with commas between them.
MOST_MODELS = [f"{number:0128}" for number in range(46)] + ["x" * 66]


def test_no_more_models_are_taken_than_the_authorizer_can_hand_on() -> None:
    assert ask(AdminKeyRequest, {"name": "x", "allowed_models": MOST_MODELS}).to_settings().allowed_models
    assert ask(AdminKeyUpdateRequest, {"allowed_models": [*MOST_MODELS, MOST_MODELS[0]]}).over(SETTINGS).allowed_models
    too_many = [*MOST_MODELS[:-1], "x" * 67]
    with pytest.raises(InvalidRequestError, match="6,001 bytes") as raised:
        ask(AdminKeyRequest, {"name": "x", "allowed_models": too_many}).to_settings()
    assert raised.value.param == "allowed_models"
    with pytest.raises(InvalidRequestError, match="6,000 are allowed") as raised:
        ask(AdminKeyUpdateRequest, {"allowed_models": too_many}).over(SETTINGS)
    assert raised.value.param == "allowed_models"


def test_a_change_of_something_else_leaves_more_models_than_are_taken_now() -> None:
    settings = msgspec.structs.replace(SETTINGS, allowed_models=("x" * 7_000,))
    assert ask(AdminKeyUpdateRequest, {"rpm": 5}).over(settings).allowed_models == settings.allowed_models


def test_an_unknown_scope_is_told_which_there_are() -> None:
    with pytest.raises(InvalidRequestError) as raised:
        ask(AdminKeyRequest, {"name": "x", "scopes": ["chat"]})
    assert all(scope.value in raised.value.message for scope in Scope)
    assert "chat" not in raised.value.message


@pytest.mark.parametrize("kind", [AdminKeyRequest, AdminKeyUpdateRequest, AdminKeyRotateRequest])
def test_a_misspelt_field_is_refused_and_not_a_limit_less(kind: type) -> None:
    with pytest.raises(InvalidRequestError, match="monthly_budget"):
        ask(kind, {"name": "x", "monthly_budget": "5"} if kind is AdminKeyRequest else {"monthly_budget": "5"})


def test_a_change_of_nothing_changes_nothing() -> None:
    assert ask(AdminKeyUpdateRequest, {}).over(SETTINGS) == SETTINGS


@pytest.mark.parametrize("field", [field for field in EVERYTHING if field != "name"])
def test_null_takes_one_restriction_away_and_leaves_the_others(field: str) -> None:
    changed = ask(AdminKeyUpdateRequest, {field: None}).over(SETTINGS)
    assert changed == ask(AdminKeyRequest, EVERYTHING | {field: None}).to_settings()
    assert changed != SETTINGS


def test_a_change_changes_what_it_names_and_never_the_shards() -> None:
    before = msgspec.structs.replace(SETTINGS, limits=msgspec.structs.replace(SETTINGS.limits, shards=8))
    fields = {"name": "new", "rpm": 5, "total_budget_usd": "0", "scopes": ["workflow"]}
    after = ask(AdminKeyUpdateRequest, fields).over(before)
    assert (after.name, after.scopes, after.limits.rpm, after.limits.shards) == ("new", ("workflow",), 5, 8)
    assert after.limits.total_budget_micro_usd == 0
    assert (after.limits.tpm, after.allowed_models, after.expires_at) == (
        10_000,
        ("auto", "bedrock/one"),
        2_000_000_000,
    )


@pytest.mark.parametrize(("fields", "seconds"), [({}, 86_400), ({"overlap_seconds": 0}, 0)])
def test_secrets_overlap_for_a_day_unless_told_otherwise(fields: dict[str, Any], seconds: int) -> None:
    assert ask(AdminKeyRotateRequest, fields).overlap_seconds == seconds


@pytest.mark.parametrize("seconds", [-1, 2_592_001, "1", None])
def test_secrets_overlap_for_thirty_days_at_most(seconds: object) -> None:
    with pytest.raises(InvalidRequestError):
        ask(AdminKeyRotateRequest, {"overlap_seconds": seconds})


def test_a_key_is_shown_with_everything_but_its_secrets() -> None:
    plain = shown(KeyObject.of(KEY, now=1_000))
    assert plain == {
        "object": "api_key",
        "id": "key_1",
        "name": "Büro",
        "status": "active",
        "prefix": "sk-sluice-abcd",
        "scopes": ["batch"],
        "allowed_models": ["auto"],
        "rpm": 60,
        "tpm": 10_000,
        "monthly_budget_usd": "12.5",
        "total_budget_usd": "100",
        "created_at": 1,
        "expires_at": 2_000,
        "revoked_at": None,
        "retiring": [{"prefix": "sk-sluice-old2", "retires_at": 1_500}],
    }


def test_no_hash_is_ever_shown() -> None:
    page = KeyList.of([KEY], "key_1", now=1_000)
    for value in (KeyObject.of(KEY, now=0), page, KeyWithSecret.showing(KEY, "the-secret", now=0)):
        assert "hash" not in json.dumps(shown(value))


def test_the_secret_is_shown_beside_the_key() -> None:
    plain = shown(KeyWithSecret.showing(KEY, "the-secret", now=2_000))
    assert plain == {**shown(KeyObject.of(KEY, now=2_000)), "key": "the-secret"}
    assert plain["status"] == "expired"


@pytest.mark.parametrize(("next_after", "more"), [("key_1", True), (None, False)])
def test_a_page_says_whether_there_is_more(next_after: str | None, more: bool) -> None:
    plain = shown(KeyList.of([KEY], next_after, now=1_000))
    assert (plain["has_more"], plain["next_after"], len(plain["data"])) == (more, next_after, 1)
