"""Every operation knows a good answer from a bad one."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from load_tests.operations import OPERATIONS, Answer, FailedError
from tests.unit.load_tests.support import COMPLETION, Platform


def attempt(name: str, platform: Platform | None = None) -> Platform:
    found = platform or Platform()
    OPERATIONS[name].run(found, random.Random(1))
    return found


def refused(name: str, route: str, *answers: tuple[int, object]) -> str:
    platform = Platform()
    platform.routes[route] = list(answers)
    with pytest.raises(FailedError) as failed:
        attempt(name, platform)
    return str(failed.value)


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_platform_that_answers_well_satisfies_everybody(name: str) -> None:
    assert attempt(name).asked


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_same_is_never_asked_twice(name: str) -> None:
    """With equal seeds, too: no cache may answer."""
    texts = {json.dumps(attempt(name).asked[0][1]) for _ in range(3)}
    assert len(texts) == 3


@pytest.mark.parametrize(
    ("name", "route"),
    [
        ("chat", "POST /chat/completions"),
        ("stream", "POST /chat/completions"),
        ("embeddings", "POST /embeddings"),
        ("classify", "POST /classify"),
        ("score", "POST /score"),
        ("job", "POST /async/chat/completions"),
        ("job", "GET /async/async_1"),
        ("chain", "POST /workflows/chain/executions"),
        ("chain", "GET /workflows/executions/exec_1"),
    ],
)
def test_a_refusal_is_told_by_status_and_code(name: str, route: str) -> None:
    assert refused(name, route, (429, {"error": {"code": "rate_limit_exceeded"}})) == "429 rate_limit_exceeded"
    assert refused(name, route, (502, b"<html>")) == "502 no JSON"
    assert refused(name, route, (500, {"message": "x"})) == "500 no error given"


EMPTY = {"choices": [{"message": {"content": ""}}], "usage": {"total_tokens": 9}}
UNCOUNTED = {"choices": [{"message": {"content": "x"}}], "usage": {"total_tokens": 0}}


@pytest.mark.parametrize(
    ("name", "route", "content", "reason"),
    [
        ("chat", "POST /chat/completions", EMPTY, "an answer without content"),
        ("chat", "POST /chat/completions", UNCOUNTED, "an answer without usage"),
        ("chat", "POST /chat/completions", b"nonsense", "200 without JSON"),
        ("stream", "POST /chat/completions", b'data: {"choices": []}\n\n', "the stream broke off"),
        ("stream", "POST /chat/completions", b"", "the stream broke off"),
        ("embeddings", "POST /embeddings", {"data": [{"embedding": [0.1]}]}, "not two embeddings"),
        ("embeddings", "POST /embeddings", {"data": [{"embedding": []}, {"embedding": []}]}, "not two embeddings"),
        ("classify", "POST /classify", {"label": "weather"}, "none of the labels"),
        ("score", "POST /score", {"score": 0}, "no score from 1 to 5"),
        ("job", "GET /async/async_1", {"status": "completed", "response": EMPTY}, "an answer without content"),
        (
            "job",
            "GET /async/async_1",
            {"status": "failed", "error": {"code": "provider_timeout"}},
            "failed: provider_timeout",
        ),
        ("chain", "GET /workflows/executions/exec_1", {"status": "failed", "error": {"code": "x"}}, "failed: x"),
        (
            "chain",
            "GET /workflows/executions/exec_1",
            {"status": "succeeded", "steps": [{"output": "x"}, {"output": ""}]},
            "a step without output",
        ),
    ],
)
def test_a_bad_answer_is_a_failure_whatever_its_status(name: str, route: str, content: Any, reason: str) -> None:
    assert refused(name, route, (200, content)) == reason


def test_whoever_waits_for_a_job_asks_ever_more_seldom() -> None:
    platform = Platform()
    done = {"status": "completed", "response": COMPLETION}
    waiting = [(200, {"status": status}) for status in ["queued", *["in_progress"] * 8]]
    platform.routes["GET /async/async_1"] = [*waiting, (200, done)]
    attempt("job", platform)
    assert platform.paused == sorted(platform.paused)
    assert (platform.paused[0], platform.paused[-1]) == (0.5, 2.0)
    assert not platform.routes["GET /async/async_1"]


def test_a_client_that_gets_no_answer_fails_the_operation() -> None:
    class Down(Platform):
        def call(self, method: str, path: str, body: object = None) -> Answer:
            raise FailedError("ProtocolError")

    with pytest.raises(FailedError, match="ProtocolError"):
        attempt("chat", Down())
