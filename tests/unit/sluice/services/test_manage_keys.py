import pytest

from sluice.domain.errors import InvalidRequestError, NotFoundError
from sluice.domain.keys import hash_secret
from sluice.services.manage_keys import ManageKeys
from sluice.testing.keys import FakeKeys


def test_only_the_hash_of_a_new_key_is_stored() -> None:
    store = FakeKeys()
    key, secret = ManageKeys(store, lambda: 1_000.9).create(name="mobile app", allowed_models=["auto"], scopes=["chat"])
    assert list(store.stored) == [hash_secret(secret)]
    assert secret not in repr(store.stored)
    assert (key.created_at, key.allowed_models, key.scopes) == (1_000, ("auto",), ("chat",))
    assert secret.startswith(key.prefix)
    assert len(key.prefix) < len(secret) / 3


def test_two_keys_never_agree() -> None:
    manage = ManageKeys(FakeKeys())
    (one, first), (two, second) = manage.create(name="a"), manage.create(name="a")
    assert one.id != two.id
    assert first != second


@pytest.mark.parametrize("expires_at", [999, 1_000])
def test_a_key_cannot_be_born_expired(expires_at: int) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        ManageKeys(FakeKeys(), lambda: 1_000).create(name="x", expires_at=expires_at)
    assert raised.value.param == "expires_at"


def test_a_revoked_key_is_not_usable_any_more() -> None:
    store = FakeKeys()
    manage = ManageKeys(store, lambda: 1_000)
    key, _ = manage.create(name="x")
    assert not manage.revoke(key.id).usable_at(1_000)


def test_revoking_what_is_not_there_is_not_found() -> None:
    with pytest.raises(NotFoundError):
        ManageKeys(FakeKeys()).revoke("key_nonsense")
