"""What one arrival does: a call, or some calls and the questions for a result. Every answer is checked.

Operations see a `Client` only, so that neither they nor their tests know of sockets or greenlets. Every text holds a
number of its own: no cache of any kind can answer for the platform.
"""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

__all__ = ["OPERATIONS", "Answer", "Client", "FailedError", "Form", "Mode", "Operation"]

Mode = Literal["sync", "batch", "workflow"]

# One question for a result after half a second, then ever fewer: as a patient caller asks.
_FIRST_POLL_S = 0.5
_SLOWER = 1.3
_LONGEST_POLL_S = 2.0

_LINES_OF_A_FILE = 20
_ENDPOINT = "/v1/chat/completions"

_FACTS = (
    "The gate opens at nine.",
    "Rivers carry silt to the sea.",
    "The keeper lives beside the weir.",
    "Snow melts in April.",
    "The mill stands upstream.",
    "Barges wait below the lock.",
)
_LABELS = ("billing", "technical", "account")
_COMPLAINTS = (
    "My invoice shows a payment that I never made.",
    "The program ends with an error message.",
    "I cannot sign in with my password.",
)


class FailedError(Exception):
    """An arrival did not get what it came for. The text is the reason, short, so that equal ones can be counted."""


@dataclass(frozen=True)
class Answer:
    """An HTTP answer; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Form:
    """A body that goes as `multipart/form-data`: fields, and one file by the name of `file`."""

    fields: Mapping[str, str]
    filename: str
    content: bytes


class Client(Protocol):
    """How an operation reaches the API."""

    def call(self, method: str, path: str, body: object = None) -> Answer:
        """One request to a path below `/v1`, `body` as JSON if it is no Form. Raises FailedError without an answer."""

    def pause(self, seconds: float) -> None:
        """Wait, and let others work."""


@dataclass(frozen=True)
class Operation:
    """Something that callers do. `deadline_s` is how long they wait for it, in seconds.

    `own_gate` is the name of its limit where that of its mode does not fit.
    """

    name: str
    mode: Mode
    run: Callable[[Client, random.Random], None]
    deadline_s: float
    own_gate: str = ""

    @property
    def gate(self) -> str:
        """The name of the limit that its latency is held to."""
        return self.own_gate or self.mode


def _chat(client: Client, chance: random.Random) -> None:
    _check_chat(_json(client.call("POST", "/chat/completions", _chat_request(chance)), 200))


def _stream(client: Client, chance: random.Random) -> None:
    answer = client.call("POST", "/chat/completions", _chat_request(chance) | {"stream": True})
    if answer.status != 200:
        raise FailedError(_refusal(answer))
    events = [line for line in answer.body.split(b"\n") if line.startswith(b"data: ")]
    if not events or events[-1].strip() != b"data: [DONE]":
        raise FailedError("the stream broke off")


def _embeddings(client: Client, chance: random.Random) -> None:
    answer = _json(client.call("POST", "/embeddings", {"model": "embed", "input": [_text(chance), _text(chance)]}), 200)
    vectors = [row["embedding"] for row in answer["data"]]
    _require(len(vectors) == 2 and len(vectors[0]) == len(vectors[1]) > 0, "not two embeddings")


def _classify(client: Client, chance: random.Random) -> None:
    request = {"input": f"{chance.choice(_COMPLAINTS)} {_number()}", "labels": list(_LABELS)}
    _require(_json(client.call("POST", "/classify", request), 200)["label"] in _LABELS, "none of the labels")


def _score(client: Client, chance: random.Random) -> None:
    features = [_number() / 10**9, *(round(chance.random(), 6) for _ in range(49))]
    answer = _json(client.call("POST", "/score", {"features": features}), 200)
    _require(answer["score"] in range(1, 6), "no score from 1 to 5")


def _job(client: Client, chance: random.Random) -> None:
    job = _json(client.call("POST", "/async/chat/completions", _chat_request(chance)), 202)
    done = _poll(client, f"/async/{job['id']}", pending={"queued", "in_progress"}, success="completed")
    _check_chat(done["response"])


def _file(client: Client, chance: random.Random) -> None:
    asked = {f"line-{number}": _chat_request(chance) for number in range(_LINES_OF_A_FILE)}
    lines = [{"custom_id": name, "method": "POST", "url": _ENDPOINT, "body": body} for name, body in asked.items()]
    content = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    file = _json(client.call("POST", "/files", Form({"purpose": "batch"}, "input.jsonl", content)), 200)
    request = {"input_file_id": file["id"], "endpoint": _ENDPOINT, "completion_window": "24h"}
    batch = _json(client.call("POST", "/batches", request), 200)
    pending = {"validating", "in_progress", "finalizing"}
    done = _poll(client, f"/batches/{batch['id']}", pending=pending, success="completed")
    # Before the output is read: when every line failed there is none.
    _require(done["request_counts"]["failed"] == 0 and done["error_file_id"] is None, "lines of the batch failed")
    _check_output(client.call("GET", f"/files/{done['output_file_id']}/content"), set(asked))


def _check_output(answer: Answer, asked: set[str]) -> None:
    rows = _json_lines(answer)
    names = [row["custom_id"] for row in rows]
    _require(len(names) == len(set(names)), "a line came twice")
    _require(set(names) == asked, "not the lines that were asked for")
    for row in rows:
        _require(row["error"] is None and row["response"]["status_code"] == 200, "a line that failed in the output")
        _check_chat(row["response"]["body"])


def _chain(client: Client, chance: random.Random) -> None:
    request = {
        "input": _text(chance),
        "steps": [{"prompt": "{{input}} When does the gate open?"}, {"prompt": "Summarise: {{previous}}"}],
    }
    started = _json(client.call("POST", "/workflows/chain/executions", request), 202)
    done = _poll(client, f"/workflows/executions/{started['id']}", pending={"running"}, success="succeeded")
    _require(all(step["output"] for step in done["steps"]), "a step without output")


def _poll(client: Client, path: str, *, pending: set[str], success: str) -> Any:
    wait = _FIRST_POLL_S
    while True:
        client.pause(wait)
        state = _json(client.call("GET", path), 200)
        if state["status"] == success:
            return state
        if state["status"] not in pending:
            raise FailedError(f"{state['status']}: {_code(state)}")
        wait = min(wait * _SLOWER, _LONGEST_POLL_S)


def _chat_request(chance: random.Random) -> dict[str, Any]:
    return {"model": "auto", "messages": [{"role": "user", "content": f"{_text(chance)} When does the gate open?"}]}


def _text(chance: random.Random) -> str:
    return " ".join([f"Report {_number()}.", _FACTS[0], *chance.sample(_FACTS[1:], 3)])


def _number() -> int:
    # Not from the seeded generator: a second run must not ask what the first one asked.
    return uuid.uuid4().int % 10**9


def _check_chat(completion: Any) -> None:
    choice = completion["choices"][0]
    _require(choice["message"]["content"], "an answer without content")
    _require(completion["usage"]["total_tokens"] > 0, "an answer without usage")


def _json(answer: Answer, status: int) -> Any:
    if answer.status != status:
        raise FailedError(_refusal(answer))
    try:
        return json.loads(answer.body)
    except ValueError as error:
        raise FailedError(f"{answer.status} without JSON") from error


def _json_lines(answer: Answer) -> list[Any]:
    if answer.status != 200:
        raise FailedError(_refusal(answer))
    try:
        return [json.loads(line) for line in answer.body.splitlines()]
    except ValueError as error:
        raise FailedError("a line of the output is not JSON") from error


def _refusal(answer: Answer) -> str:
    try:
        code = _code(json.loads(answer.body))
    except ValueError:
        code = "no JSON"
    return f"{answer.status} {code}"


def _code(answer: Any) -> str:
    error = answer.get("error") if isinstance(answer, dict) else None
    if isinstance(answer, dict) and answer.get("errors"):
        # A batch has a list of them; the first will do.
        error = next(iter(answer["errors"]["data"]), None)
    return str(error.get("code") or error.get("type") or "no code") if isinstance(error, dict) else "no error given"


def _require(fact: object, otherwise: str) -> None:
    if not fact:
        raise FailedError(otherwise)


# The gateway gives up on a synchronous call after 29 seconds; what is accepted for later may take its time.
_SYNC_S = 30.0
_LATER_S = 120.0

OPERATIONS = {
    operation.name: operation
    for operation in (
        Operation("chat", "sync", _chat, _SYNC_S),
        Operation("stream", "sync", _stream, _SYNC_S),
        Operation("embeddings", "sync", _embeddings, _SYNC_S),
        Operation("classify", "sync", _classify, _SYNC_S),
        Operation("score", "sync", _score, _SYNC_S),
        Operation("job", "batch", _job, _LATER_S),
        # Twenty lines and three functions one after the other: by the limit of one request it could not be judged, and
        # within the same percentiles the many jobs would hide it.
        Operation("file", "batch", _file, _LATER_S, own_gate="file"),
        Operation("chain", "workflow", _chain, _LATER_S),
    )
}
