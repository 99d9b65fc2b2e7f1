from __future__ import annotations

import msgspec
import pytest

from sluice.domain.keys import (
    ApiKey,
    KeyStatus,
    RetiringSecret,
    caller_of,
    hash_secret,
    new_secret,
    newest_first,
    whole,
)
from sluice.domain.ledger import Limits

NOW = 1_000
LIMITS = Limits(rpm=60, shards=2)


def secret(name: str, *, retires_at: int | None = None, **fields: object) -> ApiKey:
    plain = ApiKey(id="key_1", key_hash=name, name="tests", prefix=name, created_at=1, retires_at=retires_at)
    return msgspec.structs.replace(plain, **fields)


def retiring(*keys: ApiKey) -> tuple[RetiringSecret, ...]:
    return tuple(
        RetiringSecret(key_hash=key.key_hash, prefix=key.prefix, retires_at=key.retires_at or 0) for key in keys
    )


@pytest.mark.parametrize(
    ("fields", "status", "usable"),
    [
        ({}, KeyStatus.ACTIVE, True),
        ({"expires_at": NOW + 1}, KeyStatus.ACTIVE, True),
        ({"expires_at": NOW}, KeyStatus.EXPIRED, False),
        ({"revoked_at": 5}, KeyStatus.REVOKED, False),
        ({"revoked_at": 5, "expires_at": 5}, KeyStatus.REVOKED, False),
        ({"retires_at": NOW + 1}, KeyStatus.ACTIVE, True),
        ({"retires_at": NOW}, KeyStatus.ACTIVE, False),
        ({"retires_at": NOW + 1, "revoked_at": NOW}, KeyStatus.REVOKED, False),
    ],
)
def test_a_secret_opens_doors_until_one_of_its_ends(fields: dict[str, int], status: KeyStatus, usable: bool) -> None:
    key = secret("a", **fields)
    assert (key.status_at(NOW), key.usable_at(NOW)) == (status, usable)


def test_a_key_stored_before_there_were_limits_is_read_with_none() -> None:
    old = {"id": "key_1", "key_hash": "a", "name": "x", "prefix": "sk", "created_at": 1, "scopes": ["chat"]}
    key = msgspec.convert(old, ApiKey)
    assert (key.limits, key.version, key.retiring) == (Limits(), 0, ())
    assert whole([key], now=NOW) == (key,)


def test_a_key_with_one_secret_is_whole() -> None:
    key = secret("a")
    assert whole([key], now=NOW) == (key,)


def test_a_rotated_key_is_whole_with_every_secret_that_still_works() -> None:
    dead, old = secret("a", retires_at=NOW), secret("b", retires_at=NOW + 9)
    shared = {"retiring": retiring(dead, old), "version": 3}
    dead, old, current = (msgspec.structs.replace(key, **shared) for key in (dead, old, secret("c")))
    assert whole([dead, old, current], now=NOW) == (current, old)
    assert whole([current, old], now=NOW) == (current, old)


@pytest.mark.parametrize("missing", ["current", "old"])
def test_a_key_of_which_a_live_secret_is_not_seen_is_not_whole(missing: str) -> None:
    old = secret("a", retires_at=NOW + 9)
    shared = {"retiring": retiring(old), "version": 2}
    old, current = (msgspec.structs.replace(key, **shared) for key in (old, secret("b")))
    assert whole([old] if missing == "current" else [current], now=NOW) is None


def test_secrets_of_different_versions_are_not_whole() -> None:
    old = secret("a", retires_at=NOW + 9, version=1)
    assert whole([old, secret("b", retiring=retiring(old), version=2)], now=NOW) is None
    assert whole([], now=NOW) is None


def test_the_current_secret_comes_first_then_the_one_that_retires_last() -> None:
    first, second, current = secret("a", retires_at=5), secret("b", retires_at=9), secret("c")
    assert newest_first([first, current, second]) == (current, second, first)


def test_the_caller_has_what_the_key_has() -> None:
    caller = caller_of(secret("a", scopes=("batch",), allowed_models=("auto",), limits=LIMITS), "request-1")
    assert (caller.key_id, caller.request_id) == ("key_1", "request-1")
    assert (caller.scopes, caller.allowed_models, caller.limits) == (("batch",), ("auto",), LIMITS)


def test_secrets_are_long_and_never_alike() -> None:
    made = {new_secret() for _ in range(100)}
    assert len(made) == 100
    assert all(len(each) == len("sk-sluice-") + 43 for each in made)
    assert len(hash_secret(made.pop())) == 64
