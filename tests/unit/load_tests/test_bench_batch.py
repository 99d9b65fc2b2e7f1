"""`make bench-batch`: what it sends, what it takes for right, and what it says. Its API is one in memory."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import openai
import psutil
import pytest

from load_tests.bench_batch import __main__ as command
from load_tests.bench_batch import lines, report, run
from load_tests.bench_batch.memory import Peak, peaks, verdicts, worker_probe
from load_tests.bench_batch.report import Measured, document, judged, save, table
from load_tests.bench_batch.run import BatchError, Outcome, Work
from load_tests.bench_batch.verify import Check, Row, check, jsonl_rows, parquet_rows
from load_tests.watch import Sample
from local import connection
from local.connection import Connection
from local.instance import Instance
from local.models.embeddings import Embedder
from sluice.adapters.parquet import PartWriter
from sluice.adapters.static_embeddings import StaticEmbedder

MODEL = Embedder.load()
OURS = StaticEmbedder.load()


def answer(number: int, **changed: Any) -> dict[str, Any]:
    """A line of output as OpenAI writes it."""
    [vector], [tokens] = OURS.embed([lines.text(number)])
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    data = [{"object": "embedding", "index": 0, "embedding": vector}]
    body = {"object": "list", "data": data, "model": "in-process/static-embeddings", "usage": usage}
    response = {"status_code": 200, "request_id": "r", "body": body}
    return {"id": "batch_req_1", "custom_id": lines.custom_id(number), "response": response, "error": None, **changed}


def encoded(answers: Iterable[dict[str, Any]]) -> bytes:
    return b"".join(msgspec.json.encode(each) + b"\n" for each in answers)


def checked(answers: Iterable[dict[str, Any]], expected: int) -> Check:
    return check(jsonl_rows([encoded(answers)]), expected, MODEL)


# Lines.


def test_the_input_is_a_batch_of_distinct_lines_and_the_same_every_time(tmp_path: Path) -> None:
    sizes = [lines.write(tmp_path / name, 500, "embed-static") for name in ("one", "two")]
    content = (tmp_path / "one").read_bytes()
    assert content == (tmp_path / "two").read_bytes()
    assert sizes == [len(content)] * 2
    written = [json.loads(line) for line in content.splitlines()]
    assert {line["method"] for line in written} == {"POST"}
    assert {line["url"] for line in written} == {"/v1/embeddings"}
    assert [line["custom_id"] for line in written] == [lines.custom_id(number) for number in range(500)]
    assert len({line["body"]["input"] for line in written}) == 500
    assert all(line["body"] == {"model": "embed-static", "input": lines.text(at)} for at, line in enumerate(written))


@pytest.mark.parametrize("identity", ["", "line-", "line-1", "line-000000001", "other-00000001", "line-0000000²"])
def test_an_id_that_was_not_given_is_no_number(identity: str) -> None:
    assert lines.number_of(identity) is None
    assert lines.number_of(lines.custom_id(7)) == 7


# What is right.


def test_every_line_once_with_its_vector_passes_in_whatever_order() -> None:
    result = checked([answer(number) for number in reversed(range(50))], 50)
    assert result.passed, result.problems
    assert (result.rows, result.wrong, result.problems) == (50, 0, [])


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_lines_are_found_wherever_the_blocks_are_cut(size: int) -> None:
    content = encoded(answer(number) for number in range(5)).removesuffix(b"\n")
    blocks = [content[start : start + size] for start in range(0, len(content), size)]
    assert check(jsonl_rows(blocks), 5, MODEL).passed


@pytest.mark.parametrize(
    ("answers", "problem"),
    [
        ([answer(0)], "line-00000001 is missing"),
        ([answer(0), answer(1), answer(1)], "line-00000001 is there twice"),
        ([answer(0), answer(1), answer(2)], "'line-00000002' was never asked"),
        ([answer(0), answer(0, custom_id="line-00000001")], "line-00000001 has another line's vector"),
        ([answer(0), answer(1, response=None)], "line-00000001: not answered"),
        ([answer(0), answer(1, error={"code": "x", "message": "y"})], "line-00000001: not answered"),
        ([answer(0), answer(1, response={**answer(1)["response"], "status_code": 500})], "line-00000001: not answered"),
        ([answer(0), answer(1, response={**answer(1)["response"], "body": {}})], "not OpenAI's format"),
        ([answer(0), {"custom_id": "line-00000001"}], "not OpenAI's format"),
    ],
)
def test_anything_else_fails_and_is_named(answers: list[dict[str, Any]], problem: str) -> None:
    result = checked(answers, 2)
    assert not result.passed
    assert any(problem in each for each in result.problems), result.problems


def test_a_vector_that_is_a_little_off_fails() -> None:
    row = Row(lines.custom_id(0), OURS.embed([lines.text(0)])[0][0])
    assert check([row], 1, MODEL).passed
    off = [row.vector[0] + 1e-5, *row.vector[1:]]
    assert not check([row._replace(vector=off)], 1, MODEL).passed
    assert not check([row._replace(vector=row.vector[:64])], 1, MODEL).passed
    assert not check([row._replace(tokens=1)], 1, MODEL).passed


def test_of_many_problems_all_are_counted_and_a_few_are_told() -> None:
    result = checked([], 500)
    assert (result.wrong, len(result.problems)) == (500, 10)


def written(path: Path, count: int) -> None:
    writer = PartWriter()
    for number in range(count):
        [vector], [tokens] = OURS.embed([lines.text(number)])
        identity = lines.custom_id(number)
        writer.add(custom_id=identity, index=0, embedding=vector, prompt_tokens=tokens, model="m")
    path.write_bytes(writer.finish())


def test_parquet_is_read_and_checked_the_same_way(tmp_path: Path) -> None:
    written(tmp_path / "output.parquet", 30)
    assert check(parquet_rows(tmp_path / "output.parquet"), 30, MODEL).passed
    assert not check(parquet_rows(tmp_path / "output.parquet"), 31, MODEL).passed


# The whole way, against an API in memory.


class Api:
    """Files, uploads and batches, as far as one batch needs them. `statuses` are what is answered in turn."""

    def __init__(self, statuses: Iterable[str] = ("validating", "in_progress", "finalizing", "completed")) -> None:
        self.input = b""
        self.parts: dict[str, bytes] = {}
        self.asked: dict[str, Any] = {}
        self.spoil: list[int] = []
        self.error_file: str | None = None
        self._statuses = iter(statuses)
        self._status = ""

    def client(self) -> openai.OpenAI:
        transport = httpx2.Client(transport=httpx2.MockTransport(self._answer))
        return openai.OpenAI(
            base_url="http://api.example/v1", api_key="k", http_client=transport, _strict_response_validation=True
        )

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        path, content = request.url.path.removeprefix("/v1"), request.read()
        if path == "/files/file-out/content":
            return httpx2.Response(200, content=self._output(), headers={"content-type": "application/octet-stream"})
        return httpx2.Response(200, json=self._json(path, content))

    def _json(self, path: str, content: bytes) -> dict[str, Any]:
        if path == "/files":
            self.input = _uploaded(content)
            return _file("file-in", len(self.input))
        if path.startswith("/uploads"):
            return self._upload(path, content)
        if path == "/batches":
            self.asked = json.loads(content)
        self._status = next(self._statuses, self._status)
        return self._batch()

    def _upload(self, path: str, content: bytes) -> dict[str, Any]:
        if path.endswith("/parts"):
            name = f"part_{len(self.parts)}"
            self.parts[name] = _uploaded(content)
            return {"id": name, "object": "upload.part", "created_at": 1, "upload_id": "upload_1"}
        upload = {
            "id": "upload_1",
            "object": "upload",
            "bytes": 1,
            "created_at": 1,
            "expires_at": 2,
            "filename": "i",
            "purpose": "batch",
            "status": "pending",
            "file": None,
        }
        if path.endswith("/complete"):
            self.input = b"".join(self.parts[name] for name in json.loads(content)["part_ids"])
            return {**upload, "status": "completed", "file": _file("file-in", len(self.input))}
        return upload

    def _batch(self) -> dict[str, Any]:
        count, ended = self.input.count(b"\n"), self._status == "completed"
        return {
            "id": "batch_1",
            "object": "batch",
            "endpoint": "/v1/embeddings",
            "input_file_id": "file-in",
            "completion_window": "24h",
            "created_at": 1,
            "status": self._status,
            "output_file_id": "file-out" if ended else None,
            "error_file_id": self.error_file,
            "request_counts": {"total": count, "completed": count if ended else 0, "failed": 0},
            "errors": {"object": "list", "data": [{"code": "c", "message": "no such model", "line": 1}]},
        }

    def _output(self) -> bytes:
        numbers = range(self.input.count(b"\n"))
        return encoded(answer(number + 1 if number in self.spoil else number) for number in numbers)


def _uploaded(content: bytes) -> bytes:
    """The file of a multipart body: what stands between its own headers and the last boundary."""
    boundary, _, _ = content.partition(b"\r\n")
    [file] = [part for part in content.split(boundary) if b'filename="' in part]
    return file.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")


def _file(identity: str, size: int) -> dict[str, Any]:
    return {
        "id": identity,
        "object": "file",
        "bytes": size,
        "created_at": 1,
        "filename": "input.jsonl",
        "purpose": "batch",
        "status": "processed",
        "expires_at": None,
    }


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_POLL_S", 0.0)


def bench(api: Api, folder: Path, count: int = 40, timeout_s: float = 60) -> Outcome:
    return run.run(api.client(), Work(count, "embed-static", "jsonl", folder, timeout_s), MODEL, lambda _: None)


def test_a_batch_goes_up_is_run_comes_down_and_is_checked(tmp_path: Path) -> None:
    api = Api()
    outcome = bench(api, tmp_path)
    assert outcome.check.passed, outcome.check.problems
    assert list(outcome.stages) == ["upload", "validating", "running", "assembling", "download"]
    assert api.input == (tmp_path / "input.jsonl").read_bytes()
    assert outcome.input_bytes == len(api.input)
    assert outcome.output_bytes == len((tmp_path / "output.jsonl").read_bytes()) > 0
    assert api.asked == {"input_file_id": "file-in", "endpoint": "/v1/embeddings", "completion_window": "24h"}
    assert outcome.a_second() > 0


def test_a_large_file_goes_up_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_PART_BYTES", 1000)
    api = Api()
    assert bench(api, tmp_path).check.passed
    assert len(api.parts) > 3
    assert api.input == (tmp_path / "input.jsonl").read_bytes()


def test_stages_that_went_by_between_two_looks_are_there_all_the_same(tmp_path: Path) -> None:
    outcome = bench(Api(["validating", "completed"]), tmp_path)
    assert list(outcome.stages) == ["upload", "validating", "running", "assembling", "download"]


def test_a_wrong_line_is_found(tmp_path: Path) -> None:
    api = Api()
    api.spoil = [39]
    outcome = bench(api, tmp_path)
    assert not outcome.check.passed


def test_an_error_file_beside_a_complete_output_is_a_problem(tmp_path: Path) -> None:
    api = Api()
    api.error_file = "file-errors"
    assert bench(api, tmp_path).check.problems == ["there is an error file"]


def test_a_batch_that_ends_otherwise_is_explained(tmp_path: Path) -> None:
    with pytest.raises(BatchError, match=r"^failed: 0 completed, 0 failed of 40; no such model$"):
        bench(Api(["validating", "failed"]), tmp_path)


def test_a_batch_that_does_not_end_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(BatchError, match=r"^still in_progress after 0 s"):
        bench(Api(["in_progress"]), tmp_path, timeout_s=0)


# Memory.


class Process:
    """A worker of the local cloud, as psutil shows it."""

    def __init__(self, pid: int, service: str | None, megabytes: Iterator[float]) -> None:
        self.pid = pid
        self._service = service
        self._megabytes = megabytes

    def environ(self) -> dict[str, str]:
        if self._service is None:
            raise psutil.AccessDenied(self.pid)
        return {"SLUICE_SERVICE": self._service} if self._service else {}

    def memory_info(self) -> Any:
        megabytes = next(self._megabytes, None)
        if megabytes is None:
            raise psutil.NoSuchProcess(self.pid)
        return type("Info", (), {"rss": megabytes * 2**20})


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    """One that was never started."""
    return Instance.named("default", tmp_path, {})


def test_each_worker_is_a_series_of_its_function(instance: Instance) -> None:
    processes: list[Any] = [
        Process(1, "batch_worker", iter([90.0, 100.0])),
        Process(2, "batch_worker", iter([80.0])),
        Process(3, "", itertools.repeat(500.0)),
        Process(4, None, itertools.repeat(500.0)),
    ]
    probe = worker_probe(instance, lambda: processes)
    samples = [Sample(0.0, probe()), Sample(0.5, probe())]
    assert samples[0].values == {"batch_worker #1": 90, "batch_worker #2": 80}
    assert samples[1].values == {"batch_worker #1": 100}
    assert peaks(samples) == {"batch_worker": Peak(workers=2, median_mb=100, largest_mb=100)}


def test_a_process_that_is_no_worker_is_left_out(instance: Instance) -> None:
    probe = worker_probe(instance, lambda: [psutil.Process()])
    # This one: it has no such variable.
    assert probe() == {}
    assert worker_probe(instance)() == {}


@pytest.mark.parametrize(("large", "holds"), [(100.0, True), (124.0, True), (125.0, False), (300.0, False)])
def test_memory_may_not_follow_the_size_of_the_file(large: float, holds: bool) -> None:
    found = verdicts({"batch_worker": Peak(2, 90, 100)}, {"batch_worker": Peak(3, 90, large), "files": Peak(1, 1, 1)})
    assert [verdict.passed for verdict in found] == [holds]


@pytest.mark.parametrize(("large", "holds"), [(188.0, True), (189.0, False)])
def test_who_joins_pieces_may_take_what_eight_parts_take(large: float, holds: bool) -> None:
    found = verdicts({"uploads": Peak(1, 60, 60)}, {"uploads": Peak(1, 60, large)})
    assert [verdict.passed for verdict in found] == [holds]


# What is said.


def measured(count: int, megabytes: float, wrong: int = 0) -> Measured:
    stages = {"upload": 1.0, "validating": 2.0, "running": 5.0, "assembling": 3.0, "download": 4.0}
    problems = ["line-00000001 is missing"] if wrong else []
    outcome = Outcome(count, 17_000, 290_000, stages, Check(count, count - wrong, wrong, problems))
    return Measured(outcome, [Sample(0.0, {"batch_worker #7": megabytes})])


def test_the_table_shows_times_throughput_and_memory() -> None:
    runs = [measured(10, 100), measured(1000, 110)]
    shown = table(runs, "jsonl", judged(runs))
    assert re.search(r"1,000 +1\.0 +2\.0 +5\.0 +3\.0 +4\.0 +15\.0 +100 +0\.0 +0\.3\n", shown)
    assert re.search(r"batch_worker +100 \(1\) +110 \(1\)", shown)
    assert "ok    1,000 of 1,000 lines, 0 wrong" in shown
    assert all(verdict.passed for verdict in judged(runs))


def test_a_wrong_line_or_growing_memory_is_a_failure() -> None:
    wrong = judged([measured(10, 100), measured(1000, 100, wrong=1)])
    assert [verdict.passed for verdict in wrong] == [True, False, True]
    assert "line-00000001 is missing" in str(wrong[1])
    assert [verdict.passed for verdict in judged([measured(10, 100), measured(1000, 200)])] == [True, True, False]


def test_what_is_saved_holds_the_memory_of_every_worker_over_time(tmp_path: Path) -> None:
    runs = [measured(1000, 100)]
    save(runs, "shown", judged(runs), {"model": "m"}, tmp_path / "results" / "bench-batch")
    saved = json.loads((tmp_path / "results" / "bench-batch.json").read_text())
    assert saved["runs"][0]["memory_mb_over_time"] == {"batch_worker #7": [[0.0, 100]]}
    assert saved["runs"][0]["lines_a_second"] == 100
    assert saved["must_hold"] == [{"holds": True, "what": "1,000 of 1,000 lines, 0 wrong"}]
    assert (tmp_path / "results" / "bench-batch.txt").read_text() == "shown\n"


def test_the_document_gets_the_table_between_its_marks(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    document("new", page)
    assert page.read_text() == f"before\n{report.BEGIN}\n```\nnew\n```\n{report.END}\nafter\n"
    page.write_text("no marks")
    with pytest.raises(ValueError, match=r"performance\.md has no place"):
        document("new", page)


def test_the_document_of_this_checkout_has_its_marks() -> None:
    content = (Path(report.__file__).parents[2] / "docs" / "performance.md").read_text()
    assert content.index(report.BEGIN) < content.index(report.END)


@pytest.mark.parametrize(("wrong", "code"), [(0, 0), (1, 1)])
def test_the_command_judges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], wrong: int, code: int
) -> None:
    asked: list[Work] = []

    def fake(client: object, work: Work, model: object, tell: object) -> Outcome:
        asked.append(work)
        assert work.folder.is_dir()
        return measured(work.count, 0, wrong).outcome

    values = {"SLUICE_URL": "http://api.example/v1", "SLUICE_API_KEY": "k"}
    monkeypatch.setattr(connection, "resolve", lambda *_: Connection(values, "here", None))
    monkeypatch.setattr(command, "run", fake)
    monkeypatch.setattr(command, "_ROOT", tmp_path)
    assert command.main(["--lines", "200"]) == code
    assert [work.count for work in asked] == [50, 200]
    assert not any(work.folder.exists() for work in asked)
    assert (tmp_path / "load_tests" / "results" / "bench-batch.json").is_file()
    assert "200 of 200 lines" in capsys.readouterr().out or wrong


def test_by_default_both_batches_go_up_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What only the large one needs has nothing to be compared with."""
    sizes: list[int] = []

    def fake(client: object, work: Work, model: object, tell: object) -> Outcome:
        sizes.append(lines.write(work.folder / "input.jsonl", min(work.count, 25_000), work.model))
        return measured(work.count, 0).outcome

    values = {"SLUICE_URL": "http://api.example/v1", "SLUICE_API_KEY": "k"}
    monkeypatch.setattr(connection, "resolve", lambda *_: Connection(values, "here", None))
    monkeypatch.setattr(command, "run", fake)
    monkeypatch.setattr(command, "_ROOT", tmp_path)
    assert command.main([]) == 0
    assert len(sizes) == 2
    assert min(sizes) > run._PART_BYTES


def test_without_a_platform_there_is_nothing_to_measure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_ROOT", tmp_path)
    monkeypatch.delenv("SLUICE_URL", raising=False)
    assert command.main(["--lines", "1"]) == 2
