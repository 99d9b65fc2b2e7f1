"""`python -m load_tests.bench.stand_ins`: AWS and a model provider that answer at once, in a process of their own.

Ports on loopback, printed as one line of JSON when they listen:

========  ==========================================================================================================
aws       DynamoDB (a table in memory), Secrets Manager, S3: what the platform's functions call
floor     the same for the floor handler, with a table of its own in which every condition holds
provider  OpenAI's chat completions, whole and streamed, always the same answer
upstream  the same, in plain HTTP whatever the others speak
control   JSON over HTTP for the benchmark itself: see ``_CONTROL``
========  ==========================================================================================================

and one for UDP, where X-Ray's daemon would listen. Told a certificate and its key, the first three speak TLS. It ends
when its standard input does.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from load_tests.bench.store import Refusal, Store, Units

__all__ = ["COMPLETION", "PROVIDER_KEY", "TEXT"]

PROVIDER_KEY: Final = "provider-key-of-the-benchmark"
TEXT: Final = "An instant answer of some forty words, as a model would give one. " * 4
_USAGE: Final = {"prompt_tokens": 120, "completion_tokens": 56, "total_tokens": 176}
_HEAD: Final = {"id": "chatcmpl-bench", "created": 1_700_000_000, "model": "bench-model"}
COMPLETION: Final = json.dumps(
    {
        **_HEAD,
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}],
        "usage": _USAGE,
    }
).encode()
_JSON: Final = "application/json"
_AWS_JSON: Final = "application/x-amz-json-1.0"


@dataclass(frozen=True)
class Request:
    """One HTTP request; header names are lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Response:
    """One HTTP response; ``close`` ends the connection, which then also ends the body."""

    body: bytes = b""
    status: int = 200
    content_type: str = _JSON
    close: bool = False


Answer = Callable[[Request], Response]


class Http(asyncio.Protocol):
    """HTTP/1.1 with keep-alive, as little of it as the clients at hand need."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._pending = b""
        self._transport: asyncio.Transport | None = None
        self._continued = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer every request that is whole."""
        self._pending += data
        while (request := self._next_request()) is not None:
            self._send(self._answer(request))

    def _next_request(self) -> Request | None:
        head, found, rest = self._pending.partition(b"\r\n\r\n")
        if not found:
            return None
        first, *lines = head.decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", "0"))
        if len(rest) < length:
            self._encourage(headers)
            return None
        self._continued = False
        self._pending = rest[length:]
        return Request(method, path, headers, rest[:length])

    def _encourage(self, headers: Mapping[str, str]) -> None:
        """Whoever asks first whether to send the body gets a yes."""
        if headers.get("expect", "").lower() == "100-continue" and not self._continued and self._transport:
            self._continued = True
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _send(self, response: Response) -> None:
        length = "connection: close" if response.close else f"content-length: {len(response.body)}"
        head = f"HTTP/1.1 {response.status} X\r\ncontent-type: {response.content_type}\r\n{length}\r\n\r\n"
        if self._transport:
            self._transport.write(head.encode() + response.body)
            if response.close:
                self._transport.close()


class Datagrams(asyncio.DatagramProtocol):
    """Counts what is sent to X-Ray's daemon."""

    def __init__(self) -> None:
        self.count = 0
        self.bytes = 0

    def datagram_received(self, data: bytes, addr: object) -> None:  # noqa: ARG002 - asyncio's signature
        """One segment document."""
        self.count += 1
        self.bytes += len(data)


@dataclass
class Recorder:
    """What was asked, by which port. Only counted, unless ``full``: then kept whole."""

    full: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    calls: list[dict[str, Any]] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    def note(self, port: str, service: str, operation: str, body: bytes) -> None:
        """One call."""
        self.counts[f"{port} {service} {operation}"] += 1
        if self.full:
            self.calls.append({"port": port, "service": service, "operation": operation, "body": body.decode()})


class Aws:
    """The AWS services, told apart as their protocols do: by ``x-amz-target``, or by the path alone (S3)."""

    def __init__(self, port: str, store: Store, recorder: Recorder) -> None:
        self._port = port
        self.store = store
        self._recorder = recorder
        self._objects: dict[str, bytes] = {}
        # By the first part of x-amz-target.
        self._services: Mapping[str, tuple[str, Callable[[str, Any], Any]]] = {
            "DynamoDB_20120810": ("dynamodb", store.answer),
            "secretsmanager": ("secretsmanager", _secret),
        }

    def __call__(self, request: Request) -> Response:
        """The service's answer."""
        target, _, operation = request.headers.get("x-amz-target", "").partition(".")
        if not target:
            return self._object(request)
        service, answer = self._services.get(target, (target, _unknown))
        self._recorder.note(self._port, service, operation, request.body)
        try:
            return Response(json.dumps(answer(operation, json.loads(request.body))).encode(), 200, _AWS_JSON)
        except Refusal as refusal:
            return Response(json.dumps(refusal.body).encode(), 400, _AWS_JSON)
        except KeyError:
            self._recorder.unknown.append(f"{service} {operation}")
            return Response(b'{"__type":"UnknownOperationException"}', 400, _AWS_JSON)

    def _object(self, request: Request) -> Response:
        key = request.path.partition("?")[0]
        self._recorder.note(self._port, "s3", {"PUT": "PutObject", "GET": "GetObject"}.get(request.method, "?"), b"")
        if request.method == "PUT":
            self._objects[key] = request.body
            return Response()
        if request.method == "GET" and key in self._objects:
            return Response(self._objects[key], 200, "application/octet-stream")
        return Response(b"<Error><Code>NoSuchKey</Code></Error>", 404, "application/xml")


