from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import msgspec
import pytest

from sluice.domain.audit import Administrator, AdminVerb
from sluice.domain.errors import ConflictError, InvalidRequestError, NotFoundError, StateConflictError, StateError
from sluice.domain.keys import MOST_SECRETS, ApiKey, KeySettings, KeyStatus, hash_secret, new_secret
from sluice.domain.ledger import Limits
from sluice.services.manage_keys import ATTEMPTS, ManageKeys
from sluice.testing.clock import FakeClock
from sluice.testing.keys import FakeKeys

ADA = Administrator(actor="arn:aws:iam::000000000000:user/ada", request_id="request-1")
SETTINGS = KeySettings(name="mobile app", allowed_models=("auto",), scopes=("batch",), limits=Limits(rpm=60))


class World:
    def __init__(self) -> None:
        self.store = FakeKeys()
        self.clock = FakeClock(start=1_000.9)
        self.manage = ManageKeys(self.store, self.clock, self.clock.sleep)

    def create(self, settings: KeySettings = SETTINGS) -> tuple[ApiKey, str]:
        return self.manage.create(settings, ADA)

    def rotate(self, key: ApiKey, *, overlap_s: int = 100) -> tuple[ApiKey, str]:
        return self.manage.rotate(key.id, ADA, overlap_s=overlap_s)

    def opens(self, secret: str) -> bool:
        key = self.store.get(hash_secret(secret))
        return key is not None and key.usable_at(self.clock())

    def done(self) -> list[AdminVerb]:
        return [action.verb for action in self.store.actions]


@pytest.fixture
def world() -> World:
    return World()


def renamed(name: str, **limits: int | None) -> KeySettings:
    return msgspec.structs.replace(SETTINGS, name=name, limits=msgspec.structs.replace(SETTINGS.limits, **limits))


# ---- create ----


def test_only_the_hash_of_a_new_key_is_stored(world: World) -> None:
    key, secret = world.create()
    assert list(world.store.stored) == [hash_secret(secret)]
    assert secret not in repr(world.store.stored)
    assert secret not in repr(world.store.actions)
    assert hash_secret(secret) not in repr(world.store.actions)
    assert (key.created_at, key.settings, key.version) == (1_000, SETTINGS, 1)
    assert secret.startswith(key.prefix)
    assert len(key.prefix) < len(secret) / 3


def test_two_keys_never_agree(world: World) -> None:
    (one, first), (two, second) = world.create(), world.create()
    assert one.id != two.id
    assert first != second


@pytest.mark.parametrize("expires_at", [999, 1_000])
def test_a_key_cannot_be_born_expired(world: World, expires_at: int) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        world.create(msgspec.structs.replace(SETTINGS, expires_at=expires_at))
    assert raised.value.param == "expires_at"
    assert not world.store.stored


@pytest.mark.parametrize(
    ("limits", "shards"),
    [
        (Limits(), 8),
        (Limits(rpm=15_000), 1),
        (Limits(rpm=15_001), 2),
        (Limits(rpm=960_000), 64),
        (Limits(monthly_budget_micro_usd=Decimal(1)), 1),
    ],
)
def test_the_ledger_of_a_new_key_is_split_for_what_it_may_do(world: World, limits: Limits, shards: int) -> None:
    key, _ = world.create(msgspec.structs.replace(SETTINGS, limits=limits))
    assert key.limits == msgspec.structs.replace(limits, shards=shards)


def test_a_creation_is_recorded_with_what_was_decided(world: World) -> None:
    key, _ = world.create(msgspec.structs.replace(SETTINGS, limits=Limits(total_budget_micro_usd=Decimal(5_000_000))))
    [action] = world.store.actions
    assert (action.verb, action.actor, action.subject) == (AdminVerb.KEY_CREATED, ADA.actor, key.id)
    assert (action.at, action.request_id) == (1_000.9, "request-1")
    assert action.changes == {
        "prefix": key.prefix,
        "name": "mobile app",
        "scopes": "batch",
        "allowed_models": "auto",
        "total_budget_micro_usd": "5000000",
    }


# ---- look ----


def test_a_key_is_found_by_its_id(world: World) -> None:
    key, _ = world.create()
    renewed, _ = world.rotate(key)
    assert world.manage.get(key.id) == renewed


@pytest.mark.parametrize("key_id", ["key_nonsense", "key_" + "0" * 32, ""])
def test_what_is_not_there_is_not_found(world: World, key_id: str) -> None:
    for call in (
        lambda: world.manage.get(key_id),
        lambda: world.manage.update(key_id, lambda settings: settings, ADA),
        lambda: world.manage.rotate(key_id, ADA, overlap_s=0),
        lambda: world.manage.revoke(key_id, ADA),
    ):
        with pytest.raises(NotFoundError):
            call()
    assert world.store.actions == []


def test_what_cannot_be_an_id_is_not_looked_up(world: World) -> None:
    with pytest.raises(NotFoundError):
        world.manage.get("key_nonsense")
    assert world.store.reads == 0


