from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest

from sluice.domain.deadline import Deadline
from sluice.domain.errors import (
    CallerError,
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    StateConflictError,
    StateError,
)
from sluice.domain.files import UploadStatus, UploadView
from sluice.services import uploads as module
from sluice.wire.files import UploadObject
from tests.unit.sluice.services.filing import CALLER, NOW, OTHER, Filing, new_file

PIECES = [b"one\n", b"two\n", b"three\n"]
WHOLE = b"".join(PIECES)


@pytest.fixture
def world() -> Filing:
    return Filing()


def begun(world: Filing, *, size: int = len(WHOLE), presigned: bool = False, **changes: Any) -> UploadView:
    return world.uploads.create(new_file(**changes), CALLER, size=size, presigned=presigned)


def sent(world: Filing, view: UploadView, pieces: Sequence[bytes] = PIECES) -> list[str]:
    return [world.uploads.add_part(view.upload.id, piece, CALLER).id for piece in pieces]


def complete(world: Filing, view: UploadView, part_ids: Sequence[str], md5: str | None = None) -> UploadView:
    return world.uploads.complete(view.upload.id, CALLER, part_ids=part_ids, md5=md5, deadline=Deadline.after(20))


# ---- Parts that come through the API ----


def test_parts_become_a_file_in_the_order_that_is_told(world: Filing) -> None:
    view = begun(world, ttl_s=7_200)
    assert (view.upload.status, view.upload.expires_at, view.part_urls) == (UploadStatus.PENDING, NOW + 3_600, None)
    ids = sent(world, view, [PIECES[2], PIECES[0], PIECES[1]])
    world.clock.advance(60)
    done = complete(world, view, [ids[1], ids[2], ids[0]])
    assert done.upload.status is UploadStatus.COMPLETED
    assert done.file is not None
    assert (done.file.bytes, done.file.created_at, done.file.expires_at) == (len(WHOLE), NOW + 60, NOW + 60 + 7_200)
    assert world.files.content(done.file.id, CALLER).text == WHOLE
    assert UploadObject.of(world.uploads.get(view.upload.id, CALLER)) == UploadObject.of(done)


def test_a_part_that_is_not_named_is_not_in_the_file(world: Filing) -> None:
    view = begun(world, size=8)
    ids = sent(world, view)
    done = complete(world, view, ids[:2])
    assert done.file is not None
    assert world.objects.bodies[done.file.object_key] == b"one\ntwo\n"


def test_a_repeat_is_told_the_same_and_makes_nothing(world: Filing) -> None:
    view = begun(world)
    ids = sent(world, view)
    done = complete(world, view, ids)
    world.clock.advance(5_000)
    world.composer.failing = StateError("must not be asked")
    assert UploadObject.of(complete(world, view, ids)) == UploadObject.of(done)
    assert len(world.store.files) == 1


def test_what_takes_too_long_is_gone_on_with(world: Filing) -> None:
    view = begun(world)
    ids = sent(world, view)
    world.composer.at_once = 1
    for _ in range(2):
        with pytest.raises(StateError) as raised:
            complete(world, view, ids)
        assert (raised.value.code, raised.value.retryable) == ("upload_in_progress", True)
        assert world.uploads.get(view.upload.id, CALLER).upload.status is UploadStatus.PENDING
    done = complete(world, view, ids)
    assert done.file is not None
    assert world.objects.bodies[done.file.object_key] == WHOLE
    assert len(world.composer.uploads) == 1


def test_what_is_under_way_is_not_gone_on_with_otherwise(world: Filing) -> None:
    view = begun(world)
    ids = sent(world, view)
    world.composer.at_once = 1
    with pytest.raises(StateError):
        complete(world, view, ids)
    with pytest.raises(ConflictError):
        complete(world, view, ids[::-1])


def test_a_file_that_could_not_be_stored_is_stored_by_the_next(world: Filing, monkeypatch: pytest.MonkeyPatch) -> None:
    view = begun(world)
    ids = sent(world, view)

    def down(*_: object, **__: object) -> None:
        raise StateError("down")

    with monkeypatch.context() as patch:
        patch.setattr(world.store, "end_upload", down)
        with pytest.raises(StateError):
            complete(world, view, ids)
    assert not world.store.files
    done = complete(world, view, ids)
    assert done.file is not None
    assert world.objects.bodies[done.file.object_key] == WHOLE


