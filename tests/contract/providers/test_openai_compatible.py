"""What is particular to OpenAI's protocol: the key, addresses, and servers that misbehave below HTTP."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal

import msgspec
import pytest

from sluice.adapters import openai_chat
from sluice.domain import errors
from sluice.domain.inference import (
    ChatDelta,
    FinishReason,
    ReasoningDelta,
    RefusalDelta,
    StreamEnd,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from tests.contract.providers.conftest import Provider
from tests.contract.providers.test_providers import ASK, failure


def receive(connection: socket.socket) -> None:
    """The whole request: closing a connection with something unread would reset it."""
    head, _, body = connection.recv(65_536).partition(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")
    )
    while len(body) < length:
        body += connection.recv(65_536)


@contextmanager
def answering(*pieces: bytes, pause_s: float = 0.0) -> Iterator[str]:
    """A server that answers one request with these bytes, piece by piece."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                receive(connection)
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


class Streams:
    """Answers every request of every connection with the same stream, and counts the connections."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = pieces
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.connections = 0
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}/v1"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError, StopIteration):
            while True:
                receive(connection)
                connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                for piece in self._pieces:
                    connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece) if piece else b"0\r\n\r\n")
                    time.sleep(0.02)


@contextmanager
def streaming(*pieces: bytes) -> Iterator[Streams]:
    streams = Streams(*pieces)
    yield streams
    streams.close()


def test_connections_of_streams_are_kept_alive(openai_compatible: Provider) -> None:
    whole = events(HELLO, STOP, "[DONE]")
    # The end of the body comes by itself, later than the last event.
    with streaming(whole, b"") as server:
        target = openai_compatible.elsewhere(server.url)
        for _ in range(3):
            assert len(list(openai_compatible.adapter.stream(target, ASK, timeout_s=5))) == 2
        assert server.connections == 1


@pytest.mark.parametrize("tail", [(), (b": still here\n\n",) * 50], ids=["silent", "endless"])
def test_a_body_that_does_not_end_costs_its_connection_and_nobodys_time(
    monkeypatch: pytest.MonkeyPatch, openai_compatible: Provider, tail: tuple[bytes, ...]
) -> None:
    monkeypatch.setattr("sluice.adapters.openai_compatible.ENDING_TIMEOUT_S", 0.3)
    whole = events(HELLO, STOP, "[DONE]")
    with streaming(whole, *tail) as server:
        target = openai_compatible.elsewhere(server.url)
        for _ in range(2):
            deltas = openai_compatible.adapter.stream(target, ASK, timeout_s=5)
            began = time.monotonic()
            assert [type(next(deltas)), type(next(deltas))] == [TextDelta, StreamEnd]
            assert time.monotonic() - began < 0.2
            deltas.close()
            assert time.monotonic() - began < 1
        assert server.connections == 2


def test_a_stream_that_is_given_up_gives_its_connection_up(openai_compatible: Provider) -> None:
    with streaming(events(HELLO), events(STOP, "[DONE]"), b"") as server:
        target = openai_compatible.elsewhere(server.url)
        for _ in range(2):
            deltas = openai_compatible.adapter.stream(target, ASK, timeout_s=5)
            next(deltas)
            deltas.close()
        assert server.connections == 2


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_target_says_by_which_name_its_server_takes_the_longest_answer(
    openai_compatible: Provider, name: Literal["max_tokens", "max_completion_tokens"]
) -> None:
    target = msgspec.structs.replace(openai_compatible.chat, max_tokens_field=name)
    request = msgspec.structs.replace(ASK, max_tokens=2)
    sent = openai_chat.body(target, request, stream=False)
    assert {field: value for field, value in sent.items() if field.startswith("max_")} == {name: 2}
    assert openai_compatible.adapter.chat(target, request, timeout_s=5).finish_reason is FinishReason.LENGTH


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
        b'{"choices": [{"message": {"content": 5}}], "usage": {"prompt_tokens": 1}}',
        b'{"choices": "\xff"}',
        b"[" * 100_000,
    ],
    ids=["empty", "no fields", "no choice", "wrong type", "not UTF-8", "deep"],
)
def test_an_answer_of_another_form_is_a_protocol_error(openai_compatible: Provider, body: bytes) -> None:
    with answering(http(body)) as url:
        assert type(refused_at(openai_compatible, url)) is errors.ProviderProtocolError


def test_tokens_that_nobody_counted_are_reckoned_and_said_to_be(openai_compatible: Provider) -> None:
    with answering(http(b'{"choices": [{"message": {"content": "twelve chars"}}]}')) as url:
        result = openai_compatible.adapter.chat(openai_compatible.elsewhere(url), ASK, timeout_s=5)
    assert (result.usage.estimated, result.usage.output_tokens) == (True, 3)
    assert result.usage.input_tokens > 10


def events(*data: str) -> bytes:
    return "".join(f"data: {one}\n\n" for one in data).encode()


def sse(*data: str, ending: bytes = b"") -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
    return head + events(*data) + ending


def streamed(provider: Provider, *pieces: bytes, pause_s: float = 0.0) -> list[ChatDelta]:
    with answering(*pieces, pause_s=pause_s) as url:
        return list(provider.adapter.stream(provider.elsewhere(url), ASK, timeout_s=2))


HELLO = '{"choices": [{"index": 0, "delta": {"content": "Hello"}}]}'
STOP = '{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}'


def test_comments_line_endings_and_splits_do_no_harm(openai_compatible: Provider) -> None:
    body = (
        sse(HELLO, STOP, "[DONE]")
        .replace(b"data:", b": keep-alive\r\n\r\nid: 7\r\ndata:")
        .replace(b"\n\n", b"\r\n\r\n")
    )
    head, _, rest = body.partition(b"keep-alive")
    answer = streamed(openai_compatible, head, b"keep-", b"alive" + rest[:40], rest[40:], pause_s=0.02)
    assert answer == [TextDelta("Hello"), StreamEnd(finish_reason=FinishReason.STOP)]


def test_cached_and_reasoning_tokens_are_told_apart(openai_compatible: Provider) -> None:
    usage = (
        '{"choices": [], "usage": {"prompt_tokens": 100, "completion_tokens": 30, "total_tokens": 130,'
        ' "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 20},'
        ' "completion_tokens_details": {"reasoning_tokens": 25}}}'
    )
    end = streamed(openai_compatible, sse(HELLO, STOP, usage, "[DONE]"))[-1]
    assert isinstance(end, StreamEnd)
    assert end.usage == Usage(
        input_tokens=100, output_tokens=30, cache_read_tokens=60, cache_write_tokens=20, reasoning_tokens=25
    )


def chunk(delta: str) -> str:
    return f'{{"choices": [{{"index": 0, "delta": {delta}}}]}}'


@pytest.mark.parametrize(
    "delta",
    [
        '{"reasoning_content": "Hm."}',
        '{"content": null, "reasoning": "Hm."}',
        '{"content": "", "reasoning": "Hm.", "reasoning_content": "Hm."}',
    ],
)
def test_reasoning_is_output_by_whatever_name(openai_compatible: Provider, delta: str) -> None:
    assert streamed(openai_compatible, sse(chunk(delta), HELLO, STOP, "[DONE]")) == [
        ReasoningDelta("Hm."),
        TextDelta("Hello"),
        StreamEnd(finish_reason=FinishReason.STOP),
    ]


def test_reasoning_of_another_form_does_no_harm(openai_compatible: Provider) -> None:
    odd = chunk('{"reasoning": {"effort": "high"}}')
    assert streamed(openai_compatible, sse(odd, HELLO, STOP))[0] == TextDelta("Hello")


def test_reasoning_that_nobody_counted_is_reckoned_and_not_shown(openai_compatible: Provider) -> None:
    with answering(http(b'{"choices": [{"message": {"content": "Yes.", "reasoning": "twelve chars"}}]}')) as url:
        result = openai_compatible.adapter.chat(openai_compatible.elsewhere(url), ASK, timeout_s=5)
    assert (result.text, result.usage.output_tokens, result.usage.reasoning_tokens) == ("Yes.", 4, 3)


def test_a_refusal_is_told_from_an_answer(openai_compatible: Provider) -> None:
    body = b'{"choices": [{"message": {"content": null, "refusal": "I cannot."}, "finish_reason": "stop"}]}'
    with answering(http(body)) as url:
        result = openai_compatible.adapter.chat(openai_compatible.elsewhere(url), ASK, timeout_s=5)
    assert (result.text, result.refusal, result.finish_reason) == ("", "I cannot.", FinishReason.STOP)
    assert result.usage.output_tokens == 3
    pieces = [chunk('{"refusal": "I can"}'), chunk('{"refusal": "not."}'), STOP, "[DONE]"]
    assert streamed(openai_compatible, sse(*pieces))[:2] == [RefusalDelta("I can"), RefusalDelta("not.")]


def test_a_stream_without_done_is_whole_once_it_has_said_why_it_ended(openai_compatible: Provider) -> None:
    assert isinstance(streamed(openai_compatible, sse(HELLO, STOP))[-1], StreamEnd)


def test_a_tool_call_without_an_id_gets_one(openai_compatible: Provider) -> None:
    call = '{"choices": [{"delta": {"tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}}]}'
    end = '{"choices": [{"delta": {}, "finish_reason": "tool_calls"}]}'
    first, last = streamed(openai_compatible, sse(call, end, "[DONE]"))
    assert isinstance(first, ToolCallDelta)
    assert (first.name, first.arguments, bool(first.id)) == ("f", "{}", True)
    assert last == StreamEnd(finish_reason=FinishReason.TOOL_CALLS)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ('{"message": "x", "type": "requests", "code": "rate_limit_exceeded"}', errors.ProviderThrottledError),
        ('{"message": "x", "code": 429}', errors.ProviderThrottledError),
        ('{"message": "x", "code": 503}', errors.ProviderOverloadedError),
        ('{"message": "x", "type": "overloaded_error"}', errors.ProviderOverloadedError),
        ('{"message": "x", "type": "server_error", "code": null}', errors.ProviderUnavailableError),
        ('{"message": "x", "type": "invalid_request_error"}', errors.ProviderRejectedError),
        ('{"message": "x", "code": "content_filter"}', errors.ContentFilteredError),
        ('{"message": "x", "code": "insufficient_quota", "type": "insufficient_quota"}', errors.ProviderAuthError),
        ('"just a text"', errors.ProviderUnavailableError),
    ],
)
def test_an_error_event_has_its_error(
    openai_compatible: Provider, error: str, kind: type[errors.ProviderError]
) -> None:
    with pytest.raises(errors.ProviderError) as raised:
        streamed(openai_compatible, sse(HELLO, f'{{"error": {error}}}'))
    assert type(raised.value) is kind


@pytest.mark.parametrize(
    ("pieces", "kind"),
    [
        ([sse()], errors.ProviderUnavailableError),
        ([sse(HELLO)], errors.ProviderUnavailableError),
        ([sse(HELLO, ending=b'data: {"choices": [{"delta"')], errors.ProviderUnavailableError),
        ([sse(HELLO, "{garbage")], errors.ProviderProtocolError),
        ([sse(HELLO, '{"choices": 5}')], errors.ProviderProtocolError),
        ([http(b'{"error": {"message": "x"}}', "429 Too Many Requests")], errors.ProviderThrottledError),
    ],
    ids=["empty", "cut", "cut in an event", "garbage", "another form", "refused"],
)
def test_a_stream_that_breaks_has_its_error(
    openai_compatible: Provider, pieces: list[bytes], kind: type[errors.ProviderError]
) -> None:
    with pytest.raises(errors.ProviderError) as raised:
        streamed(openai_compatible, *pieces)
    assert type(raised.value) is kind


def test_what_is_not_http_is_unavailable(openai_compatible: Provider) -> None:
    with answering(b"SSH-2.0-OpenSSH_9.9\r\n") as url:
        assert type(refused_at(openai_compatible, url)) is errors.ProviderUnavailableError


def test_a_body_that_drips_is_given_up_in_time(openai_compatible: Provider) -> None:
    """Each byte comes within urllib3's own timeout, which would go on for ever."""
    began = time.monotonic()
    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", *[b" "] * 40, pause_s=0.1) as url:
        assert type(refused_at(openai_compatible, url, timeout_s=0.6)) is errors.ProviderTimeoutError
        assert time.monotonic() - began < 1.5
