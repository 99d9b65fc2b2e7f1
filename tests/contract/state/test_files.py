"""What files, uploads and their contents do, in memory and in AWS's services."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import botocore.session
import msgspec
import pytest
import urllib3
from botocore.config import Config

from sluice.adapters.dynamodb import Table
from sluice.adapters.dynamodb_files import DynamoDBFiles, from_item, to_item
from sluice.adapters.s3_compose import S3Composer
from sluice.adapters.s3_files import S3Files
from sluice.adapters.s3_ranges import S3Ranges
from sluice.domain.deadline import Deadline
from sluice.domain.errors import ConfigurationError, NotFoundError, StateConflictError
from sluice.domain.files import (
    FILE_PREFIX,
    PART_PREFIX,
    UPLOAD_PREFIX,
    FilePurpose,
    NewFile,
    StoredFile,
    Upload,
    UploadPart,
    UploadStatus,
    object_key_of,
)
from sluice.domain.ids import new_id
from sluice.domain.inference import Caller
from sluice.domain.ports import FileContents, FileStore
from sluice.services.uploads import Uploads
from sluice.testing.files import FakeFileContents, FakeFiles
from tests.contract.state.conftest import Aws, repeating

NOW = 1_800_000_000
# S3 takes no smaller part but the last.
PART = 5 * 1024 * 1024


@pytest.fixture(scope="session")
def table(aws: Aws) -> Table:
    return aws.table()[0]


@pytest.fixture(params=["fake", "real"])
def files(request: pytest.FixtureRequest) -> FileStore:
    if request.param == "fake":
        return FakeFiles(lambda: NOW)
    return DynamoDBFiles(request.getfixturevalue("table"), lambda: NOW)


@pytest.fixture
def key_id() -> str:
    return new_id("key")


def stored(key_id: str, **changes: Any) -> StoredFile:
    file_id = new_id(FILE_PREFIX)
    file = StoredFile(
        id=file_id,
        key_id=key_id,
        filename="größer.jsonl",
        bytes=12,
        purpose=FilePurpose.BATCH,
        created_at=NOW - 10,
        expires_at=NOW + 10,
        object_key=object_key_of(key_id, file_id),
    )
    return msgspec.structs.replace(file, **changes)


def begun(key_id: str, **changes: Any) -> Upload:
    upload = Upload(
        id=new_id(UPLOAD_PREFIX),
        key_id=key_id,
        file_id=new_id(FILE_PREFIX),
        filename="a.jsonl",
        bytes=9,
        purpose=FilePurpose.BATCH,
        content_type="application/jsonl",
        status=UploadStatus.PENDING,
        created_at=NOW - 10,
        expires_at=NOW + 3_600,
        part_size=4,
    )
    return msgspec.structs.replace(upload, **changes)


def file_of(upload: Upload) -> StoredFile:
    return stored(upload.key_id, id=upload.file_id, object_key=object_key_of(upload.key_id, upload.file_id))


# ---- Files ----


def test_what_was_stored_is_there_for_its_own_key_only(files: FileStore, key_id: str) -> None:
    file = stored(key_id)
    files.create(file)
    assert files.get(key_id, file.id) == file
    assert files.get("key_other", file.id) is None
    assert files.get(key_id, new_id(FILE_PREFIX)) is None


def test_an_item_holds_all_of_a_file(key_id: str) -> None:
    file = stored(key_id, content_type="text/plain", purpose=FilePurpose.BATCH_OUTPUT)
    assert from_item(to_item(file)) == file


def test_the_very_same_file_may_be_stored_again_and_no_other(files: FileStore, key_id: str) -> None:
    file = stored(key_id)
    files.create(file)
    files.create(file)
    with pytest.raises(StateConflictError):
        files.create(msgspec.structs.replace(file, bytes=13))
    assert files.get(key_id, file.id) == file


def test_what_has_expired_is_not_there(files: FileStore, key_id: str) -> None:
    over, lasting = stored(key_id, expires_at=NOW), stored(key_id, expires_at=NOW + 1)
    for file in (over, lasting):
        files.create(file)
    assert files.get(key_id, over.id) is None
    page, more = files.page(key_id, limit=10, after=None, newest_first=True, purpose=None)
    assert ([file.id for file in page], more) == ([lasting.id], False)


@pytest.mark.parametrize("newest_first", [True, False])
def test_pages_hold_each_file_once_in_order_of_creation(files: FileStore, key_id: str, newest_first: bool) -> None:
    made = [stored(key_id, created_at=NOW - 10 + number // 2) for number in range(7)]
    for file in (*made, stored("key_other")):
        files.create(file)
    found: list[StoredFile] = []
    more, after = True, None
    while more:
        page, more = files.page(key_id, limit=3, after=after, newest_first=newest_first, purpose=None)
        assert len(page) == 3 or not more
        found += page
        after = page[-1].id
    expected = sorted(made, key=lambda file: (file.created_at, file.id), reverse=newest_first)
    assert found == expected


def test_a_page_may_be_of_one_purpose(files: FileStore, key_id: str) -> None:
    made = [stored(key_id, created_at=NOW - 9 + number, purpose=list(FilePurpose)[number % 3]) for number in range(9)]
    for file in made:
        files.create(file)
    page, more = files.page(key_id, limit=2, after=None, newest_first=False, purpose="batch_output")
    assert ([file.id for file in page], more) == ([made[2].id, made[5].id], True)
    page, more = files.page(key_id, limit=2, after=made[5].id, newest_first=False, purpose="batch_output")
    assert ([file.id for file in page], more) == ([made[8].id], False)


def test_a_page_behind_a_file_that_is_not_there_is_not_found(files: FileStore, key_id: str) -> None:
    other = stored("key_other")
    files.create(other)
    for after in (other.id, new_id(FILE_PREFIX)):
        with pytest.raises(NotFoundError):
            files.page(key_id, limit=2, after=after, newest_first=True, purpose=None)


def test_only_its_own_key_deletes_a_file(files: FileStore, key_id: str) -> None:
    file = stored(key_id)
    files.create(file)
    files.delete("key_other", file.id)
    assert files.get(key_id, file.id) == file
    for _ in range(2):
        files.delete(key_id, file.id)
        assert files.get(key_id, file.id) is None
    assert files.page(key_id, limit=2, after=None, newest_first=True, purpose=None) == ((), False)


# ---- Uploads ----


def test_an_upload_is_there_for_its_own_key_only_even_when_its_time_is_over(files: FileStore, key_id: str) -> None:
    upload = begun(key_id, expires_at=NOW - 1, file_ttl_s=3_600, presigned=True, multipart_id="m")
    files.create_upload(upload)
    assert files.get_upload(key_id, upload.id) == upload
    assert files.get_upload("key_other", upload.id) is None
    assert files.get_upload(key_id, new_id(UPLOAD_PREFIX)) is None


def test_the_very_same_upload_and_part_may_be_stored_again_and_no_other(files: FileStore, key_id: str) -> None:
    upload = begun(key_id)
    part = UploadPart(id=new_id(PART_PREFIX), upload_id=upload.id, bytes=4, created_at=NOW, object_key="k")
    for _ in range(2):
        files.create_upload(upload)
        files.add_part(upload, part)
    with pytest.raises(StateConflictError):
        files.create_upload(msgspec.structs.replace(upload, bytes=10))
    with pytest.raises(StateConflictError):
        files.add_part(upload, msgspec.structs.replace(part, bytes=5))
    assert files.get_upload(key_id, upload.id) == upload
    assert dict(files.parts(upload)) == {part.id: part}


def test_files_uploads_and_parts_whose_answers_are_lost_are_stored_once(table: Table, key_id: str) -> None:
    files = DynamoDBFiles(repeating(table), lambda: NOW)
    upload, file = begun(key_id), stored(key_id)
    part = UploadPart(id=new_id(PART_PREFIX), upload_id=upload.id, bytes=4, created_at=NOW, object_key="k")
    files.create(file)
    files.create_upload(upload)
    files.add_part(upload, part)
    assert files.get(key_id, file.id) == file
    assert files.get_upload(key_id, upload.id) == upload
    assert dict(files.parts(upload)) == {part.id: part}


def test_an_uploads_item_outlives_it_by_a_day(table: Table, key_id: str) -> None:
    upload = begun(key_id)
    DynamoDBFiles(table).create_upload(upload)
    item = table.get(f"UPLOAD#{upload.id}", "META")
    assert item is not None
    assert item["expires_at"] == upload.expires_at + 86_400


def test_parts_that_come_side_by_side_are_all_there(files: FileStore, key_id: str) -> None:
    upload, other = begun(key_id), begun(key_id)
    made = [
        UploadPart(id=new_id(PART_PREFIX), upload_id=upload.id, bytes=number, created_at=NOW, object_key=f"k{number}")
        for number in range(12)
    ]
    for each in (upload, other):
        files.create_upload(each)
    threads = [threading.Thread(target=files.add_part, args=(upload, part)) for part in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert dict(files.parts(upload)) == {part.id: part for part in made}
    assert dict(files.parts(other)) == {}
    assert files.get_upload(key_id, upload.id) == upload


def test_parts_are_put_together_in_one_way_only(files: FileStore, key_id: str) -> None:
    upload = begun(key_id)
    files.create_upload(upload)
    composed = files.compose(upload, composing="c1", order="ab")
    assert composed == msgspec.structs.replace(upload, composing="c1", order="ab")
    assert files.compose(upload, composing="c1", order="ab") == composed
    for other in ({"composing": "c2", "order": "ab"}, {"composing": "c1", "order": "ba"}):
        with pytest.raises(StateConflictError):
            files.compose(upload, **other)
    assert files.get_upload(key_id, upload.id) == composed


@pytest.mark.parametrize("status", [UploadStatus.CANCELLED, UploadStatus.COMPLETED])
def test_an_upload_ends_once(files: FileStore, key_id: str, status: UploadStatus) -> None:
    upload = begun(key_id)
    file = file_of(upload) if status is UploadStatus.COMPLETED else None
    files.create_upload(upload)
    for _ in range(2):
        files.end_upload(upload, status, file=file)
        assert files.get_upload(key_id, upload.id) == msgspec.structs.replace(upload, status=status)
        assert files.get(key_id, upload.file_id) == file
    other = UploadStatus.COMPLETED if file is None else UploadStatus.CANCELLED
    with pytest.raises(StateConflictError):
        files.end_upload(upload, other, file=None if file else file_of(upload))
    with pytest.raises(StateConflictError):
        files.compose(upload, composing="c", order="ab")
    assert files.get(key_id, upload.file_id) == file


def test_of_many_who_end_an_upload_one_makes_the_file(files: FileStore, key_id: str) -> None:
    upload = begun(key_id)
    files.create_upload(upload)
    made = [msgspec.structs.replace(file_of(upload), created_at=NOW - number) for number in range(6)]
    failed: list[Exception] = []

    def end(file: StoredFile) -> None:
        try:
            files.end_upload(upload, UploadStatus.COMPLETED, file=file)
        except StateConflictError as error:
            failed.append(error)

    threads = [threading.Thread(target=end, args=(file,)) for file in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Whoever lost against a transaction that was still under way is told so, and asks again.
    assert len(failed) < len(made)
    assert files.get(key_id, upload.file_id) in made


# ---- Contents ----


@dataclass
class Contents:
    """Contents, and what a holder of a URL does."""

    contents: FileContents
    put: Callable[[str, bytes], None]
    get: Callable[[str], tuple[bytes, Mapping[str, str]]]


@pytest.fixture(params=["fake", "real"])
def contents(request: pytest.FixtureRequest) -> Contents:
    if request.param == "fake":
        fake = FakeFileContents()

        def got(url: str) -> tuple[bytes, Mapping[str, str]]:
            return fake.get(url.removeprefix("https://objects/")), {}

        return Contents(fake, fake.put_part, got)
    aws: Aws = request.getfixturevalue("aws")
    pool = urllib3.PoolManager()

    def put(url: str, body: bytes) -> None:
        answer = pool.request("PUT", url, body=body)
        if answer.status == 403:
            raise PermissionError
        assert answer.status == 200, answer.data

    def get(url: str) -> tuple[bytes, Mapping[str, str]]:
        answer = pool.request("GET", url)
        assert answer.status == 200, answer.data
        return answer.data, answer.headers

    return Contents(S3Files(aws.client("s3"), aws.bucket(), signer=signer(aws), url_s=60), put, get)


def signer(aws: Aws) -> Any:
    """A client that signs as the functions' own does."""
    session = botocore.session.get_session()
    session.set_credentials("test", "test")
    config = Config(signature_version="s3v4", s3={"addressing_style": "path"})
    endpoint_url = aws.client("s3").meta.endpoint_url
    return session.create_client("s3", region_name="us-east-1", endpoint_url=endpoint_url, config=config)


