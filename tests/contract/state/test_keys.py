"""What a key store does, in memory and in DynamoDB."""

from __future__ import annotations

import pytest

from sluice.adapters.dynamodb import Table
from sluice.adapters.dynamodb_keys import DynamoDBKeys
from sluice.domain.errors import NotFoundError, StateConflictError
from sluice.domain.ids import new_id
from sluice.domain.keys import ApiKey, hash_secret, new_secret
from sluice.domain.ports import KeyStore
from sluice.testing.keys import FakeKeys
from tests.contract.state.conftest import Aws

NOW = 1_700_000_000


@pytest.fixture(scope="module")
def table(aws: Aws) -> Table:
    return aws.table()[0]


@pytest.fixture(params=["fake", "real"])
def keys(request: pytest.FixtureRequest) -> KeyStore:
    return FakeKeys() if request.param == "fake" else DynamoDBKeys(request.getfixturevalue("table"))


def new_key(allowed_models: tuple[str, ...] | None = None, expires_at: int | None = None) -> ApiKey:
    secret = new_secret()
    return ApiKey(
        id=new_id("key"),
        key_hash=hash_secret(secret),
        name="Büro",
        prefix=secret[:14],
        created_at=NOW,
        scopes=("chat",),
        allowed_models=allowed_models,
        expires_at=expires_at,
    )


@pytest.mark.parametrize("key", [new_key(), new_key(("auto", "bedrock/one"), NOW + 60)])
def test_a_created_key_is_found_by_its_hash_as_it_was(keys: KeyStore, key: ApiKey) -> None:
    keys.create(key)
    assert keys.get(key.key_hash) == key


def test_what_is_not_there_is_none(keys: KeyStore) -> None:
    assert keys.get(hash_secret(new_secret())) is None


def test_a_key_is_never_overwritten(keys: KeyStore) -> None:
    key = new_key()
    keys.create(key)
    with pytest.raises(StateConflictError):
        keys.create(key)


def test_a_revoked_key_is_still_found_and_not_usable(keys: KeyStore) -> None:
    key = new_key(expires_at=NOW + 60)
    keys.create(key)
    revoked = keys.revoke(key.id, now=NOW + 5)
    assert (revoked.revoked_at, revoked.expires_at, revoked.usable_at(NOW + 5)) == (NOW + 5, NOW + 60, False)
    assert keys.get(key.key_hash) == revoked


def test_revoking_twice_keeps_the_first_time(keys: KeyStore) -> None:
    key = new_key()
    keys.create(key)
    keys.revoke(key.id, now=NOW + 5)
    assert keys.revoke(key.id, now=NOW + 9).revoked_at == NOW + 5


def test_revoking_what_is_not_there_is_not_found(keys: KeyStore) -> None:
    with pytest.raises(NotFoundError):
        keys.revoke("key_nonsense", now=NOW)


def test_a_keys_own_expiry_does_not_delete_it_but_revocation_does_in_the_end(table: Table) -> None:
    """``expires_at`` is the table's TTL attribute, and an expired key is something people ask about."""
    keys, key = DynamoDBKeys(table), new_key(expires_at=NOW + 60)
    keys.create(key)
    stored = table.get(f"KEY#{key.key_hash}", "META")
    assert stored is not None
    assert "expires_at" not in stored
    keys.revoke(key.id, now=NOW)
    stored = table.get(f"KEY#{key.key_hash}", "META")
    assert stored is not None
    assert stored["expires_at"] > NOW + 86_400
