"""A provider that speaks OpenAI's protocol and does exactly what a test tells it to, when it is told to."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

USAGE = {"prompt_tokens": 11, "completion_tokens": 7}


class Upstream:
    """``script`` makes the texts of the next answers. What it raises :class:`Cut` for is broken off there.

    ``said`` holds when each text was about to be handed to the network, ``sent_bytes`` how much has been; ``gone`` says
    that the reader hung up. An answer without a stream has all the texts at once.
    """

    def __init__(self) -> None:
        self.script: Callable[[], Iterator[str]] = lambda: iter(("Hello", " there."))
        self.said: list[float] = []
        self.sent_bytes = 0
        self.ended_at: float | None = None
        self.gone = threading.Event()
        upstream = self

        class Handler(_Handler):
            owner = upstream

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    @property
    def url(self) -> str:
        """The base URL of a target."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def reset(self) -> None:
        """As new."""
        self.script = lambda: iter(("Hello", " there."))
        self.said, self.sent_bytes, self.ended_at = [], 0, None
        self.gone.clear()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Cut(Exception):  # noqa: N818 - it is an order, not a mistake
    """Break the connection off."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """The function was ended in the middle of a request."""


class _Handler(BaseHTTPRequestHandler):
    owner: Upstream
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if asked.get("stream"):
            self._stream()
        else:
            self._whole()

    def _whole(self) -> None:
        message = {"role": "assistant", "content": "".join(self.owner.script())}
        answer = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": USAGE}
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        try:
            for text in self.owner.script():
                self.owner.said.append(time.monotonic())
                self._event({"choices": [{"index": 0, "delta": {"content": text}}]})
            self._event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
            self._event({"choices": [], "usage": USAGE})
            self._chunk(b"data: [DONE]\n\n")
            self._chunk(b"")
            self.owner.ended_at = time.monotonic()
        except Cut:
            self.close_connection = True
        except OSError:
            self.close_connection = True
            self.owner.gone.set()

    def _event(self, data: object) -> None:
        self._chunk(b"data: " + json.dumps(data).encode() + b"\n\n")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
        self.wfile.flush()
        self.owner.sent_bytes += len(data)

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""