@pytest.mark.parametrize("body", [b"", b"{}\n", bytes(range(256)) * 64])
def test_what_was_put_is_there_until_it_is_deleted(contents: Contents, key_id: str, body: bytes) -> None:
    key = stored(key_id).object_key
    contents.contents.put(key, body, content_type="application/jsonl")
    assert (contents.contents.get(key), contents.contents.size(key)) == (body, len(body))
    for _ in range(2):
        contents.contents.delete(key)
    for look in (contents.contents.get, contents.contents.size):
        with pytest.raises(NotFoundError):
            look(key)


def test_a_url_gives_the_content_to_whoever_has_it(contents: Contents, key_id: str) -> None:
    file = stored(key_id)
    contents.contents.put(file.object_key, b"content", content_type=file.content_type)
    body, headers = contents.get(contents.contents.download_url(file))
    assert body == b"content"
    if headers:
        assert headers["content-disposition"] == "attachment; filename*=UTF-8''gr%C3%B6%C3%9Fer.jsonl"
        assert headers["content-type"] == "application/octet-stream"


def test_presigned_parts_become_the_object(contents: Contents, key_id: str) -> None:
    key = stored(key_id).object_key
    multipart_id = contents.contents.begin_parts(key, content_type="application/jsonl")
    urls = contents.contents.part_urls(key, multipart_id, [PART, 2])
    assert contents.contents.parts(key, multipart_id) == []
    bodies = [b"a" * PART, b"b\n"]
    for url, body in reversed(list(zip(urls, bodies, strict=True))):
        contents.put(url, bytes(len(body)))
        contents.put(url, body)
    parts = contents.contents.parts(key, multipart_id)
    assert [(part.number, part.bytes) for part in parts] == [(1, PART), (2, 2)]
    contents.contents.join_parts(key, multipart_id, parts)
    assert contents.contents.get(key) == b"".join(bodies)
    with pytest.raises(NotFoundError):
        contents.contents.parts(key, multipart_id)
    contents.contents.abort_parts(key, multipart_id)
    assert contents.contents.size(key) == PART + 2


