"""A platform in one process, on loopback: quick, slow, broken or busy, as a test wants it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMPLETION = {"choices": [{"message": {"content": "At nine."}}], "usage": {"total_tokens": 9}}


@dataclass
class Behaviour:
    """How the platform fares. `service_s` is what one answer takes; `one_by_one` makes callers queue for it."""

    service_s: float = 0.0
    one_by_one: bool = False
    stall: tuple[float, float] = (0.0, 0.0)
    fail_every: int = 0
    served: int = 0
    paths: list[str] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    started: float = 0.0
    queue: threading.Lock = field(default_factory=threading.Lock)

    def take_time(self) -> None:
        """Let the caller wait as long as this platform makes it wait."""
        since = time.monotonic() - (self.started or time.monotonic())
        self.started = self.started or time.monotonic()
        if self.stall[0] <= since < self.stall[1]:
            time.sleep(self.stall[1] - since)
        if self.one_by_one:
            with self.queue:
                time.sleep(self.service_s)
        else:
            time.sleep(self.service_s)


def answer(path: str, body: Any) -> Any:
    """What Sluice would say, in short."""
    match path:
        case "/v1/chat/completions":
            return b'data: {"choices": []}\n\ndata: [DONE]\n\n' if body.get("stream") else COMPLETION
        case "/v1/embeddings":
            return {"data": [{"embedding": [0.1]} for _ in body["input"]]}
        case "/v1/classify":
            return {"label": body["labels"][0]}
        case "/v1/score":
            return {"score": 3}
    raise AssertionError(path)


@contextmanager
def platform(behaviour: Behaviour) -> Iterator[str]:
    """The platform's base address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            behaviour.take_time()
            behaviour.served += 1
            behaviour.paths.append(self.path)
            behaviour.keys.add(self.headers["authorization"])
            failing = behaviour.fail_every and behaviour.served % behaviour.fail_every == 0
            content = {"error": {"code": "state_unavailable"}} if failing else answer(self.path, body)
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(503 if failing else 200)
            self.send_header("content-length", str(len(data)))
            self.send_header("x-sluice-overhead-ms", "4.2")
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