def test_keys_come_in_pages_that_leave_none_out(world: World) -> None:
    made = sorted(world.create()[0].id for _ in range(7))
    seen: list[str] = []
    after: str | None = None
    while True:
        page, after = world.manage.page(limit=3, after=after)
        seen += [key.id for key in page]
        if after is None:
            break
    assert seen == made


# ---- update ----


def test_a_change_holds_for_every_secret_of_the_key(world: World) -> None:
    key, old = world.create()
    _, new = world.rotate(key)
    changed = world.manage.update(key.id, lambda _: renamed("other", rpm=5), ADA)
    assert (changed.name, changed.limits.rpm, changed.version) == ("other", 5, 3)
    for secret in (old, new):
        stored = world.store.stored[hash_secret(secret)]
        assert (stored.name, stored.limits.rpm, stored.version) == ("other", 5, 3)
        assert world.opens(secret)


def test_a_change_is_recorded_with_what_is_different(world: World) -> None:
    key, _ = world.create()
    world.manage.update(key.id, lambda _: renamed("mobile app", rpm=None, tpm=9), ADA)
    assert world.store.actions[-1].verb is AdminVerb.KEY_UPDATED
    assert world.store.actions[-1].changes == {"rpm": "none", "tpm": "9"}


def test_a_change_of_nothing_is_none(world: World) -> None:
    key, _ = world.create()
    assert world.manage.update(key.id, lambda settings: settings, ADA) == key
    assert world.done() == [AdminVerb.KEY_CREATED]


def test_a_key_is_never_allowed_more_than_its_ledger_can_take(world: World) -> None:
    key, _ = world.create()
    assert world.manage.update(key.id, lambda _: renamed("x", rpm=15_000), ADA).limits.rpm == 15_000
    with pytest.raises(InvalidRequestError, match="Create a new key") as raised:
        world.manage.update(key.id, lambda _: renamed("x", rpm=15_001), ADA)
    assert (raised.value.param, "15000" in raised.value.message) == ("rpm", True)


def test_an_expired_key_may_be_given_a_later_end(world: World) -> None:
    key, secret = world.create(msgspec.structs.replace(SETTINGS, expires_at=1_010))
    world.clock.advance(20)
    assert not world.opens(secret)
    with pytest.raises(InvalidRequestError):
        world.manage.update(key.id, lambda old: msgspec.structs.replace(old, expires_at=1_015), ADA)
    world.manage.update(key.id, lambda old: msgspec.structs.replace(old, name="still expired"), ADA)
    world.manage.update(key.id, lambda old: msgspec.structs.replace(old, expires_at=1_050), ADA)
    assert world.opens(secret)


# ---- rotate ----


def test_both_secrets_work_until_the_old_one_retires(world: World) -> None:
    key, old = world.create()
    renewed, new = world.rotate(key, overlap_s=100)
    assert renewed.id == key.id
    assert new.startswith(renewed.prefix)
    assert [(secret.prefix, secret.retires_at) for secret in renewed.retiring] == [(key.prefix, 1_100)]
    world.clock.advance(99)
    assert world.opens(old)
    assert world.opens(new)
    world.clock.advance(0.1)
    assert not world.opens(old)
    assert world.opens(new)


def test_without_overlap_the_old_secrets_end_at_once(world: World) -> None:
    key, first = world.create()
    _, second = world.rotate(key, overlap_s=1_000)
    renewed, third = world.rotate(key, overlap_s=0)
    assert [world.opens(secret) for secret in (first, second, third)] == [False, False, True]
    assert renewed.retiring == ()


def test_a_second_rotation_never_prolongs_a_secret(world: World) -> None:
    key, first = world.create()
    world.rotate(key, overlap_s=10)
    world.rotate(key, overlap_s=1_000)
    assert world.store.stored[hash_secret(first)].retires_at == 1_010


def test_the_ledger_stays_the_same(world: World) -> None:
    key, _ = world.create(msgspec.structs.replace(SETTINGS, limits=Limits()))
    renewed, _ = world.rotate(key)
    assert (renewed.limits, renewed.settings, renewed.created_at) == (key.limits, key.settings, key.created_at)


def test_a_rotation_is_recorded_without_a_secret(world: World) -> None:
    key, _ = world.create()
    renewed, secret = world.rotate(key, overlap_s=7)
    action = world.store.actions[-1]
    assert (action.verb, action.changes) == (
        AdminVerb.KEY_ROTATED,
        {"prefix": renewed.prefix, "overlap_seconds": "7"},
    )
    assert secret not in repr(world.store.actions)


def test_a_key_cannot_gather_secrets_without_end(world: World) -> None:
    key, first = world.create()
    for _ in range(MOST_SECRETS - 1):
        world.rotate(key, overlap_s=1_000)
    with pytest.raises(ConflictError) as raised:
        world.rotate(key, overlap_s=1_000)
    assert raised.value.code == "too_many_secrets"
    assert world.opens(first)
    _, last = world.rotate(key, overlap_s=0)
    assert world.opens(last)
    assert not world.opens(first)


