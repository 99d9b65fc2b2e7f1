from collections.abc import Mapping

import msgspec
import pytest

from sluice.domain.errors import AuthenticationError, StateError
from sluice.domain.keys import ApiKey, hash_secret, new_secret
from sluice.services import authorize as module
from sluice.services.authorize import Authorize
from sluice.testing.clock import FakeClock
from sluice.testing.keys import FakeKeys

SECRET = new_secret()
OTHER = new_secret()


def key(secret: str = SECRET, **changes: int) -> ApiKey:
    plain = ApiKey(id="key_1", key_hash=hash_secret(secret), name="tests", prefix=secret[:14], created_at=1)
    return msgspec.structs.replace(plain, **changes)


class World:
    def __init__(self, *keys: ApiKey) -> None:
        self.clock = FakeClock()
        self.keys = FakeKeys(*keys)
        self.authorize = Authorize(self.keys, cache_seconds=60, now=self.clock, clock=self.clock)

    def ask(self, secret: str = SECRET) -> ApiKey:
        return self.authorize.authorize({"authorization": f"Bearer {secret}"})


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {SECRET}"},
        {"authorization": f"bearer   {SECRET} "},
        {"x-api-key": SECRET},
        {"authorization": f"Bearer {SECRET}", "x-api-key": OTHER},
    ],
)
def test_a_key_is_taken_from_either_header_and_the_bearer_wins(headers: Mapping[str, str]) -> None:
    assert World(key()).authorize.authorize(headers).id == "key_1"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": f"Basic {SECRET}"},
        {"authorization": SECRET},
        {"authorization": f"Bearer {SECRET} {SECRET}"},
        {"authorization": "Basic abc", "x-api-key": SECRET},
        {"x-api-key": "sk-sluice-short"},
        {"x-api-key": "sk-other-" + "a" * 43},
        {"x-api-key": SECRET + "a"},
        {"x-api-key": SECRET[:-1] + "ü"},
    ],
)
def test_what_cannot_be_a_key_is_refused_without_a_read(headers: Mapping[str, str]) -> None:
    world = World(key())
    with pytest.raises(AuthenticationError):
        world.authorize.authorize(headers)
    assert world.keys.reads == 0


def test_an_unknown_key_is_refused() -> None:
    with pytest.raises(AuthenticationError):
        World(key()).ask(OTHER)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"revoked_at": 5}, "revoked"),
        ({"expires_at": 999}, "expired"),
        ({"expires_at": 1_000}, "expired"),
        ({"retires_at": 1_000}, "retired"),
        ({"retires_at": 1_010, "revoked_at": 5}, "revoked"),
    ],
)
def test_a_revoked_expired_or_replaced_key_is_refused_and_the_log_says_why(changes: dict[str, int], why: str) -> None:
    with pytest.raises(AuthenticationError) as raised:
        World(key(SECRET, **changes)).ask()
    assert why in raised.value.message
    assert "key_1" in raised.value.message


def test_the_same_key_is_read_once_a_minute() -> None:
    world = World(key())
    world.ask()
    world.clock.advance(59)
    world.ask()
    assert world.keys.reads == 1
    world.clock.advance(2)
    world.ask()
    assert world.keys.reads == 2


def test_a_revoked_key_works_for_a_minute_at_most() -> None:
    world = World(key())
    world.ask()
    world.keys.stored[hash_secret(SECRET)] = key(revoked_at=1_000)
    world.clock.advance(59)
    assert world.ask().id == "key_1"
    world.clock.advance(2)
    with pytest.raises(AuthenticationError):
        world.ask()


def test_a_remembered_key_expires_at_its_own_hour() -> None:
    world = World(key(expires_at=1_010))
    world.ask()
    world.clock.advance(10)
    with pytest.raises(AuthenticationError):
        world.ask()
    assert world.keys.reads == 1


def test_a_secret_that_was_replaced_ends_at_its_second_whatever_is_remembered() -> None:
    world = World(key(retires_at=1_010))
    world.clock.advance(9.9)
    assert world.ask().id == "key_1"
    world.clock.advance(0.1)
    with pytest.raises(AuthenticationError):
        world.ask()
    assert world.keys.reads == 1


def test_that_a_key_is_unknown_is_remembered_too() -> None:
    world = World()
    for _ in range(3):
        with pytest.raises(AuthenticationError):
            world.ask()
    assert world.keys.reads == 1
    world.keys.stored[hash_secret(SECRET)] = key()
    world.clock.advance(61)
    assert world.ask().id == "key_1"


def test_a_failed_look_up_is_not_remembered() -> None:
    world = World(key())
    world.keys.failing = StateError("The table is throttling.")
    with pytest.raises(StateError):
        world.ask()
    world.keys.failing = None
    assert world.ask().id == "key_1"


def test_a_flood_of_invented_keys_neither_grows_the_memory_nor_displaces_a_real_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "REMEMBERED_KEYS", 10)
    world = World(key())
    world.ask()
    for _ in range(50):
        with pytest.raises(AuthenticationError):
            world.ask(new_secret())
    assert len(world.authorize._unknown._entries) == 10
    reads = world.keys.reads
    world.ask()
    assert world.keys.reads == reads