@pytest.mark.parametrize(
    ("chosen", "code", "param"),
    [
        (lambda ids: ids[:2], "invalid_parts", "part_ids"),
        (lambda ids: [*ids, ids[0]], "invalid_parts", "part_ids"),
        (lambda ids: [ids[0], "part_unknown", ids[2]], "part_not_found", "part_ids[1]"),
        (lambda ids: [], "invalid_value", "part_ids"),
    ],
)
def test_parts_that_do_not_make_the_file_are_refused_and_may_be_mended(
    world: Filing, chosen: Callable[[list[str]], list[str]], code: str, param: str
) -> None:
    view = begun(world)
    ids = sent(world, view)
    with pytest.raises(InvalidRequestError) as raised:
        complete(world, view, chosen(ids))
    assert (raised.value.code, raised.value.param) == (code, param)
    assert complete(world, view, ids).file is not None


def test_parts_of_another_upload_are_unknown(world: Filing) -> None:
    view, other = begun(world), begun(world)
    ids = sent(world, other)
    sent(world, view)
    with pytest.raises(InvalidRequestError, match="no such part"):
        complete(world, view, ids)


def test_a_part_without_content_is_refused(world: Filing) -> None:
    with pytest.raises(InvalidRequestError):
        world.uploads.add_part(begun(world).upload.id, b"", CALLER)


# ---- Checksum ----


def test_the_right_checksum_is_taken_in_either_case(world: Filing) -> None:
    view = begun(world)
    assert complete(world, view, sent(world, view), hashlib.md5(WHOLE).hexdigest().upper()).file is not None


def test_a_wrong_checksum_ends_the_upload_and_leaves_nothing(world: Filing) -> None:
    view = begun(world)
    ids = sent(world, view)
    with pytest.raises(InvalidRequestError) as raised:
        complete(world, view, ids, "0" * 32)
    assert (raised.value.code, raised.value.param) == ("md5_mismatch", "md5")
    assert world.uploads.get(view.upload.id, CALLER).upload.status is UploadStatus.CANCELLED
    assert not world.store.files
    assert not any(key.startswith("files/") for key in world.objects.bodies)


def test_a_checksum_of_what_is_too_large_to_be_read_is_refused_at_once(world: Filing) -> None:
    view = begun(world, size=module.MOST_CHECKED_BYTES + 1)
    with pytest.raises(InvalidRequestError) as raised:
        complete(world, view, sent(world, view), "0" * 32)
    assert (raised.value.code, raised.value.param) == ("unsupported_parameter", "md5")


def test_a_checksum_that_takes_too_long_is_made_by_the_next(world: Filing) -> None:
    view = begun(world)
    ids = sent(world, view)
    md5 = hashlib.md5(WHOLE).hexdigest()
    # No piece is left to be copied by then, only to be read.
    world.composer.at_once = None
    with pytest.raises(StateError):
        world.uploads.complete(
            view.upload.id, CALLER, part_ids=ids, md5=md5, deadline=Deadline.after(module.END_NEEDS_S / 4)
        )
    assert complete(world, view, ids, md5).file is not None


# ---- Presigned parts ----


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PART_BYTES", 6)


@pytest.mark.usefixtures("small_parts")
def test_presigned_parts_become_a_file(world: Filing) -> None:
    view = begun(world, presigned=True)
    assert view.part_urls is not None
    assert (view.upload.part_size, len(view.part_urls)) == (6, 3)
    for number, url in enumerate(world.uploads.get(view.upload.id, CALLER).part_urls or ()):
        world.contents.put_part(url, WHOLE[number * 6 :][:6])
    done = complete(world, view, [])
    assert done.file is not None
    assert world.objects.bodies[done.file.object_key] == WHOLE
    assert (done.part_urls, done.upload.status) == (None, UploadStatus.COMPLETED)
    assert complete(world, view, []) == done


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("missing", [0, 2])
def test_a_presigned_part_that_is_missing_or_wrong_is_named(world: Filing, missing: int) -> None:
    view = begun(world, presigned=True)
    urls = list(view.part_urls or ())
    for number, url in enumerate(urls):
        if number != missing:
            world.contents.put_part(url, WHOLE[number * 6 :][:6])
    with pytest.raises(InvalidRequestError, match=f"Part {missing + 1} must have") as raised:
        complete(world, view, [])
    assert raised.value.code == "invalid_parts"
    world.contents.put_part(urls[missing], WHOLE[missing * 6 :][:6])
    assert complete(world, view, []).file is not None