def test_a_part_of_another_size_is_not_taken(contents: Contents, key_id: str) -> None:
    key = stored(key_id).object_key
    multipart_id = contents.contents.begin_parts(key, content_type="application/jsonl")
    [url] = contents.contents.part_urls(key, multipart_id, [4])
    for body in (b"par", b"parts"):
        with pytest.raises(PermissionError):
            contents.put(url, body)
    assert contents.contents.parts(key, multipart_id) == []


def test_what_is_aborted_never_becomes_an_object(contents: Contents, key_id: str) -> None:
    key = stored(key_id).object_key
    multipart_id = contents.contents.begin_parts(key, content_type="application/jsonl")
    [url] = contents.contents.part_urls(key, multipart_id, [4])
    contents.put(url, b"part")
    for _ in range(2):
        contents.contents.abort_parts(key, multipart_id)
    with pytest.raises(NotFoundError):
        contents.contents.parts(key, multipart_id)
    with pytest.raises(NotFoundError):
        contents.contents.get(key)


def test_more_parts_than_one_answer_of_s3_holds(aws: Aws, key_id: str) -> None:
    s3, bucket, key = aws.client("s3"), aws.bucket(), stored(key_id).object_key
    made = S3Files(s3, bucket, signer=s3, url_s=60)
    multipart_id = made.begin_parts(key, content_type="application/jsonl")
    for number in range(1, 1_003):
        s3.upload_part(Bucket=bucket, Key=key, UploadId=multipart_id, PartNumber=number, Body=b"x")
    assert [part.number for part in made.parts(key, multipart_id)] == list(range(1, 1_003))


