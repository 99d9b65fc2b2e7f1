"""The Lambda Runtime API for one function process, and the process itself: a sandbox as Lambda would make one.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

from __future__ import annotations

import selectors
import socket
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import psutil

__all__ = ["Invocation", "Sandbox", "SandboxError"]

_PREFIX: Final = "/2018-06-01/runtime/"
_FUNCTION_ARN: Final = "arn:aws:lambda:us-east-1:123456789012:function:sluice-bench"
_TIMEOUT_S: Final = 60.0
_FUNCTION_TIMEOUT_MS: Final = 29_000


class SandboxError(Exception):
    """The function did not start, broke down, or kept silent."""


@dataclass(frozen=True)
class Invocation:
    """One invocation: seconds from handing over the event to having the whole answer, and that answer."""

    seconds: float
    answer: bytes


@dataclass
class _Connection:
    socket: socket.socket
    pending: bytes = b""


@dataclass(frozen=True)
class _Request:
    connection: _Connection
    path: str
    body: bytes


@dataclass
class Sandbox:
    """One function process. ``environment`` is all it gets, besides the address of this Runtime API.

    It runs in ``folder``, which is its /var/task: elsewhere ``python -m`` would find the modules of that place first.

    Everything happens in the caller's thread, so nothing of the measuring side runs beside what is measured.
    """

    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    folder: Path
    init_s: float = 0.0
    _listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    _process: subprocess.Popen[bytes] | None = None
    _next: _Connection | None = None

    def __enter__(self) -> Self:
        self._selector.register(self._listener, selectors.EVENT_READ)
        address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        with self.log.open("ab") as output:
            began = time.perf_counter()
            self._process = subprocess.Popen(
                self.command,
                cwd=self.folder,
                env={**self.environment, "AWS_LAMBDA_RUNTIME_API": address},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            self._await_next()
        except BaseException:
            self.stop()
            raise
        self.init_s = time.perf_counter() - began
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the process, as Lambda does: without asking."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()

    def invoke(self, event: bytes, *, trace_id: str = "") -> Invocation:
        """Hand ``event`` over and wait for the answer.

        :raises SandboxError: the function reported an error, or died.
        """
        if self._next is None:
            raise SandboxError("the function has not asked for an invocation")
        request_id = str(uuid.uuid4())
        message = _next_response(event, request_id, trace_id)
        connection, self._next = self._next, None
        began = time.perf_counter()
        connection.socket.sendall(message)
        request = self._receive()
        seconds = time.perf_counter() - began
        if request.path != f"{_PREFIX}invocation/{request_id}/response":
            raise SandboxError(f"{request.path}: {request.body[:2000].decode(errors='replace')}")
        _accept(request.connection)
        self._await_next()
        return Invocation(seconds, request.body)

    def cpu_s(self) -> float:
        """CPU seconds of the process so far, user and system."""
        times = self._usage().cpu_times()
        return float(times.user + times.system)

    def rss_bytes(self) -> int:
        """Resident memory of the process now."""
        return int(self._usage().memory_info().rss)

    def _usage(self) -> psutil.Process:
        assert self._process is not None
        return psutil.Process(self._process.pid)

    def _await_next(self) -> None:
        request = self._receive()
        if request.path != f"{_PREFIX}invocation/next":
            raise SandboxError(f"{request.path}: {request.body[:2000].decode(errors='replace')}")
        self._next = request.connection

    def _receive(self) -> _Request:
        """The next request on any connection."""
        until = time.monotonic() + _TIMEOUT_S
        while time.monotonic() < until:
            for key, _ in self._selector.select(0.2):
                if key.fileobj is self._listener:
                    self._admit()
                elif request := self._read(key.data):
                    return request
            if self._process is not None and self._process.poll() is not None:
                raise SandboxError(f"the function ended with {self._process.returncode}:\n{self._tail()}")
        raise SandboxError(f"the function kept silent for {_TIMEOUT_S:.0f} s:\n{self._tail()}")

    def _admit(self) -> None:
        client, _ = self._listener.accept()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._selector.register(client, selectors.EVENT_READ, _Connection(client))

    def _read(self, connection: _Connection) -> _Request | None:
        data = connection.socket.recv(1 << 20)
        if not data:
            self._selector.unregister(connection.socket)
            connection.socket.close()
            return None
        connection.pending += data
        head, found, rest = connection.pending.partition(b"\r\n\r\n")
        if not found:
            return None
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if headers.pop("expect", "") and not rest:
            connection.socket.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = _unchunked(rest) if "transfer-encoding" in headers else rest
        if body is None or len(body) < int(headers.get("content-length", "0")):
            return None
        connection.pending = b""
        return _Request(connection, first.split(" ")[1], body)

    def _tail(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]


def _next_response(event: bytes, request_id: str, trace_id: str) -> bytes:
    headers = {
        "Content-Type": "application/json",
        "Content-Length": str(len(event)),
        "Lambda-Runtime-Aws-Request-Id": request_id,
        "Lambda-Runtime-Deadline-Ms": str(int(time.time() * 1000) + _FUNCTION_TIMEOUT_MS),
        "Lambda-Runtime-Invoked-Function-Arn": _FUNCTION_ARN,
        "Lambda-Runtime-Trace-Id": trace_id,
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 200 OK\r\n{lines}\r\n".encode() + event


def _accept(connection: _Connection) -> None:
    connection.socket.sendall(b"HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: 0\r\n\r\n")


def _unchunked(data: bytes) -> bytes | None:
    """The body behind the chunked coding, ``None`` while it is not whole."""
    body = b""
    while data:
        size, found, rest = data.partition(b"\r\n")
        length = int(size.split(b";")[0], 16) if found else -1
        if length < 0 or len(rest) < length + 2:
            return None
        if length == 0:
            return body
        body += rest[:length]
        data = rest[length + 2 :]
    return None