def _secret(operation: str, request: Any) -> Any:
    if operation != "GetSecretValue":
        raise KeyError(operation)
    return {"ARN": request["SecretId"], "Name": "providers", "SecretString": json.dumps({"bench": PROVIDER_KEY})}


def _unknown(operation: str, _request: Any) -> Any:
    raise KeyError(operation)


class Provider:
    """A model provider that has its answer ready."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._events = _events()

    def __call__(self, request: Request) -> Response:
        """The answer, or its events when the body asks for a stream."""
        self._recorder.note("provider", "provider", request.path, request.body)
        if b'"stream":true' in request.body.replace(b" ", b""):
            return Response(self._events, 200, "text/event-stream", close=True)
        return Response(COMPLETION)


def _events() -> bytes:
    words = [{"content": word + " "} for word in TEXT.split()]
    deltas: list[tuple[dict[str, str], str | None]] = [(word, None) for word in words] + [({}, "stop")]
    chunks: list[dict[str, Any]] = [
        {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]} for delta, reason in deltas
    ]
    whole = [*chunks, {"choices": [], "usage": _USAGE}]
    lines = [json.dumps({**_HEAD, "object": "chat.completion.chunk", **chunk}) for chunk in whole]
    return "".join(f"data: {line}\n\n" for line in [*lines, "[DONE]"]).encode()


class Control:
    """How the benchmark steers the stand-ins and reads what they saw."""

    def __init__(self, aws: Aws, floor: Aws, recorder: Recorder, datagrams: Datagrams) -> None:
        self._aws = aws
        self._floor = floor
        self._recorder = recorder
        self._datagrams = datagrams

    def __call__(self, request: Request) -> Response:
        """The answer to ``POST /<name>``."""
        answer = _CONTROL[request.path.removeprefix("/")](self, json.loads(request.body or b"{}"))
        return Response(json.dumps(answer).encode())

    def put(self, items: Any) -> None:
        """Hold these items in the table."""
        for item in items:
            self._aws.store.put(item)

    def seed_floor(self, _: Any) -> None:
        """Give the floor handler's table what the other holds."""
        self._floor.store.seed(self._aws.store)

    def record(self, _: Any) -> None:
        """Forget what was seen, and keep every call and its cost from now on."""
        self._reset(full=True)

    def forget(self, _: Any) -> None:
        """Forget what was seen; from now on calls are only counted."""
        self._reset(full=False)

    def _reset(self, *, full: bool) -> None:
        self._recorder.full = full
        self._recorder.counts.clear()
        self._recorder.calls.clear()
        self._datagrams.count = self._datagrams.bytes = 0
        for aws in (self._aws, self._floor):
            aws.store.counting, aws.store.units = full, Units()

    def seen(self, _: Any) -> dict[str, Any]:
        """Everything since the last reset."""
        return {
            "counts": dict(self._recorder.counts),
            "calls": self._recorder.calls,
            "unknown": self._recorder.unknown,
            "segments": self._datagrams.count,
            "segment_bytes": self._datagrams.bytes,
            "units": {
                port: {"write": aws.store.units.write, "read": aws.store.units.read}
                for port, aws in (("aws", self._aws), ("floor", self._floor))
            },
        }


_CONTROL: Final[Mapping[str, Callable[[Control, Any], Any]]] = {
    "put": Control.put,
    "seed_floor": Control.seed_floor,
    "record": Control.record,
    "forget": Control.forget,
    "seen": Control.seen,
}


async def _serve(tls: ssl.SSLContext | None) -> None:
    loop = asyncio.get_running_loop()
    recorder = Recorder()
    endpoint, datagrams = await loop.create_datagram_endpoint(Datagrams, local_addr=("127.0.0.1", 0))
    aws = Aws("aws", Store(), recorder)
    floor = Aws("floor", Store(strict=False), recorder)
    provider = Provider(recorder)
    answers: Mapping[str, tuple[Answer, ssl.SSLContext | None]] = {
        "aws": (aws, tls),
        "floor": (floor, tls),
        "provider": (provider, tls),
        "upstream": (provider, None),
        "control": (Control(aws, floor, recorder, datagrams), None),
    }
    ports = {"xray": endpoint.get_extra_info("sockname")[1]}
    for name, (answer, context) in answers.items():
        server = await loop.create_server(lambda answer=answer: Http(answer), "127.0.0.1", 0, ssl=context)
        ports[name] = server.sockets[0].getsockname()[1]
    print(json.dumps(ports), flush=True)
    # Whoever started this holds the other end: when it dies, however it dies, this ends too.
    await loop.run_in_executor(None, sys.stdin.read)


def _context(certificate: str, key: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


if __name__ == "__main__":
    asyncio.run(_serve(_context(*sys.argv[1:]) if sys.argv[1:] else None))