@pytest.mark.parametrize("presigned", [False, True])
def test_an_upload_becomes_a_file_in_the_services_themselves(aws: Aws, table: Table, presigned: bool) -> None:
    s3, bucket = aws.client("s3"), aws.bucket()
    files, kept = DynamoDBFiles(table), S3Files(s3, bucket, signer=signer(aws), url_s=60)
    uploads = Uploads(
        store=files,
        contents=kept,
        ranges=S3Ranges(s3, bucket),
        composer=S3Composer(s3, bucket),
        most_bytes=10**9,
        ttl_s=600,
        file_ttl_days=1,
    )
    caller = Caller(key_id=new_id("key"), request_id="request-1")
    new = NewFile(filename="a.jsonl", purpose=FilePurpose.BATCH, content_type="application/jsonl")
    content = random.Random(1).randbytes(PART + 1_000_003)
    view = uploads.create(new, caller, size=len(content), presigned=presigned)
    upload_id, part_ids = view.upload.id, []
    if presigned:
        [url] = view.part_urls or ()
        assert urllib3.PoolManager().request("PUT", url, body=content).status == 200
    else:
        pieces = [content[start : start + 1_000_000] for start in range(0, len(content), 1_000_000)]
        part_ids = [uploads.add_part(upload_id, piece, caller).id for piece in pieces]
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    done = [
        uploads.complete(upload_id, caller, part_ids=part_ids, md5=md5, deadline=Deadline.after(30)) for _ in range(2)
    ]
    assert done[0].file is not None
    assert done[0].file == done[1].file == files.get(caller.key_id, view.upload.file_id)
    assert kept.get(done[0].file.object_key) == content


