"""A platform of a few lines."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from load_tests.operations import Answer

Route = Callable[[Any], tuple[int, object]]

BATCH = {
    "status": "completed",
    "output_file_id": "file_out",
    "error_file_id": None,
    "request_counts": {"total": 20, "completed": 20, "failed": 0},
    "errors": None,
}
COMPLETION = {"choices": [{"message": {"content": "At nine."}}], "usage": {"total_tokens": 9}}


def rows(numbers: Iterable[int] = range(20), **changed: Any) -> bytes:
    """The output file of a batch: lines of these numbers, the first one with other fields."""
    response = {"status_code": 200, "request_id": "r", "body": COMPLETION}
    found = [{"custom_id": f"line-{number}", "response": response, "error": None} for number in numbers]
    found[0] |= changed
    return b"".join(json.dumps(row).encode() + b"\n" for row in found)


ROUTES: dict[str, Route] = {
    "POST /chat/completions": lambda body: (200, b"data: {}\n\ndata: [DONE]\n\n" if body.get("stream") else COMPLETION),
    "POST /embeddings": lambda body: (200, {"data": [{"embedding": [0.1, 0.2]} for _ in body["input"]]}),
    "POST /classify": lambda body: (200, {"label": body["labels"][0]}),
    "POST /score": lambda body: (200, {"score": 3}),
    "POST /async/chat/completions": lambda _: (202, {"id": "async_1"}),
    "GET /async/async_1": lambda _: (200, {"status": "completed", "response": COMPLETION}),
    "POST /files": lambda _: (200, {"id": "file_in"}),
    "POST /batches": lambda _: (200, {"id": "batch_1", "status": "validating"}),
    "GET /batches/batch_1": lambda _: (200, BATCH),
    # In another order than the input's.
    "GET /files/file_out/content": lambda _: (200, rows(reversed(range(20)))),
    "POST /workflows/chain/executions": lambda _: (202, {"id": "exec_1"}),
    "GET /workflows/executions/exec_1": lambda _: (200, {"status": "succeeded", "steps": [{"output": "x"}]}),
}


class Platform:
    """Answers by route; remembers what it was asked and how long callers paused."""

    def __init__(self) -> None:
        self.routes: dict[str, Any] = dict(ROUTES)
        self.asked: list[tuple[str, Any]] = []
        self.paused: list[float] = []

    def call(self, method: str, path: str, body: object = None) -> Answer:
        self.asked.append((f"{method} {path}", body))
        route = self.routes[f"{method} {path}"]
        status, content = route.pop(0) if isinstance(route, list) else route(body)
        return Answer(status, {}, content if isinstance(content, bytes) else json.dumps(content).encode())

    def pause(self, seconds: float) -> None:
        self.paused.append(seconds)