@pytest.mark.usefixtures("small_parts")
def test_presigned_parts_that_were_joined_by_an_interrupted_call_are_found(
    world: Filing, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = begun(world, presigned=True)
    for number, url in enumerate(view.part_urls or ()):
        world.contents.put_part(url, WHOLE[number * 6 :][:6])

    def down(*_: object, **__: object) -> None:
        raise StateError("down")

    with monkeypatch.context() as patch:
        patch.setattr(world.store, "end_upload", down)
        with pytest.raises(StateError):
            complete(world, view, [])
    assert complete(world, view, []).file is not None


def test_presigned_parts_that_are_gone_are_a_conflict(world: Filing) -> None:
    view = begun(world, presigned=True)
    world.contents.multiparts.clear()
    with pytest.raises(ConflictError):
        complete(world, view, [])


def test_both_ways_are_not_mixed(world: Filing) -> None:
    presigned = begun(world, presigned=True)
    with pytest.raises(InvalidRequestError):
        sent(world, presigned)
    with pytest.raises(InvalidRequestError) as raised:
        complete(world, presigned, ["part_1"])
    assert raised.value.param == "part_ids"


# ---- Ends ----


@pytest.mark.parametrize("presigned", [False, True])
def test_what_is_cancelled_takes_nothing_more(world: Filing, presigned: bool) -> None:
    view = begun(world, presigned=presigned)
    ids = [] if presigned else sent(world, view)
    for _ in range(2):
        assert world.uploads.cancel(view.upload.id, CALLER).upload.status is UploadStatus.CANCELLED
    assert not world.contents.multiparts
    with pytest.raises(ConflictError):
        complete(world, view, ids)
    with pytest.raises(ConflictError):
        world.uploads.add_part(view.upload.id, b"x", CALLER)


def test_what_is_completed_is_not_cancelled(world: Filing) -> None:
    view = begun(world)
    complete(world, view, sent(world, view))
    with pytest.raises(ConflictError):
        world.uploads.cancel(view.upload.id, CALLER)


@pytest.mark.parametrize("presigned", [False, True])
def test_what_has_expired_takes_nothing_more_and_says_so(world: Filing, presigned: bool) -> None:
    view = begun(world, presigned=presigned)
    world.clock.advance(3_600)
    seen = world.uploads.get(view.upload.id, CALLER)
    assert (seen.upload.status, seen.part_urls) == (UploadStatus.EXPIRED, None)
    for use in (
        lambda: complete(world, view, []),
        lambda: world.uploads.add_part(view.upload.id, b"x", CALLER),
        lambda: world.uploads.cancel(view.upload.id, CALLER),
    ):
        with pytest.raises(ConflictError, match="expired"):
            use()


def test_an_upload_that_is_cancelled_while_it_is_put_together_makes_no_file(world: Filing) -> None:
    view = begun(world)
    ids = sent(world, view)

    def cancelled(_: object) -> None:
        stored = world.store.uploads[view.upload.id]
        world.store.uploads[view.upload.id] = msgspec.structs.replace(stored, status=UploadStatus.CANCELLED)

    world.composer.on_piece = cancelled
    with pytest.raises(StateConflictError):
        complete(world, view, ids)
    assert not world.store.files


@pytest.mark.parametrize("upload_id", ["theirs", "upload_1", "UPLOAD"])
def test_what_is_another_keys_or_no_id_is_not_found(world: Filing, upload_id: str) -> None:
    caller, wanted = CALLER, upload_id
    if upload_id == "theirs":
        caller, wanted = OTHER, begun(world).upload.id
    for use in (
        lambda: world.uploads.get(wanted, caller),
        lambda: world.uploads.add_part(wanted, b"x", caller),
        lambda: world.uploads.cancel(wanted, caller),
        lambda: world.uploads.complete(wanted, caller, part_ids=["a"], md5=None, deadline=Deadline.after(20)),
    ):
        with pytest.raises(NotFoundError) as raised:
            use()
        assert raised.value.code == "upload_not_found"


@pytest.mark.parametrize(("size", "ttl_s", "param"), [(5_000_000_001, None, "bytes"), (1, 2_592_001, "expires_after")])
def test_what_would_be_too_large_or_kept_too_long_is_refused(
    world: Filing, size: int, ttl_s: int | None, param: str
) -> None:
    with pytest.raises(CallerError) as raised:
        begun(world, size=size, ttl_s=ttl_s, presigned=True)
    assert (raised.value.param or "").startswith(param)
    assert not world.store.uploads
    assert not world.contents.multiparts
