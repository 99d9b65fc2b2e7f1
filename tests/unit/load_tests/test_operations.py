"""Every operation knows a good answer from a bad one."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from load_tests.operations import OPERATIONS, Answer, FailedError, Form
from tests.unit.load_tests.support import BATCH, COMPLETION, Platform, rows


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
    texts = {str(attempt(name).asked[0][1]) for _ in range(3)}
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
        ("file", "POST /files"),
        ("file", "POST /batches"),
        ("file", "GET /batches/batch_1"),
        ("file", "GET /files/file_out/content"),
        ("chain", "POST /workflows/chain/executions"),
        ("chain", "GET /workflows/executions/exec_1"),
    ],
)
def test_a_refusal_is_told_by_status_and_code(name: str, route: str) -> None:
    assert refused(name, route, (429, {"error": {"code": "rate_limit_exceeded"}})) == "429 rate_limit_exceeded"
    assert refused(name, route, (502, b"<html>")) == "502 no JSON"
    assert refused(name, route, (500, {"message": "x"})) == "500 no error given"


BATCH_1, OUTPUT = "GET /batches/batch_1", "GET /files/file_out/content"
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
        ("file", "POST /files", b"nonsense", "200 without JSON"),
        (
            "file",
            BATCH_1,
            {"status": "failed", "errors": {"data": [{"code": "model_not_found"}, {"code": "x"}]}},
            "failed: model_not_found",
        ),
        ("file", BATCH_1, {"status": "expired", "errors": None}, "expired: no error given"),
        ("file", BATCH_1, BATCH | {"request_counts": {"failed": 1}}, "lines of the batch failed"),
        ("file", BATCH_1, BATCH | {"error_file_id": "file_errors"}, "lines of the batch failed"),
        (
            "file",
            BATCH_1,
            BATCH | {"request_counts": {"failed": 20}, "output_file_id": None, "error_file_id": "file_errors"},
            "lines of the batch failed",
        ),
        ("file", OUTPUT, rows(range(19)), "not the lines that were asked for"),
        ("file", OUTPUT, rows(range(21)), "not the lines that were asked for"),
        ("file", OUTPUT, rows([*range(20), 7]), "a line came twice"),
        ("file", OUTPUT, rows(error={"code": "x"}), "a line that failed in the output"),
        (
            "file",
            OUTPUT,
            rows(response={"status_code": 500, "body": COMPLETION}),
            "a line that failed in the output",
        ),
        ("file", OUTPUT, rows(response={"status_code": 200, "body": EMPTY}), "an answer without content"),
        ("file", OUTPUT, rows()[:-3], "a line of the output is not JSON"),
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


def test_a_file_is_a_batch_of_twenty_distinct_lines() -> None:
    platform = attempt("file")
    (_, form), (_, request) = platform.asked[:2]
    assert isinstance(form, Form)
    assert form.fields == {"purpose": "batch"}
    lines = [json.loads(line) for line in form.content.splitlines()]
    assert [line["custom_id"] for line in lines] == [f"line-{number}" for number in range(20)]
    assert {(line["method"], line["url"]) for line in lines} == {("POST", "/v1/chat/completions")}
    assert len({line["body"]["messages"][0]["content"] for line in lines}) == 20
    assert request == {"input_file_id": "file_in", "endpoint": "/v1/chat/completions", "completion_window": "24h"}


def test_the_output_of_a_file_is_read_when_the_batch_has_ended() -> None:
    platform = Platform()
    waiting = [(200, {"status": status}) for status in ("validating", "in_progress", "finalizing")]
    platform.routes[BATCH_1] = [*waiting, (200, BATCH)]
    attempt("file", platform)
    assert [route for route, _ in platform.asked] == ["POST /files", "POST /batches", *[BATCH_1] * 4, OUTPUT]
    assert len(platform.paused) == 4


def test_a_client_that_gets_no_answer_fails_the_operation() -> None:
    class Down(Platform):
        def call(self, method: str, path: str, body: object = None) -> Answer:
            raise FailedError("ProtocolError")

    with pytest.raises(FailedError, match="ProtocolError"):
        attempt("chat", Down())
