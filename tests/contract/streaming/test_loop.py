"""The loop itself: what Lambda is told when something goes wrong, and that the next invocation does not suffer."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sluice.runtime.streaming import runtime_api
from sluice.testing.invocations import url_event
from tests.contract.streaming.conftest import wrapped
from tests.contract.streaming.runtime_api import Invocation, RuntimeApi

CANARY = "canary-5b1d"
TRACE = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"

HANDLERS = '''
import os
from sluice.domain.inference import Caller
from sluice.domain.keys import ApiKey
from sluice.runtime.api import ApiResponse, EventStream
from sluice.runtime.streaming.function import StreamingFunction

KEY = ApiKey(id="key_1", key_hash="-", name="-", prefix="-", created_at=0)

def events(*pieces, error=None):
    yield from pieces
    if error: raise error

def stream(*pieces, error=None):
    headers = {"content-type": "text/event-stream"}
    return EventStream(events=events(*pieces, error=error), headers=headers, closing=dict, abandon=lambda: None)

def crash(request):
    raise ValueError("CANARY")

def environment(request):
    left_ms = round(request.deadline.remaining_s() * 1000)
    trace = os.environ.get("_X_AMZN_TRACE_ID")
    return ApiResponse(200, {"trace": trace, "left_ms": left_ms, "body": request.body.decode()})

handler = StreamingFunction(
    {
        "/crash": crash,
        "/crash/later": lambda request: stream(b"data: 1\\n\\n", error=ValueError("CANARY")),
        "/good": lambda request: stream(b"data: 1\\n\\n", b"data: 2\\n\\n"),
        "/empty": lambda request: stream(),
        "/environment": environment,
    },
    authorize=lambda headers: KEY,
)

class Careless:
    """Raises where a StreamingFunction never does."""

    def stream(self, event, context):
        if event.get("at") == "begin":
            raise KeyError("CANARY")
        yield b"{}" + b"\\0" * 8
        if event.get("at") == "middle":
            raise KeyError("CANARY")

careless = Careless()
plain = lambda event, context: {}
'''.replace("CANARY", CANARY)

SNAPSHOT = """
_before, _after = [], []
def register_before_snapshot(function, *args, **kwargs): _before.append((function, args, kwargs))
def register_after_restore(function, *args, **kwargs): _after.append((function, args, kwargs))
def get_before_snapshot(): return _before
def get_after_restore(): return _after
"""

Start = Callable[..., tuple[RuntimeApi, "subprocess.Popen[bytes]"]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a process for a handler of the module ``handlers``, or of one with another ``source``."""
    begun: list[tuple[RuntimeApi, subprocess.Popen[bytes]]] = []

    def run(handler: str = "handlers.handler", source: str = HANDLERS, **environment: str) -> Any:
        (tmp_path / "handlers.py").write_text(source)
        (tmp_path / "snapshot_restore_py.py").write_text(SNAPSHOT)
        api = RuntimeApi()
        given = {
            "_HANDLER": handler,
            "LAMBDA_TASK_ROOT": str(tmp_path),
            "SLUICE_ENVIRONMENT": "test",
            "SLUICE_SERVICE": "chat_stream",
            **environment,
        }
        begun.append((api, wrapped(api, tmp_path / "output", given)))
        return begun[-1]

    yield run
    for api, process in begun:
        process.terminate()
        process.wait(10)
        api.close()


def event(path: str, body: str = "") -> dict[str, Any]:
    return url_event("POST", path, body=body)


def log(tmp_path: Path) -> str:
    return (tmp_path / "output").read_text()


def canonical(tmp_path: Path) -> dict[str, Any]:
    lines = [json.loads(line) for line in log(tmp_path).splitlines()]
    [line] = [line for line in lines if line.get("event") == "request"]
    return dict(line)


def test_a_crash_is_a_500_in_openais_shape(start: Start, tmp_path: Path) -> None:
    api, _ = start()
    asked = api.invoke(event("/crash")).wait()
    assert asked.prelude["statusCode"] == 500
    assert json.loads(asked.body)["error"]["code"] == "internal_error"
    assert asked.trailers == {}
    assert canonical(tmp_path)["error_type"] == "ValueError"
    assert CANARY not in log(tmp_path) + asked.content.decode()


def test_a_crash_in_mid_stream_is_told_to_the_client_and_to_lambda(start: Start, tmp_path: Path) -> None:
    api, process = start()
    asked = api.invoke(event("/crash/later")).wait()
    assert asked.prelude["statusCode"] == 200
    assert asked.events[0] == 1
    assert asked.events[1]["error"]["code"] == "internal_error"
    assert asked.trailers["lambda-runtime-function-error-type"] == "Runtime.UnexpectedFailureError"
    assert asked.failure["errorType"] == "Runtime.UnexpectedFailureError"
    line = canonical(tmp_path)
    assert (line["level"], line["error_type"]) == ("error", "ValueError")
    assert CANARY not in log(tmp_path) + asked.content.decode() + json.dumps(asked.failure)
    again = api.invoke(event("/good")).wait()
    assert again.events == [1, 2]
    assert again.connection == asked.connection
    assert process.poll() is None


