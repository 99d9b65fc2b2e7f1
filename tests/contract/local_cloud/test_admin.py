"""What `local.admin` sends over the wire: requests whose signature another SigV4 implementation accepts."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest

from local import admin
from local.connection import Connection
from local.errors import LocalError

ACCESS_KEY_ID, SECRET_ACCESS_KEY, REGION = "AKIDEXAMPLE", "a-secret-access-key", "eu-central-1"


@dataclass
class Received:
    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes

    @property
    def signature_holds(self) -> bool:
        """Whether the signature is the one that the specification asks for, computed by hand.

        https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
        """
        pattern = r"AWS4-HMAC-SHA256 Credential=([^,]+), SignedHeaders=([^,]+), Signature=([0-9a-f]{64})"
        found = re.fullmatch(pattern, self.headers["authorization"])
        assert found is not None
        credential, signed_headers, signature = found.groups()
        access_key_id, *scope = credential.split("/")
        assert (access_key_id, scope[1:]) == (ACCESS_KEY_ID, [REGION, "execute-api", "aws4_request"])
        assert "host" in signed_headers.split(";")
        headers = "".join(f"{name}:{self.headers[name].strip()}\n" for name in signed_headers.split(";"))
        # API Gateway encodes the path that was sent once more, as every service but S3 does.
        path = self.path.replace("%", "%25")
        query = "&".join(sorted(self.query.split("&"))) if self.query else ""
        canonical = "\n".join(
            [self.method, path, query, headers, signed_headers, hashlib.sha256(self.body).hexdigest()]
        )
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        to_sign = "\n".join(["AWS4-HMAC-SHA256", self.headers["x-amz-date"], "/".join(scope), digest])
        key = f"AWS4{SECRET_ACCESS_KEY}".encode()
        for part in scope:
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        return hmac.compare_digest(hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest(), signature)


@dataclass
class Platform:
    """An HTTP server that answers from a list."""

    url: str = ""
    answers: list[tuple[int, bytes]] = field(default_factory=list)
    received: list[Received] = field(default_factory=list)

    @property
    def connection(self) -> Connection:
        return Connection({"SLUICE_URL": f"{self.url}/v1"}, "the environment", None)


@pytest.fixture
def platform(monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    platform = Platform()

    class Handler(BaseHTTPRequestHandler):
        def handle_one(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            parts = urlsplit(self.path)
            headers = {name.lower(): value for name, value in self.headers.items()}
            platform.received.append(Received(self.command, parts.path, parts.query, headers, body))
            status, answer = platform.answers.pop(0)
            self.send_response(status)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST = do_PATCH = do_DELETE = handle_one  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    platform.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield platform
    server.shutdown()
    thread.join()
    server.server_close()


def answer(status: int = 200, **fields: object) -> tuple[int, bytes]:
    return status, json.dumps(fields).encode()


def test_every_method_is_signed_over_its_path_query_and_body(platform: Platform) -> None:
    connection = platform.connection
    platform.answers = [
        answer(201, id="key_1", key="a-secret"),
        answer(data=[], has_more=False, next_after=None),
        answer(id="key_1"),
        answer(id="key_1"),
        answer(id="key_1"),
        answer(data=[]),
        answer(data=[]),
        answer(data=[]),
        answer(data=[], dead_letters=0, has_more=False),
        answer(moved=1, done=True, before_ms=5),
    ]
    admin.create_key(connection, "Büro", {"rpm": 5})
    admin.list_keys(connection)
    admin.update_key(connection, "key_1", {"rpm": None})
    admin.rotate_key(connection, "a key/with%odd characters", 7)
    admin.revoke_key(connection, "key_1")
    admin.usage(connection, {"group_by": "key,model", "from": "2026-11-01", "key_id": "ü & co"})
    admin.circuits(connection)
    admin.queues(connection)
    admin.dead_letters(connection, "batches", 5)
    admin.redrive(connection, "async")
    assert [(each.method, each.path) for each in platform.received] == [
        ("POST", "/v1/admin/keys"),
        ("GET", "/v1/admin/keys"),
        ("PATCH", "/v1/admin/keys/key_1"),
        ("POST", "/v1/admin/keys/a%20key%2Fwith%25odd%20characters/rotate"),
        ("DELETE", "/v1/admin/keys/key_1"),
        ("GET", "/v1/admin/usage"),
        ("GET", "/v1/admin/circuits"),
        ("GET", "/v1/admin/queues"),
        ("GET", "/v1/admin/queues/batches/dead-letters"),
        ("POST", "/v1/admin/queues/async/redrive"),
    ]
    assert [each.signature_holds for each in platform.received] == [True] * 10
    assert json.loads(platform.received[0].body) == {"name": "Büro", "rpm": 5}
    assert json.loads(platform.received[2].body) == {"rpm": None}
    assert all(SECRET_ACCESS_KEY not in str(each) for each in platform.received)


def test_a_refusal_is_told_in_the_platforms_own_words(platform: Platform) -> None:
    platform.answers = [answer(400, error={"message": "'rpm' must be less.", "param": "rpm"})]
    with pytest.raises(LocalError, match=r"answered 400: 'rpm' must be less\."):
        admin.create_key(platform.connection, "app", {"rpm": 10**9})


@pytest.mark.parametrize(
    ("status", "body", "hint"),
    [
        (403, b'{"message":"Forbidden"}', "execute-api:Invoke"),
        (404, b'{"error":{"message":"There is no key with this id."}}', "make keys"),
        (500, b"<html>", "FUNCTION=admin_keys"),
        (409, b"{}", ""),
    ],
)
def test_a_refusal_comes_with_what_to_do(platform: Platform, status: int, body: bytes, hint: str) -> None:
    platform.answers = [(status, body)]
    with pytest.raises(LocalError, match=f"answered {status}") as raised:
        admin.revoke_key(platform.connection, "key_1")
    assert hint in raised.value.hint


def test_a_platform_that_is_not_there_is_told_in_one_line(platform: Platform) -> None:
    gone = Connection({"SLUICE_URL": "http://127.0.0.1:1/v1"}, "the environment", None)
    with pytest.raises(LocalError, match="got no answer"):
        admin.circuits(gone)
