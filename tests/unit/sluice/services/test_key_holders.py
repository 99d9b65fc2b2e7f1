import msgspec
import pytest

from sluice.domain.errors import AuthenticationError, StateError
from sluice.domain.inference import Caller
from sluice.domain.keys import ApiKey
from sluice.domain.ledger import Limits
from sluice.services.key_holders import REMEMBERED_KEYS, KeyHolders
from sluice.testing.clock import FakeClock
from sluice.testing.keys import FakeKeys

KEY = ApiKey(
    id="key_1",
    key_hash="hash-1",
    prefix="sk-sluice-abcd",
    name="tests",
    created_at=1,
    allowed_models=("auto",),
    limits=Limits(rpm=5),
)


class World:
    def __init__(self, *keys: ApiKey) -> None:
        self.clock = FakeClock()
        self.keys = FakeKeys(*keys)
        self.holders = KeyHolders(self.keys, now=self.clock, clock=self.clock)

    def caller(self) -> Caller:
        return self.holders.caller("key_1", "async_1")


def test_a_caller_has_what_the_key_has_now() -> None:
    caller = World(KEY).caller()
    assert (caller.key_id, caller.request_id, caller.allowed_models) == ("key_1", "async_1", ("auto",))
    assert caller.limits == Limits(rpm=5)


def test_what_is_known_is_believed_for_a_minute() -> None:
    world = World(KEY)
    world.caller()
    world.keys.stored[KEY.key_hash] = msgspec.structs.replace(KEY, revoked_at=5)
    world.clock.advance(59)
    world.caller()
    assert world.keys.reads == 1
    world.clock.advance(1)
    with pytest.raises(AuthenticationError):
        world.caller()


def test_a_key_expires_at_its_own_second() -> None:
    world = World(msgspec.structs.replace(KEY, expires_at=1_010))
    world.caller()
    world.clock.advance(10)
    with pytest.raises(AuthenticationError) as raised:
        world.caller()
    assert raised.value.code == "invalid_api_key"


def test_a_key_that_got_a_later_end_meanwhile_has_not_expired() -> None:
    world = World(msgspec.structs.replace(KEY, expires_at=1_010))
    world.caller()
    world.keys.stored[KEY.key_hash] = msgspec.structs.replace(KEY, expires_at=2_000, version=1)
    world.clock.advance(10)
    assert world.caller().key_id == "key_1"


def test_a_secret_that_has_retired_leaves_the_work_to_the_one_that_took_its_place() -> None:
    old = msgspec.structs.replace(KEY, retires_at=900)
    new = msgspec.structs.replace(KEY, key_hash="hash-2", created_at=800, limits=Limits(rpm=7))
    assert World(old, new).caller().limits == Limits(rpm=7)


def test_a_key_that_was_just_rotated_may_show_only_its_old_secret_at_first() -> None:
    old = msgspec.structs.replace(KEY, retires_at=900, version=1)
    new = msgspec.structs.replace(KEY, key_hash="hash-2", version=1)
    world = World(old, new)
    world.keys.unseen = {"hash-2"}
    with pytest.raises(StateError) as raised:
        world.caller()
    assert (raised.value.code, raised.value.retryable) == ("key_unreadable", True)
    world.keys.unseen.clear()
    assert world.caller().key_id == "key_1"


def test_a_key_that_was_just_made_may_not_be_seen_at_first() -> None:
    world = World(KEY)
    world.keys.unseen = {KEY.key_hash}
    for _ in range(2):
        with pytest.raises(StateError):
            world.caller()
    world.keys.unseen.clear()
    assert world.caller().key_id == "key_1"


@pytest.mark.parametrize("change", [{"revoked_at": 950}, {"expires_at": 950}], ids=["revoked", "expired"])
@pytest.mark.parametrize("shown_by", ["hash-1", "hash-2"])
def test_what_one_secret_shows_of_the_last_change_is_of_the_key(change: dict[str, int], shown_by: str) -> None:
    old = msgspec.structs.replace(KEY, retires_at=2_000, version=1)
    new = msgspec.structs.replace(KEY, key_hash="hash-2", version=1)
    world = World(old, new)
    world.keys.stored[shown_by] = msgspec.structs.replace(world.keys.stored[shown_by], version=2, **change)
    with pytest.raises(AuthenticationError):
        world.caller()


def test_an_end_that_only_a_retired_secret_shows_may_have_been_put_off_since() -> None:
    old = msgspec.structs.replace(KEY, retires_at=900, expires_at=950, version=1)
    with pytest.raises(StateError):
        World(old).caller()
    new = msgspec.structs.replace(KEY, key_hash="hash-2", expires_at=2_000, version=2)
    assert World(old, new).caller().key_id == "key_1"


def test_a_failure_is_not_remembered() -> None:
    world = World(KEY)
    world.keys.failing = StateError("down")
    with pytest.raises(StateError):
        world.caller()
    world.keys.failing = None
    assert world.caller().key_id == "key_1"


def test_only_so_many_keys_are_remembered() -> None:
    ids = [f"key_{number}" for number in range(REMEMBERED_KEYS + 5)]
    world = World(*(msgspec.structs.replace(KEY, id=key_id, key_hash=key_id) for key_id in ids))
    for key_id in ids:
        world.holders.caller(key_id, "async_1")
    assert len(world.holders._known) == REMEMBERED_KEYS