@pytest.mark.parametrize("at", ["begin", "middle"])
def test_whatever_a_handler_raises_is_reported(start: Start, tmp_path: Path, at: str) -> None:
    api, process = start("handlers.careless")
    asked = api.invoke({"at": at}).wait()
    failure = asked.error if at == "begin" else asked.failure
    assert failure["errorType"] == "Runtime.KeyError"
    assert asked.headers.get("lambda-runtime-function-error-type") == ("Runtime.KeyError" if at == "begin" else None)
    assert any("handlers.py" in place for place in failure["stackTrace"])
    assert CANARY not in json.dumps(failure) + log(tmp_path)
    assert api.invoke({}).wait().prelude == {}
    assert process.poll() is None


def test_small_pieces_are_not_held_back_by_nagles_algorithm() -> None:
    lambdas = RuntimeApi()
    ours = runtime_api.RuntimeApi(lambdas.address)
    lambdas.invoke(event("/good"))
    ours.next()
    assert ours._connection.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
    ours._connection.close()
    lambdas.close()


def test_a_stream_without_events_is_a_response_all_the_same(start: Start) -> None:
    api, _ = start()
    asked = api.invoke(event("/empty")).wait()
    assert (asked.prelude["statusCode"], asked.body) == (200, b"")


def test_each_invocation_has_its_own_trace_and_deadline(start: Start) -> None:
    api, _ = start()

    def told(**how: Any) -> Any:
        return json.loads(api.invoke(event("/environment", "text"), **how).wait().body)

    first = told(trace_header=TRACE, deadline_s=10.0)
    assert (first["trace"], first["body"]) == (TRACE, "text")
    # A second is kept for writing the log entry.
    assert 7_000 < first["left_ms"] <= 9_000
    second = told(deadline_s=100.0)
    assert second["trace"] is None
    assert 97_000 < second["left_ms"] <= 99_000


@pytest.mark.parametrize(
    ("handler", "source", "kind"),
    [
        ("handlers.handler", "import nothing_of_this_name", "Runtime.ModuleNotFoundError"),
        ("handlers.handler", f"raise ValueError('{CANARY}')", "Runtime.ValueError"),
        ("handlers.missing", HANDLERS, "Runtime.ConfigurationError"),
        ("handlers.plain", HANDLERS, "Runtime.ConfigurationError"),
    ],
)
def test_a_function_that_cannot_start_says_so(
    start: Start, tmp_path: Path, handler: str, source: str, kind: str
) -> None:
    api, process = start(handler, source)
    assert process.wait(20) == 1
    assert api.calls == ["POST /init/error"]
    assert api.init_error is not None
    headers, report = api.init_error
    assert (headers["lambda-runtime-function-error-type"], report["errorType"]) == (kind, kind)
    assert CANARY not in json.dumps(report) + log(tmp_path)
    assert '"event":"init_failed"' in log(tmp_path)


def test_a_response_that_is_refused_ends_the_process(start: Start, tmp_path: Path) -> None:
    api, process = start()
    api.invoke(event("/good"), status=413).wait()
    assert process.wait(20) == 1
    assert "answered a response with 413" in log(tmp_path)


def test_without_a_further_invocation_it_ends(start: Start) -> None:
    api, process = start()
    api.invoke(event("/good")).wait()
    api._waiting.put(None)
    assert process.wait(20) == 1


def test_a_snapshot_is_taken_between_preparing_and_serving(start: Start) -> None:
    source = HANDLERS + (
        "import snapshot_restore_py as hooks\n"
        "done = []\n"
        "hooks.register_before_snapshot(lambda: done.append('first'))\n"
        "hooks.register_before_snapshot(lambda: done.append('second'))\n"
        "hooks.register_after_restore(lambda: done.append('restored'))\n"
        "handler._routes['/done'] = lambda request: ApiResponse(200, done)\n"
    )
    api, _ = start(source=source, AWS_LAMBDA_INITIALIZATION_TYPE="snap-start")
    asked: Invocation = api.invoke(event("/done")).wait()
    assert json.loads(asked.body) == ["second", "first", "restored"]
    assert api.calls[:2] == ["GET /restore/next", "GET /invocation/next"]


@pytest.mark.parametrize(
    ("hook", "calls", "code"),
    [
        ("register_before_snapshot", ["POST /init/error"], 64),
        ("register_after_restore", ["GET /restore/next", "POST /restore/error"], 65),
    ],
)
def test_a_hook_that_fails_is_reported(start: Start, hook: str, calls: list[str], code: int) -> None:
    source = f"{HANDLERS}\nimport snapshot_restore_py as hooks\nhooks.{hook}(lambda: 1 / 0)\n"
    api, process = start(source=source, AWS_LAMBDA_INITIALIZATION_TYPE="snap-start")
    assert process.wait(20) == code
    assert api.calls == calls
    reported = api.init_error or api.restore_error
    assert reported is not None
    assert reported[1]["errorType"] == "Runtime.ZeroDivisionError"
