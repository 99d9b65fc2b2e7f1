"""Requests and tokens a minute: exact in every window, across containers, under twice as much load as is allowed.

The windows are minutes of the clock, so this takes minutes. Both limits are loaded at the same time.
"""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.governance import Key, containers
from tests.integration.support import Answer, Platform, eventually

if TYPE_CHECKING:
    import psutil

MINUTE_S = 60
WINDOWS = 3
CONTAINERS = 4
# A new key has all of its limit in what is left of a window.
ENOUGH_S = 45
# So many at once that they cannot all be served by the same few containers.
BURST = 8
RPM = 32
# A message that the local cloud had no worker for comes back after its visibility timeout, and then waits for a window.
WAIT_S = 330
# Of what each request uses.
TOKEN_REQUESTS = 20
PATH = "/embeddings"
# Hardly more bytes than tokens, so that what requests under way hold keeps no other out.
BODY = {"model": "embed", "input": "?;" * 300}


@dataclass
class Request:
    """One request: when it was sent and answered (epoch seconds), and what the answer was."""

    sent: float
    answered: float
    answer: Answer

    @property
    def window(self) -> int:
        """The minute in which it was admitted or refused, by the time that the answer says is left of it."""
        ends = (self.sent + self.answered) / 2 + seconds(self.answer.headers[self.reset_header])
        return round(ends / MINUTE_S) - 1

    @property
    def reset_header(self) -> str:
        """The header of whichever limit the key has."""
        return next(name for name in self.answer.headers if name.startswith("x-ratelimit-reset-"))


@dataclass
class Load:
    """Requests of one key at a fixed rate, in bursts."""

    key: Key
    per_minute: int
    done: list[Request] = field(default_factory=list)

    def run(self, until: float) -> None:
        """Send until then (epoch seconds)."""
        pause = MINUTE_S * BURST / self.per_minute
        due = time.time()
        under_way: list[Future[None]] = []
        with ThreadPoolExecutor(4 * BURST) as pool:
            while due < until:
                under_way += [pool.submit(self._send) for _ in range(BURST)]
                due += pause
                time.sleep(max(0.0, due - time.time()))
        for each in under_way:
            each.result()

    def _send(self) -> None:
        sent = time.time()
        answer = self.key.served("POST", PATH, BODY)
        self.done.append(Request(sent, time.time(), answer))

    def by_window(self, *statuses: int) -> Counter[int]:
        """How many requests got such an answer, by window."""
        return Counter(each.window for each in self.done if each.answer.status in statuses)


@dataclass
class Loads:
    """What was seen: of each key, in these windows, by so many containers."""

    requests: Load
    tokens: Load
    windows: range
    busy: int
    tpm: int
    patient: list[Answer]


@dataclass
class Queue:
    """Jobs, and a workflow, of keys that may do less in a minute than there is to do."""

    key: Key
    per_minute: int
    ids: list[str]
    chain_key: Key
    execution: str


@pytest.fixture(scope="module")
def queue(platform: Platform) -> Queue:
    """Accepted before the load, so that the time they wait is spent on it."""
    platform.heal()
    key = Key.new(platform, rpm=2)
    if time.time() % MINUTE_S > MINUTE_S - 10:
        # A job that is admitted in one minute and completed in the next would count for the wrong one below.
        time.sleep(10)
    body = {"model": "cheap", "messages": [{"role": "user", "content": "The door is red. Which colour?"}]}
    ids = [key.served("POST", "/async/chat/completions", body).body["id"] for _ in range(5)]
    chain_key = Key.new(platform, rpm=2)
    steps = [{"prompt": "The door is red. Which colour?", "model": "cheap"}] * 5
    execution = chain_key.served("POST", "/workflows/chain/executions", {"steps": steps}).body["id"]
    return Queue(key, 2, ids, chain_key, execution)


