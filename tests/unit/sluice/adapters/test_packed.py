import random
import zlib

import pytest

from sluice.adapters.packed import HAS_NO_BODY, Bodies, has_body
from sluice.domain.errors import StateError
from sluice.testing.objects import FakeObjects

# Bytes that no compression makes smaller.
NOISE = random.Random(1).randbytes(2_000_000)


class World:
    def __init__(self) -> None:
        self.objects = FakeObjects()
        self.asked = 0

    def store(self) -> FakeObjects:
        self.asked += 1
        return self.objects

    @property
    def bodies(self) -> Bodies:
        return Bodies(self.store)


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize("length", [0, 1, 100, 4_000, 65_536, 65_537, 2_000_000])
@pytest.mark.parametrize("body", [NOISE, b"a" * 2_000_000], ids=["noise", "repetition"])
def test_what_was_packed_is_unpacked(world: World, body: bytes, length: int) -> None:
    item = world.bodies.packed(body[:length], room=1_000, key="k")
    assert has_body(item)
    assert world.bodies.unpacked(item) == body[:length]


def test_a_small_body_needs_no_object_store(world: World) -> None:
    item = world.bodies.packed(b"a" * 50_000, room=1_000, key="k")
    assert world.bodies.unpacked(item) == b"a" * 50_000
    assert (world.asked, world.objects.bodies) == (0, {})


@pytest.mark.parametrize("room", [0, 16, 100, 500, 520, 530, 540, 1_000])
def test_the_room_is_kept_to(world: World, room: int) -> None:
    [(name, value)] = world.bodies.packed(NOISE[:500], room=room, key="key_1/x").items()
    if name == "packed":
        assert isinstance(value, bytes)
        assert len(name) + len(value) <= room
        assert world.objects.bodies == {}
    else:
        assert (name, value) == ("packed_key", "responses/key_1/x")
        assert zlib.decompress(world.objects.bodies["responses/key_1/x"]) == NOISE[:500]
        assert len("packed") + len(zlib.compress(NOISE[:500])) > room - 16


@pytest.mark.parametrize("stored", [None, b"", b"something else", zlib.compress(NOISE[:500])[:-20]])
def test_an_object_that_is_not_what_was_put_there_is_no_body(world: World, stored: bytes | None) -> None:
    item = world.bodies.packed(NOISE[:500], room=0, key="k")
    if stored is None:
        world.objects.bodies.clear()
    else:
        world.objects.bodies["responses/k"] = stored
    assert world.bodies.unpacked(item) is None


def test_a_store_that_is_not_there_is_told(world: World) -> None:
    item = world.bodies.packed(NOISE[:500], room=0, key="k")
    world.objects.failing = StateError("It is not there.")
    with pytest.raises(StateError):
        world.bodies.unpacked(item)
    with pytest.raises(StateError):
        world.bodies.packed(NOISE[:500], room=0, key="k")


def test_an_item_without_a_body_is_told_from_one_with() -> None:
    assert not has_body({"pk": "x"})
    assert has_body({"packed": b""})
    assert has_body({"packed_key": "responses/k"})
    assert HAS_NO_BODY == "attribute_not_exists(packed) AND attribute_not_exists(packed_key)"
