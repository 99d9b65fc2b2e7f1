"""One real call in each mode through the public API, as its users would make it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import openai
import urllib3

from local.errors import LocalError

__all__ = ["CALLS", "Answer", "Call", "key_works"]

_POLL_SECONDS = 0.25
_DEADLINE_SECONDS = 90.0

_TEXT = (
    "Sluice is a serverless inference platform. It scales to zero, so nothing is billed while nobody calls. "
    "Terraform manages it."
)
_QUESTION = "What is billed while nobody calls?"


@dataclass(frozen=True)
class Answer:
    """What was asked, what came back, and the seconds from the request to the whole answer."""

    prompt: str
    text: str
    seconds: float


@dataclass(frozen=True)
class Call:
    """A smoke call: the mode it proves, the route it takes, and what makes it."""

    mode: str
    route: str
    make: Callable[[str, str], str]

    def run(self, url: str, key: str) -> Answer:
        """Make the call against the API at `url` with `key`. Raises LocalError when it does not succeed."""
        started = time.monotonic()
        try:
            text = self.make(url, key)
        except (openai.OpenAIError, urllib3.exceptions.HTTPError) as error:
            raise LocalError(f"the {self.mode} call to {self.route} failed: {error}", "see `make logs`") from error
        return Answer(_QUESTION, text, time.monotonic() - started)


def key_works(url: str, key: str) -> bool:
    """True when the API accepts the key."""
    return _request("GET", f"{url}/models", key).status == 200


def _chat(url: str, key: str) -> str:
    with openai.OpenAI(base_url=url, api_key=key, timeout=60, max_retries=0) as client:
        completion = client.chat.completions.create(model="auto", messages=_messages())
        return completion.choices[0].message.content or ""


def _messages() -> list[Any]:
    return [{"role": "system", "content": _TEXT}, {"role": "user", "content": _QUESTION}]


def _async(url: str, key: str) -> str:
    body = {"model": "auto", "messages": _messages()}
    job = _json("POST", f"{url}/async/chat/completions", key, body)
    done = _poll(f"{url}/async/{job['id']}", key, pending={"queued", "in_progress"})
    if done["status"] != "completed":
        raise LocalError(f"async request {job['id']} {done['status']}: {_reason(done)}", _LOGS.format("async_worker"))
    return str(done["response"]["choices"][0]["message"]["content"])


def _batch(url: str, key: str) -> str:
    line = {"custom_id": "one", "method": "POST", "url": "/v1/chat/completions"}
    body = {"model": "auto", "messages": _messages()}
    with openai.OpenAI(base_url=url, api_key=key, timeout=60, max_retries=0) as client:
        file = client.files.create(file=("smoke.jsonl", json.dumps(line | {"body": body}).encode()), purpose="batch")
        batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
        done = _poll(f"{url}/batches/{batch.id}", key, pending={"validating", "in_progress", "finalizing"})
        if not done["output_file_id"]:
            raise LocalError(f"batch {batch.id} {done['status']} without output", _LOGS.format("batch_worker"))
        answer = json.loads(client.files.content(done["output_file_id"]).text)
    return str(answer["response"]["body"]["choices"][0]["message"]["content"])


def _workflow(url: str, key: str) -> str:
    steps = [
        {"name": "answer", "prompt": "{{input}}\n\n" + _QUESTION},
        {"name": "summary", "prompt": "Summarize: {{previous}}"},
    ]
    execution = _json("POST", f"{url}/workflows/chain/executions", key, {"input": _TEXT, "steps": steps})
    done = _poll(f"{url}/workflows/executions/{execution['id']}", key, pending={"running"})
    if done["status"] != "succeeded":
        hint = _LOGS.format("workflow_run_step")
        raise LocalError(f"workflow execution {execution['id']} {done['status']}: {_reason(done)}", hint)
    return str(done["steps"][-1]["output"])


_LOGS = "see `make logs FUNCTION={}`"

CALLS = (
    Call("sync", "POST /v1/chat/completions", _chat),
    Call("async", "POST /v1/async/chat/completions", _async),
    Call("batch", "POST /v1/batches", _batch),
    Call("workflow", "POST /v1/workflows/chain/executions", _workflow),
)


def _poll(url: str, key: str, pending: set[str]) -> dict[str, Any]:
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while time.monotonic() < deadline:
        state = _json("GET", url, key)
        if state["status"] not in pending:
            return state
        time.sleep(_POLL_SECONDS)
    raise LocalError(f"{url} was not done within {_DEADLINE_SECONDS:.0f} s", "see `make logs`")


def _json(method: str, url: str, key: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    response = _request(method, url, key, body)
    try:
        answer = json.loads(response.data)
    except ValueError:
        answer = None
    if response.status >= 300 or not isinstance(answer, dict):
        reason = _reason(answer) if isinstance(answer, dict) else response.data[:200].decode("utf-8", "replace")
        raise LocalError(f"{method} {url} answered {response.status}: {reason}", "see `make logs`")
    return answer


def _request(method: str, url: str, key: str, body: dict[str, Any] | None = None) -> urllib3.BaseHTTPResponse:
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    return urllib3.request(method, url, body=data, headers=headers, timeout=60, retries=False)


def _reason(answer: dict[str, Any]) -> str:
    error = answer.get("error")
    return str(error.get("message", error)) if isinstance(error, dict) else str(answer.get("message", answer))