def test_a_bucket_that_is_not_there_needs_an_operator(aws: Aws, key_id: str) -> None:
    s3 = aws.client("s3")
    nowhere = S3Files(s3, "no-such-bucket-anywhere", signer=s3, url_s=60)
    with pytest.raises(ConfigurationError):
        nowhere.put("key", b"body", content_type="application/jsonl")


def test_a_url_is_signed_for_another_address_and_for_its_time_only(key_id: str, monkeypatch: Any) -> None:
    from sluice.runtime.clients import client

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    client.cache_clear()
    signer = client("s3", endpoint_url="http://localhost:1")
    client.cache_clear()
    made = S3Files(client("s3"), "bucket", signer=signer, url_s=600)
    file = stored(key_id, filename='ein "Wort".jsonl')
    url = urlsplit(made.download_url(file))
    query = dict(part.split("=", 1) for part in url.query.split("&"))
    assert (url.netloc, url.path) == ("localhost:1", f"/bucket/{file.object_key}")
    assert (query["X-Amz-Algorithm"], query["X-Amz-Expires"]) == ("AWS4-HMAC-SHA256", "600")
    assert "Wort" in query["response-content-disposition"]
    [part] = made.part_urls(file.object_key, "m", [5])
    # Whoever puts a part need not know of checksums.
    assert "checksum" not in part
