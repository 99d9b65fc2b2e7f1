"""A platform of a few lines."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from load_tests.operations import Answer

Route = Callable[[Any], tuple[int, object]]

COMPLETION = {"choices": [{"message": {"content": "At nine."}}], "usage": {"total_tokens": 9}}
ROUTES: dict[str, Route] = {
    "POST /chat/completions": lambda body: (200, b"data: {}\n\ndata: [DONE]\n\n" if body.get("stream") else COMPLETION),
    "POST /embeddings": lambda body: (200, {"data": [{"embedding": [0.1, 0.2]} for _ in body["input"]]}),
    "POST /classify": lambda body: (200, {"label": body["labels"][0]}),
    "POST /score": lambda body: (200, {"score": 3}),
    "POST /async/chat/completions": lambda _: (202, {"id": "async_1"}),
    "GET /async/async_1": lambda _: (200, {"status": "completed", "response": COMPLETION}),
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
