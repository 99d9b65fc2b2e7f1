"""Files, uploads and batches by the official ``openai`` client, validating strictly, straight against the handlers."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import openai
import pytest

from functions.batches import handler as batches_module
from functions.files import handler as files_module
from functions.uploads import handler as uploads_module
from sluice.domain.errors import ConfigurationError, SluiceError, StateError
from sluice.runtime import bootstrap
from sluice.services.files import MOST_INLINE_BYTES
from sluice.services.idempotency import Idempotency
from sluice.testing.invocations import CALLER, FakeLambdaContext, api_event
from sluice.testing.replays import FakeReplays
from sluice.wire.files import MOST_BYTES
from tests.unit.sluice.services.filing import NOW, Filing

CANARY = b"canary-that-must-not-be-logged"
MODULES: list[Any] = [files_module, uploads_module, batches_module]
ENVIRONMENT = {
    "TABLE_NAME": "sluice-test",
    "BUCKET_NAME": "sluice-test",
    "FILE_TTL_DAYS": "30",
    "MAX_FILE_BYTES": "5000000000",
    "PRESIGN_SECONDS": "3600",
    "UPLOAD_TTL_SECONDS": "3600",
    "BATCHES_QUEUE_URL": "https://batches",
    "ASSEMBLY_QUEUE_URL": "https://assembly",
    "RESULT_TTL_DAYS": "30",
    "WINDOW": "4",
}
CHAT: Any = "/v1/chat/completions"


class Gateway:
    """API Gateway's part, which hands forms over as base64; and S3's, for whoever follows a URL."""

    def __init__(self) -> None:
        self.world = Filing()
        self.caller: dict[str, str] = dict(CALLER)
        self.seen: list[httpx2.Request] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.seen.append(request)
        if request.url.host == "objects":
            return httpx2.Response(200, content=self.world.objects.bodies[request.url.path.removeprefix("/")])
        path = request.url.raw_path.decode().removeprefix("/v1").partition("?")[0]
        _, area, *rest = path.split("/")
        resource = "/".join(["/v1", area, *(["{id}", *rest[1:]] if rest else [])])
        module = {"files": files_module, "uploads": uploads_module, "batches": batches_module}[area]
        event = api_event(
            request.method,
            resource,
            headers=dict(request.headers),
            path_parameters={"id": rest[0]} if rest else None,
            authorizer=self.caller,
            query=dict(request.url.params),
        )
        is_form = request.headers.get("content-type", "").startswith("multipart/form-data")
        body = base64.b64encode(request.content).decode() if is_form else request.content.decode()
        answer = module.handler(event | {"body": body, "isBase64Encoded": is_form}, FakeLambdaContext())
        return httpx2.Response(answer["statusCode"], headers=answer["headers"], text=answer["body"])


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    gateway = Gateway()
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    replays = FakeReplays()
    monkeypatch.setattr(bootstrap, "idempotency", lambda settings: Idempotency(replays, ttl_s=60))
    for module, service in zip(MODULES, ("files", "uploads", "batches"), strict=True):
        module.replays.cache_clear()
        monkeypatch.setattr(module, "service", lambda service=service: getattr(gateway.world, service))
    yield gateway
    for module in MODULES:
        module.replays.cache_clear()


@pytest.fixture
def client(gateway: Gateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        api_key="sk-sluice-test",
        base_url="http://gateway/v1",
        max_retries=0,
        http_client=httpx2.Client(transport=httpx2.MockTransport(gateway), follow_redirects=True),
        _strict_response_validation=True,
    ) as client:
        yield client


def uploaded(client: openai.OpenAI, content: bytes = b"{}\n", **options: Any) -> str:
    return client.files.create(file=("input.jsonl", content), purpose="batch", **options).id


# ---- Files ----


def test_a_file_is_kept_listed_read_and_deleted(client: openai.OpenAI) -> None:
    content = '{"größer": "\\u0000"}\r\n'.encode()
    file = client.files.create(
        file=("input.jsonl", content), purpose="batch", expires_after={"anchor": "created_at", "seconds": 3_600}
    )
    assert (file.bytes, file.filename, file.purpose, file.status) == (len(content), "input.jsonl", "batch", "processed")
    assert (file.created_at, file.expires_at) == (NOW, NOW + 3_600)
    assert client.files.retrieve(file.id) == file
    assert [each.id for each in client.files.list()] == [file.id]
    assert client.files.content(file.id).content == content
    deleted = client.files.delete(file.id)
    assert (deleted.id, deleted.deleted) == (file.id, True)
    with pytest.raises(openai.NotFoundError) as raised:
        client.files.retrieve(file.id)
    assert raised.value.code == "file_not_found"


def test_a_large_content_is_fetched_from_elsewhere_without_the_key(client: openai.OpenAI, gateway: Gateway) -> None:
    content = b"a" * (MOST_INLINE_BYTES + 1)
    file_id = uploaded(client, content)
    assert client.files.content(file_id).content == content
    assert gateway.seen[-1].url.host == "objects"
    assert "authorization" in gateway.seen[-2].headers
    assert "authorization" not in gateway.seen[-1].headers


def test_a_url_is_for_nobody_on_the_way(gateway: Gateway) -> None:
    file = gateway.world.file(b"\xff")
    event = api_event("GET", "/v1/files/{id}/content", path_parameters={"id": file.id}, authorizer=CALLER)
    response = files_module.handler(event, FakeLambdaContext())
    assert (response["statusCode"], response["body"], response["headers"]["cache-control"]) == (302, "", "no-store")


def test_a_content_is_to_be_saved_whatever_it_says(gateway: Gateway) -> None:
    file = gateway.world.file(b"<script>", filename='a"b.html', content_type="text/html")
    event = api_event("GET", "/v1/files/{id}/content", path_parameters={"id": file.id}, authorizer=CALLER)
    headers = files_module.handler(event, FakeLambdaContext())["headers"]
    assert headers["content-type"] == "application/octet-stream"
    assert headers["content-disposition"] == "attachment; filename*=UTF-8''a%22b.html"


def test_a_list_comes_in_pages(client: openai.OpenAI, gateway: Gateway) -> None:
    made = []
    for _ in range(5):
        made.append(uploaded(client))
        gateway.world.clock.advance(1)
    first = client.files.list(limit=2, order="asc")
    assert ([file.id for file in first.data], first.has_more) == (made[:2], True)
    assert [file.id for file in client.files.list(limit=2)] == made[::-1]
    assert not list(client.files.list(purpose="user_data"))


@pytest.mark.parametrize("query", [{"limit": 0}, {"limit": 10_001}, {"order": "up"}, {"purpose": "vision"}])
def test_a_list_that_cannot_be_names_what_is_wrong(client: openai.OpenAI, query: dict[str, Any]) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.files.list(**query)
    assert raised.value.param in query


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"purpose": "fine-tune"}, "purpose"),
        ({"purpose": "batch_output"}, "purpose"),
        ({"expires_after": {"anchor": "created_at", "seconds": 60}}, "expires_after.seconds"),
        ({"expires_after": {"anchor": "now", "seconds": 3_600}}, "expires_after.anchor"),
        ({"file": ("", b"x")}, "file"),
        ({"file": ("a" * 256, b"x")}, "filename"),
        ({"extra_body": {"priority": "high"}}, "priority"),
    ],
)
def test_a_form_that_cannot_be_names_what_is_wrong(
    client: openai.OpenAI, gateway: Gateway, options: dict[str, Any], param: str
) -> None:
    asked: dict[str, Any] = {"file": ("input.jsonl", b"x"), "purpose": "batch"}
    with pytest.raises(openai.BadRequestError) as raised:
        client.files.create(**(asked | options))
    assert raised.value.param == param
    assert not gateway.world.objects.bodies


def test_json_instead_of_a_form_is_told_what_to_send(gateway: Gateway) -> None:
    event = api_event("POST", "/v1/files", body={"purpose": "batch"}, authorizer=CALLER)
    response = files_module.handler(event, FakeLambdaContext())
    error = json.loads(response["body"])["error"]
    assert (response["statusCode"], error["code"]) == (400, "invalid_form")


def test_a_body_carries_so_much_and_not_a_byte_more(client: openai.OpenAI) -> None:
    assert client.files.retrieve(uploaded(client, b"a" * MOST_BYTES)).bytes == MOST_BYTES
    upload = client.uploads.create(bytes=1, filename="a", mime_type="text/plain", purpose="batch")
    for send in (
        lambda: uploaded(client, b"a" * (MOST_BYTES + 1)),
        lambda: client.uploads.parts.create(upload.id, data=b"a" * (MOST_BYTES + 1)),
    ):
        with pytest.raises(openai.APIStatusError, match=r"/v1/uploads.*part_size") as raised:
            send()
        assert (raised.value.status_code, raised.value.code) == (413, "request_too_large")


# ---- Uploads ----


def test_a_file_comes_in_chunks(client: openai.OpenAI) -> None:
    content = b"0123456789" * 10
    upload = client.uploads.upload_file_chunked(
        file=content,
        filename="input.jsonl",
        bytes=len(content),
        mime_type="application/jsonl",
        purpose="batch",
        part_size=33,
        md5=hashlib.md5(content).hexdigest(),
    )
    assert (upload.status, upload.bytes, upload.expires_at) == ("completed", 100, NOW + 3_600)
    assert upload.file is not None
    assert client.files.retrieve(upload.file.id) == upload.file
    assert client.files.content(upload.file.id).content == content
    assert client.get(f"/uploads/{upload.id}", cast_to=openai.types.Upload) == upload


def test_presigned_parts_go_elsewhere(client: openai.OpenAI, gateway: Gateway) -> None:
    upload = client.uploads.create(
        bytes=3, filename="a", mime_type="text/plain", purpose="user_data", extra_body={"presigned": True}
    )
    extra: Any = upload.model_extra
    assert extra["part_size"] == 67_108_864
    [part] = extra["part_urls"]
    assert part["part_number"] == 1
    gateway.world.contents.put_part(part["url"], b"abc")
    done = client.uploads.complete(upload.id, part_ids=[])
    assert done.file is not None
    assert "part_urls" not in (done.model_extra or {})
    assert client.files.content(done.file.id).content == b"abc"


def test_an_upload_is_cancelled(client: openai.OpenAI) -> None:
    upload = client.uploads.create(bytes=3, filename="a", mime_type="text/plain", purpose="batch")
    assert client.uploads.cancel(upload.id).status == "cancelled"
    with pytest.raises(openai.ConflictError) as raised:
        client.uploads.complete(upload.id, part_ids=["part_1"])
    # Repeating it is of no use, which the client believes.
    assert (raised.value.code, raised.value.response.headers["x-should-retry"]) == ("upload_ended", "false")


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"bytes": 0}, "bytes"),
        ({"bytes": 5_000_000_001}, "bytes"),
        ({"purpose": "vision"}, "purpose"),
        ({"mime_type": "text/html\r\nx: y"}, "mime_type"),
        ({"filename": "a\nb"}, "filename"),
        ({"expires_after": {"anchor": "created_at", "seconds": 1}}, "expires_after.seconds"),
    ],
)
def test_an_upload_that_cannot_be_names_what_is_wrong(
    client: openai.OpenAI, changes: dict[str, Any], param: str
) -> None:
    asked: dict[str, Any] = {"bytes": 3, "filename": "a", "mime_type": "text/plain", "purpose": "batch"}
    with pytest.raises(openai.BadRequestError) as raised:
        client.uploads.create(**(asked | changes))
    assert raised.value.param == param


# ---- Batches ----


def test_a_batch_is_accepted_shown_listed_and_cancelled(client: openai.OpenAI, gateway: Gateway) -> None:
    file_id = uploaded(client)
    batch = client.batches.create(
        input_file_id=file_id,
        endpoint=CHAT,
        completion_window="24h",
        metadata={"team": "harbour"},
        output_expires_after={"anchor": "created_at", "seconds": 3_600},
    )
    assert (batch.status, batch.object, batch.metadata) == ("validating", "batch", {"team": "harbour"})
    assert (batch.created_at, batch.expires_at, batch.errors) == (NOW, NOW + 86_400, None)
    assert batch.request_counts is not None
    assert batch.request_counts.total == 0
    assert client.batches.retrieve(batch.id) == batch
    assert [each.id for each in client.batches.list(limit=1)] == [batch.id]
    assert len(gateway.world.queue.bodies) == 1
    cancelled = client.batches.cancel(batch.id)
    assert (cancelled.status, cancelled.cancelled_at) == ("cancelled", NOW)


def test_a_batch_shows_what_sluice_adds(client: openai.OpenAI) -> None:
    batch = client.batches.create(
        input_file_id=uploaded(client),
        endpoint="/v1/embeddings",
        completion_window="24h",
        extra_body={"completion_window": "90m", "output_format": "parquet"},
    )
    extra: Any = batch.model_extra
    assert (extra["output_format"], extra["callback_url"], extra["cost_usd"]) == ("parquet", None, "0")
    assert (batch.completion_window, batch.expires_at) == ("90m", NOW + 5_400)


@pytest.mark.parametrize(
    ("changes", "status", "code", "param"),
    [
        ({"endpoint": "/v1/responses"}, 400, "invalid_value", "endpoint"),
        ({"completion_window": "25h"}, 400, "invalid_value", "completion_window"),
        ({"input_file_id": "file_" + "0" * 32}, 404, "file_not_found", "input_file_id"),
        ({"metadata": {"k" * 65: "v"}}, 400, "invalid_value", "metadata"),
    ],
)
def test_a_batch_that_cannot_be_names_what_is_wrong(
    client: openai.OpenAI, changes: dict[str, Any], status: int, code: str, param: str
) -> None:
    asked = {"input_file_id": uploaded(client), "endpoint": CHAT, "completion_window": "24h"}
    with pytest.raises(openai.APIStatusError) as raised:
        client.batches.create(**(asked | changes))
    assert (raised.value.status_code, raised.value.code, raised.value.param) == (status, code, param)


@pytest.mark.parametrize(("error", "status"), [(StateError("down"), 503), (ConfigurationError("denied"), 500)])
def test_a_queue_that_is_away_is_told_and_the_batch_has_failed(
    client: openai.OpenAI, gateway: Gateway, error: SluiceError, status: int
) -> None:
    gateway.world.queue.failing = error
    with pytest.raises(openai.InternalServerError) as raised:
        client.batches.create(input_file_id=uploaded(client), endpoint=CHAT, completion_window="24h")
    assert raised.value.status_code == status
    assert [batch.status for batch in client.batches.list()] == ["failed"]


# ---- What all of them share ----


def test_nothing_is_another_keys(client: openai.OpenAI, gateway: Gateway) -> None:
    file_id = uploaded(client)
    batch = client.batches.create(input_file_id=file_id, endpoint=CHAT, completion_window="24h")
    upload = client.uploads.create(bytes=1, filename="a", mime_type="text/plain", purpose="batch")
    gateway.caller = CALLER | {"key_id": "key_2", "principalId": "key_2"}
    looks: list[Callable[[], object]] = [
        lambda: client.files.retrieve(file_id),
        lambda: client.files.content(file_id),
        lambda: client.files.delete(file_id),
        lambda: client.files.list(after=file_id),
        lambda: client.batches.create(input_file_id=file_id, endpoint=CHAT, completion_window="24h"),
        lambda: client.batches.retrieve(batch.id),
        lambda: client.batches.cancel(batch.id),
        lambda: client.batches.list(after=batch.id),
        lambda: client.uploads.parts.create(upload.id, data=b"x"),
        lambda: client.uploads.complete(upload.id, part_ids=["part_1"]),
        lambda: client.uploads.cancel(upload.id),
    ]
    for look in looks:
        with pytest.raises(openai.NotFoundError):
            look()
    assert not list(client.files.list())
    assert not list(client.batches.list())


def test_a_key_needs_the_scope(client: openai.OpenAI, gateway: Gateway) -> None:
    gateway.caller = CALLER | {"scopes": "inference,workflow"}
    for look in (client.files.list, client.batches.list, lambda: client.uploads.cancel("upload_1")):
        with pytest.raises(openai.PermissionDeniedError) as raised:
            look()
        assert raised.value.code == "insufficient_scope"
    gateway.caller = CALLER | {"scopes": "batch"}
    client.files.list()


def test_a_repeated_request_is_done_once_whatever_its_boundary(client: openai.OpenAI, gateway: Gateway) -> None:
    once: Any = {"extra_headers": {"idempotency-key": "upload-1"}}
    first, again = uploaded(client, CANARY, **once), uploaded(client, CANARY, **once)
    boundaries = {request.headers["content-type"] for request in gateway.seen}
    assert (first == again, len(boundaries)) == (True, 2)
    assert len(gateway.world.objects.bodies) == 1
    with pytest.raises(openai.UnprocessableEntityError):
        uploaded(client, CANARY + b"!", **once)
    once = {"extra_headers": {"idempotency-key": "batch-1"}}
    made = {
        client.batches.create(input_file_id=first, endpoint=CHAT, completion_window="24h", **once).id for _ in range(2)
    }
    assert len(made) == len(gateway.world.queue.bodies) == 1


@pytest.mark.parametrize("error", [None, StateError("down"), RuntimeError(CANARY.decode())])
def test_no_path_through_the_code_logs_what_a_caller_keeps(
    client: openai.OpenAI, gateway: Gateway, capsys: pytest.CaptureFixture[str], error: Any
) -> None:
    name = CANARY.decode()
    kept = uploaded(client, CANARY)
    gateway.world.contents.failing = error
    upload = client.uploads.create(bytes=30, filename=name, mime_type="text/plain", purpose="batch")
    asked: Any = {"endpoint": CHAT, "completion_window": "24h"}
    uses: list[Callable[[], object]] = [
        lambda: client.files.create(file=(name, CANARY), purpose="batch"),
        lambda: client.files.content(kept),
        lambda: client.uploads.parts.create(upload.id, data=CANARY),
        lambda: client.batches.create(input_file_id=kept, **asked, metadata={name: name}),
        lambda: client.batches.create(input_file_id=name, **asked),
    ]
    told = [str(_outcome(use)) for use in uses]
    assert "There is no such file." in told[-1]
    assert not any(name in each for each in told[2:3] + told[4:])
    output = capsys.readouterr()
    assert output.out.count('"event":"request"') == len(uses) + 2
    assert name not in output.out + output.err


def _outcome(use: Callable[[], object]) -> object:
    try:
        return use()
    except openai.APIStatusError as error:
        return error.response.text
