"""What is particular to OpenAI's protocol: the key, addresses, and servers that misbehave below HTTP."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pytest

from sluice.domain import errors
from tests.contract.providers.conftest import Provider
from tests.contract.providers.test_providers import ASK, failure


@contextmanager
def answering(*pieces: bytes, pause_s: float = 0.0) -> Iterator[str]:
    """A server that answers one request with these bytes, piece by piece."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65_536)
                for piece in pieces:
                    try:
                        connection.sendall(piece)
                    except OSError:
                        return
                    time.sleep(pause_s)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        thread.join(5)


def http(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def refused_at(provider: Provider, base_url: str, *, timeout_s: float = 5) -> errors.ProviderError:
    provider.chat = provider.elsewhere(base_url)
    return failure(provider, timeout_s=timeout_s)


def test_the_key_comes_from_the_targets_field_of_the_secret(openai_compatible: Provider) -> None:
    openai_compatible.secrets.fields = {"local": "wrong-key"}
    assert type(failure(openai_compatible)) is errors.ProviderAuthError
    assert openai_compatible.secrets.forgotten == 1  # it may have been rotated


def test_a_secret_without_the_field_is_for_the_operator(openai_compatible: Provider) -> None:
    openai_compatible.chat = msgspec.structs.replace(openai_compatible.chat, secret_field="absent")
    assert type(failure(openai_compatible)) is errors.ProviderAuthError


def test_a_target_without_a_key_sends_none(openai_compatible: Provider) -> None:
    openai_compatible.chat = msgspec.structs.replace(openai_compatible.chat, secret_field=None)
    assert type(failure(openai_compatible)) is errors.ProviderAuthError
    assert openai_compatible.secrets.forgotten == 1


def test_a_trailing_slash_of_the_address_does_no_harm(openai_compatible: Provider) -> None:
    target = openai_compatible.elsewhere(f"{openai_compatible.chat.base_url}/")
    assert openai_compatible.adapter.chat(target, ASK, timeout_s=5).text


def test_connections_are_kept_alive(openai_compatible: Provider) -> None:
    for _ in range(3):
        openai_compatible.adapter.chat(openai_compatible.chat, ASK, timeout_s=5)
    pool = openai_compatible.adapter._pool.connection_from_url(openai_compatible.server.url)  # type: ignore[attr-defined]
    assert (pool.num_connections, pool.num_requests) == (1, 3)


def test_nobody_listening_is_unavailable(openai_compatible: Provider) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert type(refused_at(openai_compatible, f"http://127.0.0.1:{port}/v1")) is errors.ProviderUnavailableError


def test_a_redirect_is_not_followed_with_the_key(openai_compatible: Provider) -> None:
    with answering(
        http(b"", "302 Found", f"Location: {openai_compatible.server.url}/openai/v1/chat/completions")
    ) as url:
        assert type(refused_at(openai_compatible, url)) is errors.ProviderProtocolError


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"choices": [], "usage": {"prompt_tokens": 1}}',
        b'{"choices": [{"message": {"content": "x"}}]}',
        b'{"choices": [{"message": {"content": 5}}], "usage": {"prompt_tokens": 1}}',
        b'{"choices": "\xff"}',
        b"[" * 100_000,
    ],
    ids=["empty", "no fields", "no choice", "no usage", "wrong type", "not UTF-8", "deep"],
)
def test_an_answer_of_another_form_is_a_protocol_error(openai_compatible: Provider, body: bytes) -> None:
    with answering(http(body)) as url:
        assert type(refused_at(openai_compatible, url)) is errors.ProviderProtocolError


def test_what_is_not_http_is_unavailable(openai_compatible: Provider) -> None:
    with answering(b"SSH-2.0-OpenSSH_9.9\r\n") as url:
        assert type(refused_at(openai_compatible, url)) is errors.ProviderUnavailableError


def test_a_body_that_drips_is_given_up_in_time(openai_compatible: Provider) -> None:
    """Each byte comes within urllib3's own timeout, which would go on for ever."""
    began = time.monotonic()
    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", *[b" "] * 40, pause_s=0.1) as url:
        assert type(refused_at(openai_compatible, url, timeout_s=0.6)) is errors.ProviderTimeoutError
        assert time.monotonic() - began < 1.5
