"""Providers are verified: by the authorities that AWS clients use, and by name."""

from __future__ import annotations

import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from sluice.adapters.openai_compatible import OpenAICompatible
from sluice.domain.errors import ProviderUnavailableError
from sluice.domain.inference import ChatRequest, Message
from sluice.domain.routing import Target
from sluice.runtime import clients, tls
from sluice.testing.routes import BOTH

ANSWER = b'{"choices":[{"message":{"content":"hello"},"finish_reason":"stop"}]}'


class Provider(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", str(len(ANSWER)))
        self.end_headers()
        self.wfile.write(ANSWER)

    def log_message(self, *_: object) -> None:
        pass


class Secrets:
    def field(self, name: str) -> str:
        return name

    def forget(self) -> None:
        pass


@dataclass(frozen=True)
class World:
    certificate: Path
    port: int

    def ask(self, host: str) -> str:
        target = Target(
            name="p/m",
            provider="openai_compatible",
            model="m",
            operations=BOTH,
            base_url=f"https://{host}:{self.port}/v1",
        )
        question = ChatRequest(model="m", messages=(Message(role="user", content="?"),))
        return OpenAICompatible(Secrets(), trust=clients.trust()).chat(target, question, timeout_s=10).text


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A provider whose certificate is for the address 127.0.0.1 and no name."""
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    options = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command.split(), *options], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = HTTPServer(("127.0.0.1", 0), Provider)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield World(certificate, server.server_port)
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    def forget() -> None:
        clients.client.cache_clear()
        clients._session.cache_clear()
        tls.context.cache_clear()

    forget()
    yield
    forget()


def test_a_provider_that_aws_clients_would_trust_is_trusted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(world.certificate))
    assert world.ask("127.0.0.1") == "hello"


def test_a_stranger_is_refused(world: World) -> None:
    with pytest.raises(ProviderUnavailableError) as refused:
        world.ask("127.0.0.1")
    assert "CERTIFICATE_VERIFY_FAILED" in str(refused.value.__cause__)


def test_a_certificate_for_another_name_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(world.certificate))
    with pytest.raises(ProviderUnavailableError) as refused:
        world.ask("localhost")
    assert "hostname 'localhost' doesn't match" in str(refused.value.__cause__)
