"""What a key store does, in memory and in DynamoDB."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from sluice.adapters import dynamodb_audit
from sluice.adapters.dynamodb import Table
from sluice.adapters.dynamodb_keys import DynamoDBKeys
from sluice.domain.audit import AdminAction, Administrator, AdminVerb
from sluice.domain.errors import ConflictError, NotFoundError, StateConflictError
from sluice.domain.ids import new_id
from sluice.domain.keys import ApiKey, KeySettings, RetiringSecret, hash_secret, new_secret
from sluice.domain.ledger import Limits
from sluice.domain.ports import KeyStore
from sluice.services.manage_keys import ManageKeys
from sluice.testing.keys import FakeKeys
from tests.contract.state.conftest import Aws

NOW = 1_700_000_000
ADA = Administrator(actor="arn:aws:iam::000000000000:user/ada", request_id="request-1")
LIMITS = Limits(
    rpm=60,
    tpm=10**12,
    monthly_budget_micro_usd=Decimal("999999999999999999.999999"),
    total_budget_micro_usd=Decimal("0.000001"),
    shards=64,
)


@pytest.fixture(scope="module")
def table(aws: Aws) -> Table:
    return aws.table()[0]


@pytest.fixture(params=["fake", "real"])
def keys(request: pytest.FixtureRequest) -> KeyStore:
    return FakeKeys() if request.param == "fake" else DynamoDBKeys(request.getfixturevalue("table"))


@pytest.fixture(params=["fake", "real"])
def empty(request: pytest.FixtureRequest) -> KeyStore:
    """A store without the keys of other tests."""
    return FakeKeys() if request.param == "fake" else DynamoDBKeys(request.getfixturevalue("aws").table()[0])


def new_key(**fields: Any) -> ApiKey:
    secret = new_secret()
    plain = ApiKey(
        id=new_id("key"),
        key_hash=hash_secret(secret),
        name="Büro",
        prefix=secret[:14],
        created_at=NOW,
        scopes=("batch",),
        version=1,
    )
    return msgspec.structs.replace(plain, **fields)


def rotated(key: ApiKey, *, retires_at: int = NOW + 100) -> tuple[ApiKey, ApiKey]:
    """The key's old and new secret."""
    secret = new_secret()
    retiring = (RetiringSecret(key_hash=key.key_hash, prefix=key.prefix, retires_at=retires_at),)
    shared = {"retiring": retiring, "version": key.version + 1}
    old = msgspec.structs.replace(key, retires_at=retires_at, **shared)
    return old, msgspec.structs.replace(key, key_hash=hash_secret(secret), prefix=secret[:14], **shared)


def changed(key: ApiKey, **fields: Any) -> ApiKey:
    return msgspec.structs.replace(key, version=key.version + 1, **fields)


def did(verb: AdminVerb = AdminVerb.KEY_CREATED) -> AdminAction:
    return ADA.did(verb, "key_1", at=NOW + 0.25, changes={"rpm": "5"})


@pytest.mark.parametrize(
    "key",
    [
        new_key(),
        new_key(allowed_models=("auto", "bedrock/one"), expires_at=NOW + 60, scopes=()),
        new_key(limits=LIMITS),
        *rotated(new_key()),
    ],
)
def test_a_created_key_is_found_by_its_hash_and_its_id_as_it_was(keys: KeyStore, key: ApiKey) -> None:
    fresh = msgspec.structs.replace(key, id=new_id("key"), key_hash=hash_secret(new_secret()))
    keys.create(fresh, did())
    assert keys.get(fresh.key_hash) == fresh
    assert keys.by_id(fresh.id) == (fresh,)


def test_what_is_not_there_is_none(keys: KeyStore) -> None:
    assert keys.get(hash_secret(new_secret())) is None
    assert keys.by_id(new_id("key")) == ()


def test_a_key_is_never_overwritten(keys: KeyStore) -> None:
    key = new_key()
    keys.create(key, did())
    with pytest.raises(StateConflictError):
        keys.create(msgspec.structs.replace(key, name="thief"), did())
    assert keys.get(key.key_hash) == key


def test_a_rotated_key_has_two_secrets_the_new_one_first(keys: KeyStore) -> None:
    key = new_key()
    keys.create(key, did())
    old, new = rotated(key)
    keys.replace([old], did(), added=new)
    assert keys.by_id(key.id) == (new, old)
    assert (keys.get(old.key_hash), keys.get(new.key_hash)) == (old, new)


def test_a_change_is_made_to_all_secrets_or_to_none(keys: KeyStore) -> None:
    key = new_key()
    keys.create(key, did())
    old, new = rotated(key)
    keys.replace([old], did(), added=new)
    stale = msgspec.structs.replace(new, name="stale")
    with pytest.raises(StateConflictError):
        keys.replace([changed(old, name="half"), stale], did())
    assert [secret.name for secret in keys.by_id(key.id)] == ["Büro", "Büro"]
    keys.replace([changed(old, revoked_at=NOW), changed(new, revoked_at=NOW)], did())
    assert [secret.revoked_at for secret in keys.by_id(key.id)] == [NOW, NOW]


def test_a_new_secret_that_is_there_already_changes_nothing(keys: KeyStore) -> None:
    key, other = new_key(), new_key()
    keys.create(key, did())
    keys.create(other, did())
    with pytest.raises(StateConflictError):
        keys.replace([changed(key, name="x")], did(), added=changed(other, id=key.id))
    assert keys.get(key.key_hash) == key
    assert keys.get(other.key_hash) == other