def test_an_expired_key_has_to_be_prolonged_first(world: World) -> None:
    key, _ = world.create(msgspec.structs.replace(SETTINGS, expires_at=1_010))
    world.clock.advance(20)
    with pytest.raises(ConflictError) as raised:
        world.rotate(key)
    assert raised.value.code == "key_expired"


# ---- revoke ----


def test_a_revoked_key_has_no_secret_that_opens_anything(world: World) -> None:
    key, first = world.create()
    _, second = world.rotate(key)
    _, third = world.rotate(key)
    revoked = world.manage.revoke(key.id, ADA)
    assert revoked.status_at(world.clock()) is KeyStatus.REVOKED
    assert not any(world.opens(secret) for secret in (first, second, third))
    assert world.done()[-1] is AdminVerb.KEY_REVOKED


def test_revoking_twice_keeps_the_first_time_and_its_record(world: World) -> None:
    key, _ = world.create()
    first = world.manage.revoke(key.id, ADA)
    world.clock.advance(5)
    assert world.manage.revoke(key.id, ADA) == first
    assert world.done() == [AdminVerb.KEY_CREATED, AdminVerb.KEY_REVOKED]


def test_a_revoked_key_cannot_be_brought_back(world: World) -> None:
    key, secret = world.create()
    world.manage.revoke(key.id, ADA)
    with pytest.raises(ConflictError) as raised:
        world.rotate(key)
    assert raised.value.code == "key_revoked"
    with pytest.raises(ConflictError):
        world.manage.update(key.id, lambda _: renamed("x"), ADA)
    assert not world.opens(secret)


def test_a_key_that_was_stored_before_changes_were_counted_can_be_changed(world: World) -> None:
    secret = new_secret()
    old = ApiKey(id="key_" + "0" * 32, key_hash=hash_secret(secret), name="old", prefix="sk", created_at=1)
    world.store.stored[old.key_hash] = old
    world.manage.update(old.id, lambda settings: msgspec.structs.replace(settings, name="new"), ADA)
    assert (world.store.stored[old.key_hash].name, world.store.stored[old.key_hash].version) == ("new", 1)
    world.manage.revoke(old.id, ADA)
    assert not world.opens(secret)


# ---- races ----


def test_a_secret_that_the_index_does_not_show_yet_cannot_slip_past_a_revocation(world: World) -> None:
    key, _ = world.create()
    _, new = world.rotate(key)
    world.store.unseen.add(hash_secret(new))
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        world.store.unseen.clear()

    ManageKeys(world.store, world.clock, sleep).revoke(key.id, ADA)
    assert not world.opens(new)
    assert len(waits) == 1


def test_a_revocation_does_what_it_can_even_if_a_secret_is_lost_for_good(world: World) -> None:
    key, old = world.create()
    _, new = world.rotate(key)
    world.store.unseen.add(hash_secret(new))
    del world.store.stored[hash_secret(new)]
    assert world.manage.revoke(key.id, ADA).revoked_at is not None
    assert not world.opens(old)


def test_anything_else_is_refused_as_long_as_a_secret_is_not_seen(world: World) -> None:
    key, _ = world.create()
    _, new = world.rotate(key)
    world.store.unseen.add(hash_secret(new))
    with pytest.raises(StateConflictError):
        world.manage.update(key.id, lambda _: renamed("x"), ADA)
    assert len(world.clock.slept) == ATTEMPTS - 1
    assert world.store.stored[hash_secret(new)].name == SETTINGS.name


def test_changes_that_race_are_all_made_and_none_is_lost(world: World) -> None:
    key, first = world.create()
    barrier = threading.Barrier(4)
    manage = ManageKeys(world.store, world.clock, lambda _: None)

    def prolong(limit: str) -> None:
        barrier.wait()
        while True:
            try:
                manage.update(
                    key.id,
                    lambda old: msgspec.structs.replace(
                        old,
                        limits=msgspec.structs.replace(old.limits, **{limit: (getattr(old.limits, limit) or 0) + 1}),
                    ),
                    ADA,
                )
            except StateConflictError:
                continue
            return

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(prolong, ["rpm", "tpm", "rpm", "tpm"]))
    limits = world.store.stored[hash_secret(first)].limits
    assert (limits.rpm, limits.tpm) == (62, 2)
    assert world.manage.get(key.id).version == 5


def test_a_rotation_that_races_with_a_revocation_leaves_nothing_open(world: World) -> None:
    manage = ManageKeys(world.store, world.clock, lambda _: None)
    for _ in range(20):
        key, first = world.create()
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
            rotated, revoked = pool.submit(rotate), pool.submit(revoke)
            revoked.result()
            second = rotated.result()
        assert not world.opens(first)
        assert second is None or not world.opens(second)


def test_a_store_that_is_away_changes_nothing(world: World) -> None:
    key, secret = world.create()
    world.store.failing = StateError("down")
    with pytest.raises(StateError):
        world.manage.revoke(key.id, ADA)
    world.store.failing = None
    assert world.opens(secret)
