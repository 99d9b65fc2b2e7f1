"""Messages go to the very address that was found good, with TLS that is verified, and nobody can hold them up."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from sluice.adapters.https_webhooks import HttpsWebhooks
from sluice.domain.errors import WebhookError
from sluice.domain.webhooks import WebhookMessage

MESSAGE = WebhookMessage(body=b'{"id":"evt_1"}', headers={"content-type": "application/json", "webhook-id": "evt_1"})


@dataclass
class Server:
    """A caller's server, which answers with ``status`` and ``headers``, or does what ``serve`` does."""

    port: int
    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    paths: list[str] = field(default_factory=list)
    received: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)


class Names:
    """A resolver of the tests' own, which counts how often it was asked."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self.asked: list[str] = []

    def __call__(self, host: str, port: int, **_: Any) -> Sequence[tuple[Any, Any, int, str, tuple[Any, ...]]]:
        self.asked.append(host)
        if not self.addresses:
            raise socket.gaierror("no such name")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in self.addresses]


def serving(told: Server, context: ssl.SSLContext | None) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            told.paths.append(self.path)
            told.received.append({name.lower(): value for name, value in self.headers.items()})
            told.bodies.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(told.status)
            for name, value in told.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """A client that hangs up during the handshake is what some tests are about."""

    server = Quiet(("127.0.0.1", 0), Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    told.port = server.server_port
    return server


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """For the name hooks.example and for nothing else."""
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=x"
    options = ["-addext", "subjectAltName=DNS:hooks.example", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command.split(), *options], check=True, capture_output=True)
    return certificate, key


@pytest.fixture
def plain() -> Iterator[Server]:
    told = Server(0)
    server = serving(told, None)
    yield told
    server.shutdown()
    server.server_close()


@pytest.fixture
def secured(certificate: tuple[Path, Path]) -> Iterator[Server]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    told = Server(0)
    server = serving(told, context)
    yield told
    server.shutdown()
    server.server_close()


@pytest.fixture
def trusting(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate[0]))


def sender(*, names: Names | None = None, context: ssl.SSLContext | None = None, private: bool = True) -> HttpsWebhooks:
    return HttpsWebhooks(
        allow_private=private,
        context=context or ssl.create_default_context(),
        resolve=names or Names("127.0.0.1"),
    )


def refused(by: HttpsWebhooks, url: str, *, timeout_s: float = 5) -> str | None:
    with pytest.raises(WebhookError) as failure:
        by.post(url, MESSAGE, timeout_s=timeout_s)
    assert "127.0.0.1" not in failure.value.message
    assert failure.value.retryable
    return failure.value.code


def test_a_message_arrives_as_it_was_made(plain: Server) -> None:
    answer = sender().post(f"http://hooks.example:{plain.port}/a%20b?c=d&e", MESSAGE, timeout_s=5)
    assert answer.is_taken
    assert plain.paths == ["/a%20b?c=d&e"]
    assert plain.bodies == [MESSAGE.body]
    [headers] = plain.received
    assert headers["host"] == f"hooks.example:{plain.port}"
    assert (headers["webhook-id"], headers["content-type"]) == ("evt_1", "application/json")
    assert headers["connection"] == "close"


def test_a_url_without_a_path_is_the_root(plain: Server) -> None:
    sender().post(f"http://hooks.example:{plain.port}", MESSAGE, timeout_s=5)
    assert plain.paths == ["/"]


@pytest.mark.parametrize("status", [200, 410, 429, 500])
def test_what_the_server_said_is_told(plain: Server, status: int) -> None:
    plain.status, plain.headers = status, {"Retry-After": "7"}
    answer = sender().post(f"http://hooks.example:{plain.port}/", MESSAGE, timeout_s=5)
    assert (answer.status, answer.retry_after_s) == (status, 7.0)


def test_nobody_is_followed_anywhere(plain: Server) -> None:
    plain.status, plain.headers = 302, {"location": f"http://127.0.0.1:{plain.port}/elsewhere"}
    answer = sender().post(f"http://hooks.example:{plain.port}/here", MESSAGE, timeout_s=5)
    assert (answer.status, plain.paths) == (302, ["/here"])


# ---- the way there ----


def test_the_server_is_verified_by_its_name_while_the_connection_goes_to_the_address(
    secured: Server, trusting: ssl.SSLContext
) -> None:
    names = Names("127.0.0.1")
    answer = sender(names=names, context=trusting).post(f"https://hooks.example:{secured.port}/", MESSAGE, timeout_s=5)
    assert answer.is_taken
    # Asked once: whatever the name points to a moment later is of no importance.
    assert names.asked == ["hooks.example"]
    assert secured.received[0]["host"] == f"hooks.example:{secured.port}"


def test_a_certificate_for_another_name_is_refused(secured: Server, trusting: ssl.SSLContext) -> None:
    assert refused(sender(context=trusting), f"https://other.example:{secured.port}/") == "webhook_tls"
    assert secured.paths == []


def test_an_authority_that_is_not_trusted_is_refused(secured: Server) -> None:
    assert refused(sender(), f"https://hooks.example:{secured.port}/") == "webhook_tls"
    assert secured.paths == []


def test_the_next_address_is_tried_when_one_is_dead(plain: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        dead = held.getsockname()[1]

    def resolve(*_: object, **__: object) -> Sequence[tuple[Any, Any, int, str, tuple[Any, ...]]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in (dead, plain.port)]

    both = HttpsWebhooks(allow_private=True, context=ssl.create_default_context(), resolve=resolve)
    assert both.post("http://hooks.example/", MESSAGE, timeout_s=5).is_taken


def test_a_server_that_is_not_there_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    assert refused(sender(), f"http://hooks.example:{port}/") == "webhook_unreachable"


def test_a_name_that_is_not_there_is_told() -> None:
    assert refused(sender(names=Names()), "http://hooks.example/") == "webhook_unresolvable"


# ---- addresses that are not for us ----


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "169.254.169.254", "192.168.0.1", "100.64.0.1", "::1", "::ffff:127.0.0.1", "fe80::1%lo"],
)
@pytest.mark.parametrize("beside", [(), ("93.184.215.14",)])
def test_a_name_with_an_address_inside_is_never_connected_to(
    monkeypatch: pytest.MonkeyPatch, address: str, beside: tuple[str, ...]
) -> None:
    def never(*_: object, **__: object) -> socket.socket:
        raise AssertionError("a connection was made")

    monkeypatch.setattr(socket, "create_connection", never)
    names = Names(*beside, address)
    assert refused(sender(names=names, private=False), "https://hooks.example/") == "webhook_address_refused"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "0x7f000001", "2130706433", "127.1", "0177.0.0.1"])
def test_no_spelling_of_this_machine_gets_through_the_systems_own_resolver(host: str) -> None:
    real = HttpsWebhooks(allow_private=False, context=ssl.create_default_context())
    assert refused(real, f"https://{host}/") in ("webhook_address_refused", "webhook_unresolvable")


def test_plain_http_is_refused_where_only_public_addresses_are_allowed(plain: Server) -> None:
    by = sender(names=Names("93.184.215.14"), private=False)
    assert refused(by, f"http://hooks.example:{plain.port}/") == "webhook_address_refused"
    assert plain.paths == []


def test_a_public_address_is_connected_to_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[tuple[str, int]] = []

    def refuse(address: tuple[str, int], **_: object) -> socket.socket:
        tried.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "create_connection", refuse)
    names = Names("93.184.215.14", "2606:4700::1111")
    assert refused(sender(names=names, private=False), "https://hooks.example/x") == "webhook_unreachable"
    assert tried == [("93.184.215.14", 443), ("2606:4700::1111", 443)]
    assert len(names.asked) == 1


# ---- servers that hold things up ----


@pytest.fixture
def dripping() -> Iterator[tuple[int, list[bytes]]]:
    """A server that sends the given pieces, one every 50 ms, and then the last one for ever."""
    pieces: list[bytes] = []
    listening = socket.create_server(("127.0.0.1", 0))
    stopping = threading.Event()

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                sent = 0
                while not stopping.is_set():
                    try:
                        connection.sendall(pieces[min(sent, len(pieces) - 1)] if pieces else b"")
                    except OSError:
                        break
                    sent += 1
                    time.sleep(0.05)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listening.getsockname()[1], pieces
    stopping.set()
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    thread.join(5)


@pytest.mark.parametrize(
    ("scheme", "sent"),
    [
        ("http", []),
        ("http", [b"H", b"T", b"T", b"P", b"/1.1 200 OK\r\n", b"x: y\r\n"]),
        ("http", [b"HTTP/1.1 100 Continue\r\n\r\n"]),
        ("https", []),
        ("https", [b"\x16\x03\x03\x40\x00", b"\x00"]),
    ],
)
def test_whoever_drips_is_cut_off_in_time(dripping: tuple[int, list[bytes]], scheme: str, sent: list[bytes]) -> None:
    port, pieces = dripping
    pieces += sent
    began = time.monotonic()
    assert refused(sender(), f"{scheme}://hooks.example:{port}/", timeout_s=0.6) == "webhook_timeout"
    assert time.monotonic() - began < 3


def test_an_answer_without_an_end_is_read_no_further_than_its_head(dripping: tuple[int, list[bytes]]) -> None:
    port, pieces = dripping
    pieces += [b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n", b"x" * 100_000]
    began = time.monotonic()
    assert sender().post(f"http://hooks.example:{port}/", MESSAGE, timeout_s=5).is_taken
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("nonsense", [b"SSH-2.0-OpenSSH_9.6\r\n", b"HTTP/1.1 abc\r\n\r\n", b"\x00\x01\x02\r\n\r\n"])
def test_what_is_not_http_is_told(dripping: tuple[int, list[bytes]], nonsense: bytes) -> None:
    port, pieces = dripping
    pieces.append(nonsense)
    assert refused(sender(), f"http://hooks.example:{port}/", timeout_s=5) == "webhook_unreachable"


def test_no_connection_or_thread_is_left_behind(plain: Server) -> None:
    url = f"http://hooks.example:{plain.port}/"
    sender().post(url, MESSAGE, timeout_s=5)
    before = threading.active_count()
    for _ in range(20):
        sender().post(url, MESSAGE, timeout_s=5)
    assert threading.active_count() <= before + 2
