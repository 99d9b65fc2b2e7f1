"""Putting objects together, in memory and in S3: every byte, in order, once, however often it is cut off."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sluice.adapters.s3_compose import AT_ONCE, HELD_BYTES, S3Composer
from sluice.adapters.s3_parts import COMPOSING_FOLDER, FETCHED_BYTES, PartLimits, plan_objects
from sluice.domain.deadline import Deadline
from sluice.domain.errors import ConfigurationError, NotFoundError
from sluice.domain.ports import Composer, Piece
from sluice.testing.clock import FakeClock
from sluice.testing.composing import FakeComposer
from tests.contract.state.conftest import Aws

MIB = 1_048_576
KEY = "files/key_1/file_1"
FULL = 600.0
Read = Callable[[str], bytes]
Put = Callable[[str, bytes], None]


class Spy:
    """An S3 client that counts its calls, and dies (as a process does) on the one that ``dies_on`` says."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.calls: list[str] = []
        self.dies_on: tuple[str, int] | None = None
        self.before: Callable[[str], None] = lambda _: None

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(**parameters: Any) -> Any:
            self.before(name)
            self.calls.append(name)
            if self.dies_on is not None and self.dies_on == (name, self.calls.count(name)):
                raise KeyboardInterrupt
            return getattr(self._client, name)(**parameters)

        return call


class World:
    def __init__(self, composer: Composer, put: Put, read: Read, spy: Spy | None = None) -> None:
        self.composer = composer
        self.put = put
        self.read = read
        self.spy = spy
        self.begun: str | None = None
        self.begins = 0

    def compose(
        self,
        pieces: list[Piece],
        *,
        seconds: float = FULL,
        clock: FakeClock | None = None,
        look: Callable[[], None] = lambda: None,
    ) -> bool:
        deadline = Deadline.after(seconds, clock) if clock else Deadline.after(seconds)
        return self.composer.compose(
            KEY,
            pieces,
            content_type="text/plain",
            begun=self.begun,
            on_begun=self._on_begun,
            deadline=deadline,
            look=look,
        )

    def _on_begun(self, begun: str) -> None:
        self.begun = begun
        self.begins += 1


@pytest.fixture
def bucket(aws: Aws) -> Iterator[str]:
    name, s3 = aws.bucket(), aws.client("s3")
    yield name
    # The local cloud holds objects in memory.
    for entry in s3.list_objects_v2(Bucket=name).get("Contents", []):
        s3.delete_object(Bucket=name, Key=entry["Key"])


@pytest.fixture
def real(aws: Aws, bucket: str) -> World:
    s3 = aws.client("s3")
    spy: Any = Spy(s3)
    return World(
        S3Composer(spy, bucket),
        lambda key, body: s3.put_object(Bucket=bucket, Key=key, Body=body),
        lambda key: bytes(s3.get_object(Bucket=bucket, Key=key)["Body"].read()),
        spy,
    )


@pytest.fixture(params=["fake", "real"])
def world(request: pytest.FixtureRequest) -> World:
    if request.param == "real":
        found: World = request.getfixturevalue("real")
        return found
    fake = FakeComposer()
    return World(fake, fake.objects.put, fake.objects.get)


