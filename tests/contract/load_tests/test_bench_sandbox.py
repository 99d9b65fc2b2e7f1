"""The benchmark's Runtime API, spoken to by a runtime in a process of its own."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest

from load_tests.bench import runtime_loop
from load_tests.bench.runtime_api import Sandbox, SandboxError

HANDLER = """
import json, os, sys, time
if os.environ.get("FAIL") == "init":
    raise RuntimeError("the module is broken")
kept = []
def handler(event, context):
    if event.get("exit"):
        sys.exit(3)
    kept.append(bytearray(event.get("grow", 0)))
    time.sleep(event.get("sleep", 0))
    trace = os.environ["_X_AMZN_TRACE_ID"]
    return {"echo": event, "trace": trace, "left": context.get_remaining_time_in_millis(), "id": context.aws_request_id}
"""


def sandbox(folder: Path, **environment: str) -> Sandbox:
    (folder / "probe.py").write_text(HANDLER)
    command = [sys.executable, "-S", "-s", "-B", str(Path(runtime_loop.__file__)), "probe.handler"]
    return Sandbox(command, {"PYTHONPATH": str(folder), **environment}, folder / "log", folder)


def test_an_event_goes_in_and_the_answer_comes_out(tmp_path: Path) -> None:
    with sandbox(tmp_path) as box:
        assert 0 < box.init_s < 30
        # Larger than one read, in both directions.
        event = {"text": "x" * 3_000_000}
        answers = [json.loads(box.invoke(json.dumps(event).encode(), trace_id="Root=1-2-3").answer) for _ in range(2)]
    assert [answer["echo"] for answer in answers] == [event, event]
    assert [answer["trace"] for answer in answers] == ["Root=1-2-3"] * 2
    assert 20_000 < answers[0]["left"] <= 29_000
    assert answers[0]["id"] != answers[1]["id"]


def test_what_the_handler_takes_is_measured(tmp_path: Path) -> None:
    with sandbox(tmp_path) as box:
        quick = min(box.invoke(b"{}").seconds for _ in range(5))
        before = time.perf_counter()
        slow = box.invoke(b'{"sleep": 0.2}').seconds
        assert 0.2 <= slow <= time.perf_counter() - before
        assert quick < 0.2
        rss, cpu = box.rss_bytes(), box.cpu_s()
        assert cpu > 0
        box.invoke(b'{"grow": 30000000}')
        assert box.rss_bytes() - rss > 25_000_000


def test_a_function_that_cannot_start_is_told_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="the module is broken"):
        sandbox(tmp_path, FAIL="init").__enter__()


def test_a_function_that_dies_is_told(tmp_path: Path) -> None:
    with sandbox(tmp_path) as box, pytest.raises(SandboxError, match="ended with 3"):
        box.invoke(b'{"exit": true}')
