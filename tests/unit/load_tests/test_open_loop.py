"""Nobody waits for anybody: what is slow cannot make itself rare."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gevent
import gevent.monkey
import pytest
import urllib3

from load_tests.arrivals import Stage
from load_tests.open_loop import HttpClient, OpenLoop
from load_tests.operations import OPERATIONS, Answer, FailedError, Form, Operation
from load_tests.plan import Plan
from load_tests.profiles import PROFILES, Limit
from load_tests.record import Outcome, Record, Tally
from sluice.domain.files import FilePurpose
from sluice.wire.files import file_of
from tests.unit.load_tests.support import Platform


class Slow(Platform):
    """Takes its time: as much as `seconds` says at that moment."""

    def __init__(self, seconds: Callable[[], float] = lambda: 0.0, headers: dict[str, str] | None = None) -> None:
        super().__init__()
        self.seconds = seconds
        self.headers = headers or {}

    def call(self, method: str, path: str, body: object = None) -> Answer:
        gevent.sleep(self.seconds())
        answer = super().call(method, path, body)
        return Answer(answer.status, self.headers, answer.body)


def plan(*stages: Stage, climbs: bool = False, limit: Limit | None = None) -> Plan:
    profile = replace(
        PROFILES["sync"],
        mix={"chat": 1.0},
        stages=stages,
        limits={"sync": limit or Limit(1000, 1000)},
        climbs=climbs,
    )
    return Plan(profile, seed=3, out=Path("x"), most_errors=0)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Callers who wait for an answer no longer than a fifth of a second."""
    monkeypatch.setitem(OPERATIONS, "chat", replace(OPERATIONS["chat"], deadline_s=0.2))


def run(made: Plan, client: Platform, share: float = 1) -> tuple[Tally, Record]:
    record = Record()
    OpenLoop(made, client, record, lambda _operation, _outcome: None, share=share).run()
    return record.total(range(len(made.profile.stages)), ["chat"]), record


def test_gevent_leaves_the_standard_library_as_it_is() -> None:
    assert not gevent.monkey.is_anything_patched()


def test_everybody_who_arrives_is_served_and_counted() -> None:
    seen: list[tuple[Operation, Outcome]] = []
    record = Record()
    OpenLoop(plan(Stage("x", 200, 0.5)), Slow(), record, lambda *pair: seen.append(pair)).run()
    tally = record.total([0], ["chat"])
    assert tally.offered == tally.achieved == len(tally.latency) == len(seen) > 50
    assert tally.failed == tally.unfinished == 0


def test_a_slow_platform_is_asked_as_often_as_a_fast_one() -> None:
    stage = Stage("x", 100, 0.5)
    fast, _ = run(plan(stage), Slow())
    slow, _ = run(plan(stage), Slow(lambda: 0.4))
    assert fast.offered == slow.offered > 20


def test_a_stall_is_felt_by_everybody_who_came_meanwhile() -> None:
    """Of a caller who waits for answers, only the one call in flight would have seen it."""
    started = time.perf_counter()

    def until_the_stall_ends() -> float:
        elapsed = time.perf_counter() - started
        return 0.7 - elapsed if 0.2 <= elapsed < 0.7 else 0.0

    tally, _ = run(plan(Stage("x", 100, 1.0)), Slow(until_the_stall_ends))
    late = sum(count for milliseconds, count in tally.latency if milliseconds > 50)
    assert late > 25
    assert (tally.latency.percentile(95) or 0) > 300


def test_a_generator_that_falls_behind_does_not_flatter() -> None:
    """The clock starts when a call was meant to start; the time from sending it is told beside it."""
    stalled = False

    class Freezing(Slow):
        def call(self, method: str, path: str, body: object = None) -> Answer:
            nonlocal stalled
            if not stalled:
                stalled = True
                # Not a greenlet's pause: the whole process stands still.
                time.sleep(0.5)
            return super().call(method, path, body)

    tally, _ = run(plan(Stage("x", 100, 0.8)), Freezing())
    assert (tally.latency.percentile(75) or 0) > 100 > (tally.service.percentile(75) or 0)


def test_whoever_is_not_served_in_time_fails_after_exactly_that_time(impatient: None) -> None:
    tally, _ = run(plan(Stage("x", 50, 0.3)), Slow(lambda: 5))
    assert tally.failures == {"not done within 0.2 s": tally.offered}
    assert 190 <= (tally.latency.percentile(50) or 0) < 400


def test_who_is_served_after_the_time_of_the_slowest_percent_did_not_keep_up() -> None:
    tally, _ = run(plan(Stage("x", 50, 0.3), limit=Limit(100, 100)), Slow(lambda: 0.6))
    assert tally.offered > 0
    assert tally.achieved == 0
    assert tally.failed == 0