def test_a_restriction_that_is_taken_away_is_gone(keys: KeyStore) -> None:
    key = new_key(limits=LIMITS, expires_at=NOW + 60, allowed_models=("auto",))
    keys.create(key, did())
    free = changed(key, limits=Limits(shards=64), expires_at=None, allowed_models=None, scopes=())
    keys.replace([free], did())
    assert keys.get(key.key_hash) == free


def test_changing_what_is_not_there_is_not_found(keys: KeyStore) -> None:
    key = new_key()
    with pytest.raises(NotFoundError):
        keys.replace([key], did())
    assert keys.get(key.key_hash) is None


def test_keys_are_listed_once_each_in_the_order_of_their_ids(empty: KeyStore) -> None:
    made = sorted((new_key() for _ in range(7)), key=lambda key: key.id)
    for key in made:
        empty.create(key, did())
    current = list(made)
    for index in (0, 2, 3, 6):
        old, new = rotated(made[index])
        empty.replace([old], did(), added=new)
        current[index] = new
    for limit in (1, 2, 3, 7, 50):
        seen: list[ApiKey] = []
        after: str | None = None
        while True:
            page, after = empty.page(limit=limit, after=after)
            assert len(page) <= limit
            seen += page
            if after is None:
                break
        assert seen == current, limit
    assert empty.page(limit=3, after=made[-1].id) == ((), None)


def test_no_keys_are_an_empty_page(empty: KeyStore) -> None:
    assert empty.page(limit=10, after=None) == ((), None)


def test_of_changes_that_race_one_is_made(keys: KeyStore) -> None:
    key = new_key()
    keys.create(key, did())
    barrier = threading.Barrier(8)

    def change(name: str) -> bool:
        barrier.wait()
        try:
            keys.replace([changed(key, name=name)], did())
        except StateConflictError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(change, [f"name {number}" for number in range(8)]))
    assert won.count(True) == 1
    stored = keys.get(key.key_hash)
    assert stored is not None
    assert stored.name == f"name {won.index(True)}"


def test_a_rotation_that_races_with_a_revocation_leaves_nothing_open(keys: KeyStore) -> None:
    manage = ManageKeys(keys)
    for _ in range(5):
        key, first = manage.create(KeySettings(name="raced"), ADA)
        barrier = threading.Barrier(2)

        def rotate(key_id: str = key.id, gate: threading.Barrier = barrier) -> str | None:
            gate.wait()
            try:
                return manage.rotate(key_id, ADA, overlap_s=100)[1]
            except ConflictError:
                return None

        def revoke(key_id: str = key.id, gate: threading.Barrier = barrier) -> None:
            gate.wait()
            manage.revoke(key_id, ADA)

        with ThreadPoolExecutor(2) as pool:
            rotating, revoking = pool.submit(rotate), pool.submit(revoke)
            revoking.result()
            second = rotating.result()
        for secret in filter(None, (first, second)):
            stored = keys.get(hash_secret(secret))
            assert stored is not None
            assert stored.revoked_at is not None


def test_a_key_stored_before_there_were_limits_can_be_read_and_changed(table: Table) -> None:
    keys, key_hash, key_id = DynamoDBKeys(table), hash_secret(new_secret()), new_id("key")
    table.put(
        {
            "pk": f"KEY#{key_hash}",
            "sk": "META",
            "gsi1pk": "KEYS",
            "gsi1sk": key_id,
            "id": key_id,
            "name": "old",
            "prefix": "sk-sluice-abcd",
            "created_at": NOW,
            "scopes": [],
        }
    )
    old = keys.get(key_hash)
    assert old is not None
    assert (old.limits, old.version, old.scopes) == (Limits(), 0, ())
    renamed = ManageKeys(keys).update(key_id, lambda settings: msgspec.structs.replace(settings, name="new"), ADA)
    assert keys.get(key_hash) == renamed
    assert (renamed.name, renamed.version) == ("new", 1)


def test_what_was_done_is_stored_with_the_change_and_only_then(table: Table) -> None:
    keys, key = DynamoDBKeys(table), new_key()
    created, refused = did(), did(AdminVerb.KEY_UPDATED)
    keys.create(key, created)
    with pytest.raises(StateConflictError):
        keys.replace([key], refused)
    stored = {item["id"]: item for item in table.query("AUDIT#20231114")}
    item = stored[created.id]
    assert dynamodb_audit.from_item(item) == created
    assert item["sk"] == f"2023-11-14T22:13:20.250+00:00#{created.id}"
    assert item["expires_at"] == NOW + 400 * 86_400
    assert refused.id not in stored


def test_a_keys_own_expiry_does_not_delete_it_but_revocation_and_rotation_do_in_the_end(table: Table) -> None:
    """``expires_at`` is the table's TTL attribute, and an expired key is something people ask about."""
    keys, key = DynamoDBKeys(table), new_key(expires_at=NOW + 60)

    def forgotten_at(key_hash: str) -> object:
        item = table.get(f"KEY#{key_hash}", "META")
        assert item is not None
        return item.get("expires_at")

    keys.create(key, did())
    assert forgotten_at(key.key_hash) is None
    old, new = rotated(key)
    keys.replace([old], did(), added=new)
    assert forgotten_at(new.key_hash) is None
    assert forgotten_at(old.key_hash) == NOW + 100 + 7 * 86_400
    keys.replace([changed(old, revoked_at=NOW), changed(new, revoked_at=NOW)], did())
    assert forgotten_at(old.key_hash) == forgotten_at(new.key_hash) == NOW + 90 * 86_400
