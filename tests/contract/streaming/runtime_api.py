"""Lambda's Runtime API on loopback, for one function process: what arrives is kept with the time it arrived at.

It understands what Lambda understands: chunked responses with trailers, one request after the other on a connection.
https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

from __future__ import annotations

import base64
import json
import queue
import socket
import socketserver
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

PREFIX = "/2018-06-01/runtime"
PRELUDE_END = b"\0" * 8


@dataclass
class Invocation:
    """One invocation, and what the function made of it.

    ``hang_up_after`` is the number of chunks after which the reader is gone; while ``reading`` is not set it takes
    nothing. ``chunks`` hold when each chunk was there, and what was in it. ``status`` answers a response.
    """

    event: object
    deadline_s: float = 30.0
    trace_header: str | None = None
    hang_up_after: int | None = None
    status: int = 202
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    reading: threading.Event = field(default_factory=threading.Event)
    handed_over_at: float = 0.0
    connection: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    chunks: list[tuple[float, bytes]] = field(default_factory=list)
    trailers: dict[str, str] = field(default_factory=dict)
    error: Any = None
    over: threading.Event = field(default_factory=threading.Event)

    def wait(self, *, within_s: float = 30.0) -> Invocation:
        """Until the function has ended its response, or the reader has gone."""
        assert self.over.wait(within_s), f"no response within {within_s} s; {len(self.chunks)} chunks came"
        return self

    def wait_for(self, text: bytes, *, within_s: float = 30.0) -> float:
        """When the chunk that holds ``text`` was there."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            for at, chunk in list(self.chunks):
                if text in chunk:
                    return at
            time.sleep(0.005)
        raise AssertionError(f"{text!r} did not come within {within_s} s")

    @property
    def content(self) -> bytes:
        return b"".join(chunk for _, chunk in self.chunks)

    @property
    def prelude(self) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self.content.partition(PRELUDE_END)[0])
        return parsed

    @property
    def body(self) -> bytes:
        return self.content.partition(PRELUDE_END)[2]

    @property
    def events(self) -> list[Any]:
        """The data of the server-sent events, ``[DONE]`` as it is."""
        data = [line[6:] for line in self.body.decode().splitlines() if line.startswith("data: ")]
        return [each if each == "[DONE]" else json.loads(each) for each in data]

    @property
    def text(self) -> str:
        """What the events of a chat add up to."""
        deltas = [choice["delta"] for each in self.events if "choices" in each for choice in each["choices"]]
        return "".join(delta.get("content", "") for delta in deltas)

    @property
    def failure(self) -> Any:
        """What the trailers say of an error."""
        return json.loads(base64.b64decode(self.trailers["lambda-runtime-function-error-body"]))


class RuntimeApi:
    """The API for one process: ``calls`` is all it asked for, ``init_error`` and ``restore_error`` what it reported."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.init_error: tuple[dict[str, str], Any] | None = None
        self.restore_error: tuple[dict[str, str], Any] | None = None
        self.connections = 0
        self._waiting: queue.SimpleQueue[Invocation | None] = queue.SimpleQueue()
        self._under_way: dict[str, Invocation] = {}
        api = self

        class Handler(_Handler):
            runtime_api = api

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    def invoke(self, event: object, **how: Any) -> Invocation:
        """Have the function invoked next; returns at once."""
        invocation = Invocation(event, **how)
        if not how.get("reading"):
            invocation.reading.set()
        self._under_way[invocation.id] = invocation
        self._waiting.put(invocation)
        return invocation

    def next(self) -> Invocation | None:
        """Wait for an invocation; ``None`` when the function is not needed any more."""
        return self._waiting.get()

    def find(self, invocation_id: str) -> Invocation:
        """An invocation that was handed over."""
        return self._under_way[invocation_id]

    def close(self) -> None:
        """Close everything; a function that waits is refused."""
        self._waiting.put(None)
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False

    def server_bind(self) -> None:
        # Small, so that what a reader leaves unread is soon noticed by who writes.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 * 1024)
        super().server_bind()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """The process was ended in the middle of a request."""


class _Handler(socketserver.StreamRequestHandler):
    runtime_api: RuntimeApi
    disable_nagle_algorithm = True
    rbufsize = 4 * 1024

    def handle(self) -> None:
        self.runtime_api.connections += 1
        number = self.runtime_api.connections
        while line := self.rfile.readline():
            method, path, _ = line.decode().split()
            headers = self._headers()
            self.runtime_api.calls.append(f"{method} {path.removeprefix(PREFIX)}")
            if not self._answer(method, path.removeprefix(PREFIX), headers, number):
                return

    def _answer(self, method: str, path: str, headers: dict[str, str], number: int) -> bool:
        if (method, path) == ("GET", "/invocation/next"):
            return self._hand_over(number)
        if (method, path) == ("GET", "/restore/next"):
            return self._send(200)
        if path.endswith("/response"):
            return self._response(self.runtime_api.find(path.split("/")[2]), headers)
        report = json.loads(self.rfile.read(int(headers["content-length"])))
        if path == "/init/error":
            self.runtime_api.init_error = headers, report
        elif path == "/restore/error":
            self.runtime_api.restore_error = headers, report
        else:
            invocation = self.runtime_api.find(path.split("/")[2])
            invocation.headers, invocation.error = headers, report
            invocation.over.set()
        return self._send(202)

    def _hand_over(self, number: int) -> bool:
        invocation = self.runtime_api.next()
        if invocation is None:
            return self._send(410)
        invocation.connection = number
        invocation.handed_over_at = time.monotonic()
        headers = {
            "Lambda-Runtime-Aws-Request-Id": invocation.id,
            "Lambda-Runtime-Deadline-Ms": str(int((time.time() + invocation.deadline_s) * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:us-east-1:000000000000:function:test",
        }
        if invocation.trace_header:
            headers["Lambda-Runtime-Trace-Id"] = invocation.trace_header
        return self._send(200, json.dumps(invocation.event).encode(), headers)

    def _response(self, invocation: Invocation, headers: dict[str, str]) -> bool:
        invocation.headers = headers
        assert headers["transfer-encoding"] == "chunked"
        while True:
            invocation.reading.wait()
            size = int(self.rfile.readline(), 16)
            if size == 0:
                invocation.trailers = self._headers()
                self._send(invocation.status)
                invocation.over.set()
                return True
            invocation.chunks.append((time.monotonic(), self.rfile.read(size)))
            self.rfile.readline()
            if invocation.hang_up_after is not None and len(invocation.chunks) >= invocation.hang_up_after:
                # Reset, not closed in good order: what is written from now on fails.
                self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                self.request.close()
                invocation.over.set()
                return False

    def _headers(self) -> dict[str, str]:
        found: dict[str, str] = {}
        while line := self.rfile.readline().strip():
            name, _, value = line.decode().partition(":")
            found[name.lower()] = value.strip()
        return found

    def _send(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> bool:
        lines = [f"HTTP/1.1 {status} -", f"content-length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        self.wfile.write("\r\n".join([*lines, "", ""]).encode() + body)
        return True


def eventually(probe: Callable[[], object], *, within_s: float, what: str) -> None:
    """Wait until ``probe()`` is true."""
    deadline = time.monotonic() + within_s
    while not probe():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.02)