@pytest.fixture(scope="module")
def loads(platform: Platform, queue: Queue) -> Loads:
    """Three windows of both loads, begun in the middle of the one before unless that is one of them."""
    hold, used = of_one_request(platform)
    assert hold > used
    # The last of them fits only as it is held, with all the others settled.
    tpm = (TOKEN_REQUESTS - 1) * used + hold
    requests = Load(Key.new(platform, rpm=RPM), 2 * RPM)
    tokens = Load(Key.new(platform, tpm=tpm), 2 * TOKEN_REQUESTS)
    # The window that has begun counts as well, if enough of it is left for more than the limit.
    first = int((time.time() + ENOUGH_S) // MINUTE_S)
    until = (first + WINDOWS) * MINUTE_S
    before = cpu_times(platform)
    with ThreadPoolExecutor(3) as pool:
        patient = pool.submit(wait_as_told, Key.new(platform, rpm=1))
        for each in [pool.submit(load.run, until) for load in (requests, tokens)]:
            each.result()
    after = cpu_times(platform)
    busy = sum(after[process] > before.get(process, 0.0) for process in after)
    return Loads(requests, tokens, range(first, first + WINDOWS), busy, tpm, patient.result())


def of_one_request(platform: Platform) -> tuple[int, int]:
    """The tokens that the request reserves, and those that it uses in the end."""
    limit = 1_000_000
    key = Key.new(platform, tpm=limit)
    platform.fault("wordllama-256", kind="latency", seconds=3)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(key.served, "POST", PATH, BODY)
        hold = eventually(
            lambda: limit - key.usage()["remaining"]["tokens"] or None, within_s=30, what="tokens are reserved"
        )
        used = int(answer.result().body["usage"]["total_tokens"])
    platform.heal()
    return hold, used


def wait_as_told(key: Key) -> list[Answer]:
    """Ask until refused, wait for just as long as the answer says, and ask again."""
    answers = [key.served("POST", PATH, BODY)]
    while answers[-1].status == 200:
        answers.append(key.served("POST", PATH, BODY))
    time.sleep(int(answers[-1].headers["retry-after-ms"]) / 1000)
    return [*answers, key.served("POST", PATH, BODY)]


def cpu_times(platform: Platform) -> dict[psutil.Process, float]:
    """The seconds of CPU that each container of the function has had."""
    return {process: sum(process.cpu_times()[:2]) for process in containers(platform, "embeddings")}


def seconds(duration: str) -> float:
    """``250ms``, ``12s`` and ``1m0s`` in seconds."""
    if duration.endswith("ms"):
        return int(duration[:-2]) / 1000
    minutes, _, rest = duration.rpartition("m")
    return int(minutes or 0) * MINUTE_S + int(rest.rstrip("s"))


def test_the_load_was_what_it_should_be(loads: Loads) -> None:
    """Twice the limit, or nothing below says anything."""
    for load in (loads.requests, loads.tokens):
        assert {each.answer.status for each in load.done} == {200, 429}
        offered, limit = load.by_window(200, 429), load.per_minute / 2
        assert offered[loads.windows[0]] >= 1.3 * limit, offered
        assert all(offered[window] >= 1.8 * limit for window in loads.windows[1:]), offered
    assert loads.busy >= CONTAINERS


def test_requests_are_exactly_as_many_as_the_limit_in_every_window(loads: Loads) -> None:
    admitted = loads.requests.by_window(200)
    assert {window: admitted[window] for window in loads.windows} == dict.fromkeys(loads.windows, RPM)


def test_tokens_are_exactly_as_many_as_fit_in_every_window(loads: Loads) -> None:
    admitted = loads.tokens.by_window(200)
    assert {window: admitted[window] for window in loads.windows} == dict.fromkeys(loads.windows, TOKEN_REQUESTS)


def test_every_answer_says_how_the_key_stands(loads: Loads) -> None:
    for load, name, limit in ((loads.requests, "requests", RPM), (loads.tokens, "tokens", loads.tpm)):
        for each in load.done:
            headers = each.answer.headers
            assert int(headers[f"x-ratelimit-limit-{name}"]) == limit
            assert 0 <= int(headers[f"x-ratelimit-remaining-{name}"]) <= limit
            assert 0 < seconds(headers[f"x-ratelimit-reset-{name}"]) <= MINUTE_S


def test_a_refusal_says_exactly_when_to_come_again(loads: Loads) -> None:
    for load, kind in ((loads.requests, "requests"), (loads.tokens, "tokens")):
        refused = [each for each in load.done if each.answer.status == 429]
        assert refused
        for each in refused:
            error, headers = each.answer.body["error"], each.answer.headers
            assert (error["type"], error["code"]) == (kind, "rate_limit_exceeded")
            assert "x-should-retry" not in headers
            ends = (each.window + 1) * MINUTE_S
            wait = int(headers["retry-after-ms"]) / 1000
            assert ends - each.answered - 0.01 <= wait <= ends - each.sent + 0.01
            assert int(headers["retry-after"]) - 1 < wait <= int(headers["retry-after"])


def test_who_waits_as_long_as_told_is_served(loads: Loads) -> None:
    *_, refused, served = loads.patient
    assert (refused.status, served.status) == (429, 200)


def test_batch_work_above_the_limit_waits_and_is_done(loads: Loads, queue: Queue) -> None:
    def finished() -> list[dict[str, Any]] | None:
        jobs = [queue.key.served("GET", f"/async/{job_id}").body for job_id in queue.ids]
        return jobs if all(job["status"] in {"completed", "failed"} for job in jobs) else None

    jobs = eventually(finished, within_s=WAIT_S, what="all jobs are done")
    assert [job["status"] for job in jobs] == ["completed"] * len(jobs)
    windows = Counter(job["completed_at"] // MINUTE_S for job in jobs)
    assert max(windows.values()) <= queue.per_minute


def test_a_workflow_above_the_limit_waits_and_is_done(loads: Loads, queue: Queue) -> None:
    path = f"/workflows/executions/{queue.execution}"

    def ended() -> dict[str, Any] | None:
        body = queue.chain_key.served("GET", path).body
        return body if body["status"] in {"succeeded", "failed"} else None

    execution = eventually(ended, within_s=WAIT_S, what="the workflow has ended")
    assert execution["status"] == "succeeded", execution["error"]
    assert [step["status"] for step in execution["steps"]] == ["succeeded"] * 5
    assert len(queue.chain_key.log()) == 5
