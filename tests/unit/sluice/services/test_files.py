from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from sluice.domain.errors import InvalidRequestError, NotFoundError, StateError
from sluice.domain.files import FilePurpose
from sluice.services.files import MOST_INLINE_BYTES
from sluice.wire.files import FileList
from tests.unit.sluice.services.filing import CALLER, NOW, OTHER, Filing, new_file

DAY = 86_400


@pytest.fixture
def world() -> Filing:
    return Filing()


def test_a_file_has_its_content_below_its_key(world: Filing) -> None:
    file = world.file(b"content")
    assert world.objects.bodies == {f"files/key_1/{file.id}": b"content"}
    assert world.files.get(file.id, CALLER) == file
    assert (file.bytes, file.created_at, file.expires_at) == (7, NOW, NOW + 30 * DAY)


def test_a_file_is_gone_when_its_owner_said(world: Filing) -> None:
    file = world.file(ttl_s=3_600)
    world.clock.advance(3_599)
    world.files.get(file.id, CALLER)
    world.clock.advance(1)
    with pytest.raises(NotFoundError):
        world.files.get(file.id, CALLER)


def test_a_file_is_not_kept_for_longer_than_the_deployment_keeps_files(world: Filing) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        world.files.create(new_file(ttl_s=30 * DAY + 1), b"", CALLER)
    assert raised.value.param == "expires_after.seconds"
    assert not world.objects.bodies


def test_content_that_could_not_be_stored_is_no_file(world: Filing) -> None:
    world.contents.failing = StateError("down")
    with pytest.raises(StateError):
        world.file()
    assert not world.store.files


@pytest.mark.parametrize(
    "look",
    [
        lambda world, file_id: world.files.get(file_id, OTHER),
        lambda world, file_id: world.files.content(file_id, OTHER),
        lambda world, file_id: world.files.delete(file_id, OTHER),
        lambda world, file_id: world.files.get(file_id.upper(), CALLER),
        lambda world, file_id: world.files.delete("../key_2/x", CALLER),
    ],
)
def test_what_is_another_keys_or_no_id_is_not_found(world: Filing, look: Callable[[Filing, str], Any]) -> None:
    file = world.file(b"content")
    with pytest.raises(NotFoundError) as raised:
        look(world, file.id)
    assert raised.value.code == "file_not_found"
    assert world.files.content(file.id, CALLER).text == b"content"


def test_what_is_deleted_is_gone_with_its_content(world: Filing) -> None:
    file, other = world.file(), world.file()
    world.files.delete(file.id, CALLER)
    assert list(world.objects.bodies) == [other.object_key]
    with pytest.raises(NotFoundError):
        world.files.delete(file.id, CALLER)


def test_a_delete_that_broke_off_is_finished_by_the_next(world: Filing) -> None:
    file = world.file()
    world.contents.failing = StateError("down")
    with pytest.raises(StateError):
        world.files.delete(file.id, CALLER)
    with pytest.raises(NotFoundError):
        world.files.get(file.id, CALLER)
    world.contents.failing = None
    with pytest.raises(NotFoundError):
        world.files.delete(file.id, CALLER)
    assert not world.objects.bodies


@pytest.mark.parametrize("content", [b"", "größer\r\n".encode(), b"\xef\xbb\xbf{}", b"a" * MOST_INLINE_BYTES])
def test_a_small_text_is_given_as_it_is(world: Filing, content: bytes) -> None:
    found = world.files.content(world.file(content).id, CALLER)
    assert (found.text, found.url) == (content, None)


@pytest.mark.parametrize("content", [b"PAR1\xff\xfe", b"a" * (MOST_INLINE_BYTES + 1)])
def test_all_else_is_given_by_a_url(world: Filing, content: bytes) -> None:
    file = world.file(content)
    found = world.files.content(file.id, CALLER)
    assert (found.text, found.url) == (None, f"https://objects/{file.object_key}")


def test_a_page_is_of_the_callers_files(world: Filing) -> None:
    made = []
    for purpose in (FilePurpose.BATCH, FilePurpose.USER_DATA, FilePurpose.BATCH):
        made.append(world.file(purpose=purpose).id)
        world.clock.advance(1)
    world.file(caller=OTHER)
    page, more = world.files.page(CALLER, limit=2, after=None, newest_first=True, purpose=None)
    assert ([file.id for file in page], more) == ([made[2], made[1]], True)
    page, more = world.files.page(CALLER, limit=2, after=None, newest_first=False, purpose="batch")
    assert ([file.id for file in page], more) == ([made[0], made[2]], False)


@pytest.mark.parametrize("name", ["input.jsonl", "\u00fc" * 255, "\U0001f6f6" * 255, '"' * 255, "\\" * 255])
def test_a_page_is_never_larger_than_lambda_takes(world: Filing, name: str) -> None:
    file = msgspec.structs.replace(world.file(), bytes=5_000_000_000, filename=name)
    ids = [f"file_{number:032}" for number in range(10_000)]
    world.store.files = {file_id: msgspec.structs.replace(file, id=file_id) for file_id in ids}
    found, more = world.files.page(CALLER, limit=10_000, after=None, newest_first=False, purpose=None)
    body = msgspec.json.encode(FileList.of(found, has_more=more)).decode()
    # As the runtime sends it: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
    assert len(json.dumps({"statusCode": 200, "body": body})) < 6_000_000
    assert (len(found) == 10_000, more) == ((True, False) if name == "input.jsonl" else (False, True))
    rest, _ = world.files.page(CALLER, limit=1, after=found[-1].id, newest_first=False, purpose=None)
    assert rest == () if not more else rest[0].id == ids[len(found)]


def test_what_can_be_no_file_is_not_asked_for(world: Filing) -> None:
    # DynamoDB takes no key of more than 2 KB, which would look like a mistake of ours.
    world.file()
    world.store.failing = StateError("asked")
    with pytest.raises(NotFoundError) as raised:
        world.files.page(CALLER, limit=2, after="a" * 3_000, newest_first=True, purpose=None)
    assert raised.value.param == "after"