def stored(world: World, name: str, size: int) -> Piece:
    body = (name.encode() * (size // len(name) + 1))[:size]
    world.put(name, body)
    return Piece(name, size)


def content(world: World, pieces: list[Piece]) -> bytes:
    return b"".join(
        piece.literal if piece.key is None else world.read(piece.key)[piece.start : piece.start + piece.size]
        for piece in pieces
        if piece.size
    )


def mixed(world: World) -> list[Piece]:
    large = stored(world, "large", 12 * MIB)
    return [
        Piece(None, 4, literal=b"PAR1"),
        large,
        stored(world, "small", 1000),
        Piece("small", 10, start=3),
        Piece("nothing", 0),
        stored(world, "big", 6 * MIB),
        Piece("large", 6 * MIB, start=5),
        Piece(None, 6, literal=b"footer"),
    ]


def test_pieces_stand_behind_each_other(world: World) -> None:
    pieces = mixed(world)
    assert world.compose(pieces)
    assert world.read(KEY) == content(world, pieces)


@pytest.mark.parametrize("pieces", [[], [Piece("a", 0)], [Piece(None, 3, literal=b"abc")]])
def test_little_or_nothing_is_an_object_too(world: World, pieces: list[Piece]) -> None:
    assert world.compose(pieces)
    assert world.read(KEY) == b"".join(piece.literal for piece in pieces)


@pytest.mark.parametrize("size", [10, 12 * MIB])
def test_a_piece_that_is_not_there_is_an_error(world: World, size: int) -> None:
    with pytest.raises(NotFoundError):
        world.compose([Piece("gone", size), Piece("gone", size)])


def test_without_time_nothing_is_made_and_what_was_begun_is_gone_on_with(world: World) -> None:
    pieces = mixed(world)
    assert not world.compose(pieces, seconds=0, clock=FakeClock())
    with pytest.raises(Exception, match=r"no such object|NoSuchKey"):
        world.read(KEY)
    assert world.compose(pieces)
    assert world.begins == 1
    assert world.read(KEY) == content(world, pieces)


def test_to_do_it_again_changes_nothing(world: World) -> None:
    pieces = mixed(world)
    for _ in range(2):
        assert world.compose(pieces)
    assert world.read(KEY) == content(world, pieces)


# ---- in S3 alone ----


def test_large_pieces_are_never_fetched(real: World) -> None:
    pieces = [stored(real, "one", 12 * MIB), stored(real, "two", 6 * MIB)]
    assert real.compose(pieces)
    assert real.spy is not None
    assert real.spy.calls == [
        "create_multipart_upload",
        "upload_part_copy",
        "upload_part_copy",
        "complete_multipart_upload",
    ]


def test_the_object_has_its_type(real: World, aws: Aws, bucket: str) -> None:
    for pieces in ([Piece(None, 1, literal=b"x")], [stored(real, "one", 6 * MIB)]):
        real.begun = None
        assert real.compose(pieces)
        assert aws.client("s3").head_object(Bucket=bucket, Key=KEY)["ContentType"] == "text/plain"


@pytest.mark.parametrize("call", ["upload_part", "upload_part_copy", "list_parts", "complete_multipart_upload"])
def test_whoever_comes_after_a_kill_makes_only_what_is_missing(real: World, call: str) -> None:
    pieces = [stored(real, f"piece-{number}", size * MIB) for number, size in enumerate((6, 1, 7, 9, 2, 8, 6, 1))]
    spy = real.spy
    assert spy is not None
    real.compose(pieces, seconds=0, clock=FakeClock())
    spy.dies_on = (call, 1)
    with pytest.raises(KeyboardInterrupt):
        real.compose(pieces)
    made = spy.calls.count("upload_part") + spy.calls.count("upload_part_copy")
    made -= call in ("upload_part", "upload_part_copy")
    spy.dies_on, spy.calls = None, []
    assert real.compose(pieces)
    assert made + spy.calls.count("upload_part") + spy.calls.count("upload_part_copy") == len(
        plan_objects(KEY, pieces)[0].parts
    )
    assert real.begins == 1
    assert real.read(KEY) == content(real, pieces)


def test_a_lost_answer_to_the_completion_is_no_failure(real: World, aws: Aws, bucket: str) -> None:
    pieces = [stored(real, "one", 6 * MIB)]
    assert real.compose(pieces)
    # S3 forgets completed uploads some time.
    assert real.begun is not None
    real.begun = real.begun[:4] + "forgotten"
    assert real.compose(pieces)
    assert real.begins == 1
    aws.client("s3").delete_object(Bucket=bucket, Key=KEY)
    assert real.compose(pieces)
    assert real.begins == 2
    assert real.read(KEY) == content(real, pieces)


def test_an_upload_that_was_cleared_away_is_begun_anew(real: World, aws: Aws, bucket: str) -> None:
    pieces = [stored(real, "one", 6 * MIB), stored(real, "two", 6 * MIB)]
    real.compose(pieces, seconds=0, clock=FakeClock())
    assert real.begun is not None
    aws.client("s3").abort_multipart_upload(Bucket=bucket, Key=KEY, UploadId=real.begun[4:])
    assert real.compose(pieces)
    assert real.begins == 2
    assert real.read(KEY) == content(real, pieces)


def test_what_another_version_has_planned_otherwise_is_not_gone_on_with(real: World) -> None:
    pieces = [stored(real, "one", 6 * MIB), stored(real, "two", 6 * MIB)]
    real.compose(pieces, seconds=0, clock=FakeClock())
    assert real.begun is not None
    real.begun = "1." + real.begun[2:]
    assert real.compose(pieces)
    assert real.begins == 2


def test_time_that_ends_in_between_keeps_what_was_made(real: World) -> None:
    pieces = [stored(real, f"piece-{number}", 6 * MIB) for number in range(12)]
    clock, spy = FakeClock(), real.spy
    assert spy is not None
    spy.before = lambda call: clock.advance(1) if call == "upload_part_copy" else None
    rounds = 1
    while not real.compose(pieces, seconds=4, clock=clock):
        rounds += 1
    assert rounds >= 3
    assert (real.begins, spy.calls.count("upload_part_copy")) == (1, len(pieces))
    assert real.read(KEY) == content(real, pieces)


def test_more_parts_than_one_list_shows_are_all_found_again(real: World, monkeypatch: pytest.MonkeyPatch) -> None:
    spy = real.spy
    assert spy is not None
    pieces = [stored(real, "one", 6 * MIB)] * 7
    listed = spy._client.list_parts
    real.compose(pieces, seconds=0, clock=FakeClock())
    spy.dies_on = ("complete_multipart_upload", 1)
    with pytest.raises(KeyboardInterrupt):
        real.compose(pieces)
    spy.dies_on, spy.calls = None, []
    with monkeypatch.context() as patch:
        patch.setattr(spy._client, "list_parts", lambda **more: listed(MaxParts=2, **more))
        assert real.compose(pieces)
    assert spy.calls == ["list_parts"] * 4 + ["complete_multipart_upload"]


def test_a_bucket_that_is_not_there_needs_an_operator(aws: Aws) -> None:
    composer = S3Composer(aws.client("s3"), "no-such-bucket")
    world = World(composer, lambda *_: None, lambda _: b"")
    for pieces in ([Piece(None, 1, literal=b"x")], [Piece("a", 9 * MIB)]):
        with pytest.raises(ConfigurationError):
            world.compose(pieces)


def small(world: World) -> list[Piece]:
    return [stored(world, f"piece-{number}", 10 + number) for number in range(30)]


@pytest.mark.parametrize("make", [small, mixed])
def test_whoever_waits_is_asked_before_every_piece_of_an_object(
    world: World, make: Callable[[World], list[Piece]]
) -> None:
    pieces, looks = make(world), list[None]()
    assert world.compose(pieces, look=lambda: looks.append(None))
    assert len(looks) >= len([piece for piece in pieces if piece.key and piece.size])
    assert world.read(KEY) == content(world, pieces)


@pytest.mark.parametrize("make", [small, mixed])
def test_whoever_waits_may_end_it(world: World, make: Callable[[World], list[Piece]]) -> None:
    class OvertakenError(Exception):
        pass

    def overtaken() -> None:
        raise OvertakenError

    pieces = make(world)
    with pytest.raises(OvertakenError):
        world.compose(pieces, look=overtaken)
    assert world.compose(pieces)
    assert world.read(KEY) == content(world, pieces)


def test_many_small_pieces_are_fetched_several_at_once(real: World) -> None:
    pieces, together = small(real), threading.Barrier(2)

    def look() -> None:
        # Nobody gets by alone.
        together.wait(timeout=10)

    assert real.compose(pieces, look=look)
    assert real.read(KEY) == content(real, pieces)


def test_what_is_fetched_at_once_is_bounded_by_its_bytes(real: World) -> None:
    pieces = [stored(real, "half", 4 * MIB)] * 2 * 3 * AT_ONCE
    at_once = HELD_BYTES // (2 * FETCHED_BYTES)
    assert at_once < AT_ONCE
    lock, fetching, most = threading.Lock(), set[int](), [0]

    def look() -> None:
        with lock:
            fetching.add(threading.get_ident())
            most[0] = max(most[0], len(fetching))
        # All the others could begin in the meantime.
        time.sleep(0.05)

    def before(call: str) -> None:
        if call == "upload_part":
            with lock:
                fetching.discard(threading.get_ident())

    assert real.spy is not None
    real.spy.before = before
    assert real.compose(pieces, look=look)
    assert most == [at_once]


# ---- two levels: what has more parts than S3 takes ----

# Of the eleven parts of ``many`` eight become two objects in between, which are copied as three.
FEW = PartLimits(parts=6, copied_bytes=20 * MIB)


@pytest.fixture
def high(real: World, bucket: str) -> World:
    real.composer = S3Composer(real.spy, bucket, limits=FEW)  # type: ignore[arg-type]
    return real


def many(world: World) -> list[Piece]:
    sizes = (6, 7, 6, 1, 8, 6, 7, 6, 9, 6, 6, 2)
    # Other bytes in each, and none that repeat themselves.
    world.put("bytes", random.Random(1).randbytes(10 * MIB))
    return [Piece("bytes", size * MIB + number, start=number * 1000) for number, size in enumerate(sizes)]


def intermediates(aws: Aws, bucket: str) -> dict[str, int]:
    listed = aws.client("s3").list_objects_v2(Bucket=bucket, Prefix=COMPOSING_FOLDER).get("Contents", [])
    return {entry["Key"]: entry["Size"] for entry in listed}


def parts_made(spy: Spy) -> int:
    return spy.calls.count("upload_part") + spy.calls.count("upload_part_copy")


def test_more_parts_than_s3_takes_are_copied_by_way_of_other_objects(high: World, aws: Aws, bucket: str) -> None:
    pieces, spy = many(high), high.spy
    assert spy is not None
    assert high.compose(pieces)
    assert high.read(KEY) == content(high, pieces)
    planned = plan_objects(KEY, pieces, FEW)
    assert len(planned) == 3
    assert intermediates(aws, bucket) == {made.key: made.size for made in planned[:-1]}
    assert parts_made(spy) == sum(len(made.parts) for made in planned)
    # A small one with what is behind it, and the last.
    assert spy.calls.count("upload_part") == 2
    assert high.begins == len(planned)


@pytest.mark.parametrize(
    ("call", "nth"),
    [
        ("upload_part_copy", 3),
        ("complete_multipart_upload", 1),
        ("create_multipart_upload", 2),
        ("create_multipart_upload", 3),
        ("upload_part_copy", 9),
        ("complete_multipart_upload", 3),
    ],
)
def test_whoever_comes_after_a_kill_on_any_level_makes_only_what_is_missing(high: World, call: str, nth: int) -> None:
    pieces, spy = many(high), high.spy
    assert spy is not None
    spy.dies_on = (call, nth)
    with pytest.raises(KeyboardInterrupt):
        high.compose(pieces)
    made = parts_made(spy) - (call == "upload_part_copy")
    spy.dies_on, spy.calls = None, []
    assert high.compose(pieces)
    assert made + parts_made(spy) == sum(len(made.parts) for made in plan_objects(KEY, pieces, FEW))
    assert high.read(KEY) == content(high, pieces)


def test_an_object_in_between_that_was_cleared_away_is_made_again(high: World, aws: Aws, bucket: str) -> None:
    pieces, spy = many(high), high.spy
    assert spy is not None
    spy.dies_on = ("complete_multipart_upload", 3)
    with pytest.raises(KeyboardInterrupt):
        high.compose(pieces)
    spy.dies_on, spy.calls = None, []
    [lost, *_] = intermediates(aws, bucket)
    aws.client("s3").delete_object(Bucket=bucket, Key=lost)
    assert high.compose(pieces)
    assert high.read(KEY) == content(high, pieces)
    [made, *_] = [made for made in plan_objects(KEY, pieces, FEW) if made.key == lost]
    assert spy.calls.count("create_multipart_upload") == 1
    assert parts_made(spy) == len(made.parts)


def test_time_that_ends_on_any_level_keeps_what_was_made(high: World) -> None:
    pieces, spy, clock = many(high), high.spy, FakeClock()
    assert spy is not None
    spy.before = lambda call: clock.advance(1) if call.startswith("upload_part") else None
    rounds = 1
    while not high.compose(pieces, seconds=2, clock=clock):
        rounds += 1
        assert rounds < 20
    assert rounds >= 2
    assert parts_made(spy) == sum(len(made.parts) for made in plan_objects(KEY, pieces, FEW))
    assert high.read(KEY) == content(high, pieces)


def test_to_do_two_levels_again_changes_nothing(high: World) -> None:
    pieces, spy = many(high), high.spy
    assert spy is not None
    assert high.compose(pieces)
    spy.calls = []
    assert high.compose(pieces)
    assert parts_made(spy) == 0
    assert high.read(KEY) == content(high, pieces)