def test_a_failure_is_counted_by_its_reason() -> None:
    class Broken(Slow):
        def call(self, method: str, path: str, body: object = None) -> Answer:
            raise FailedError("ProtocolError")

    tally, _ = run(plan(Stage("x", 50, 0.3)), Broken())
    assert tally.failures == {"ProtocolError": tally.offered}


def test_json_of_another_shape_is_a_failure_not_a_crash() -> None:
    platform = Slow()
    platform.routes["POST /chat/completions"] = lambda _: (200, {"hello": 1})
    tally, _ = run(plan(Stage("x", 50, 0.3)), platform)
    assert tally.failures == {"an answer of another shape: KeyError": tally.offered}


def test_the_platforms_own_part_is_taken_from_its_answers() -> None:
    tally, _ = run(plan(Stage("x", 50, 0.3)), Slow(headers={"x-sluice-overhead-ms": "7.5"}))
    assert list(tally.overhead) == [(8, tally.offered)]


def test_a_climb_ends_where_nothing_is_answered_any_more() -> None:
    """There are more in flight than arrive in ten seconds, and more than a handful."""
    tally, _ = run(plan(Stage("a", 1000, 0.1), Stage("b", 2, 5), climbs=True), Slow(lambda: 1.5))
    assert abs(tally.offered - 100) < 50


def test_a_steady_load_goes_on_however_many_are_in_flight() -> None:
    tally, _ = run(plan(Stage("a", 1000, 0.1), Stage("b", 20, 1)), Slow(lambda: 1.5))
    assert abs(tally.offered - 120) < 50


@pytest.mark.parametrize("share", [0.5, 0.1])
def test_a_process_makes_its_share_of_the_load(share: float) -> None:
    tally, _ = run(plan(Stage("x", 400, 0.5)), Slow(), share=share)
    assert abs(tally.offered - 200 * share) < 4 * (200 * share) ** 0.5


# What goes over the wire.


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, str], bytes | None]]:
    """The URL, headers and body of each request, none of which goes anywhere."""
    found: list[tuple[str, dict[str, str], bytes | None]] = []

    def urlopen(_: object, method: str, url: str, **given: Any) -> urllib3.HTTPResponse:
        headers = {name.lower(): value for name, value in given["headers"].items()}
        found.append((f"{method} {url}", headers, given.get("body")))
        return urllib3.HTTPResponse(b"{}", {"X-Name": "v"}, 200)

    monkeypatch.setattr(urllib3.PoolManager, "urlopen", urlopen)
    return found


def test_a_body_goes_as_json(sent: list[tuple[str, dict[str, str], bytes | None]]) -> None:
    answer = HttpClient("https://api.example/v1/", "k", seconds=1).call("POST", "/score", {"features": [1]})
    assert answer == Answer(200, {"x-name": "v"}, b"{}")
    headers = {"authorization": "Bearer k", "content-type": "application/json"}
    assert sent == [("POST https://api.example/v1/score", headers, b'{"features":[1]}')]


def test_a_form_goes_as_the_platform_reads_it(sent: list[tuple[str, dict[str, str], bytes | None]]) -> None:
    HttpClient("https://api.example/v1", "k", seconds=1).call(
        "POST", "/files", Form({"purpose": "batch"}, "i", b"{}\n")
    )
    [(_, headers, body)] = sent
    new, content = file_of(headers["content-type"], body or b"")
    assert (new.purpose, new.filename, content) == (FilePurpose.BATCH, "i", b"{}\n")
    assert headers["authorization"] == "Bearer k"


def test_a_question_has_no_body(sent: list[tuple[str, dict[str, str], bytes | None]]) -> None:
    HttpClient("https://api.example/v1", "k", seconds=1).call("GET", "/batches/x")
    assert sent == [("GET https://api.example/v1/batches/x", {"authorization": "Bearer k"}, None)]


def test_a_batch_of_a_file_is_timed_until_its_output_is_read() -> None:
    """Four calls of a tenth of a second each, and the pause before the first question."""

    class Waiting(Slow):
        def pause(self, seconds: float) -> None:
            gevent.sleep(seconds)

    profile = replace(PROFILES["file"], stages=(Stage("x", 20, 0.5),))
    record = Record()
    OpenLoop(Plan(profile, 3, Path("x"), 0), Waiting(lambda: 0.1), record, lambda *_: None).run()
    tally = record.total([0], ["file"])
    assert tally.offered == tally.achieved == len(tally.latency) > 0
    assert tally.failed == 0
    assert 850 < (tally.latency.percentile(50) or 0) < 2000
