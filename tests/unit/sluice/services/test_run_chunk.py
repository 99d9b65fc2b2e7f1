"""The batch worker: every line gets its result exactly once."""

from __future__ import annotations

import io
import threading
import time
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from pyarrow import parquet

from sluice.domain.batches import BatchStatus, ChunkPointer, ChunkStatus, OutputFormat
from sluice.domain.errors import (
    ConfigurationError,
    ContentFilteredError,
    LeasedError,
    ProviderAuthError,
    ProviderError,
    ProviderOverloadedError,
    ProviderThrottledError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    StateError,
)
from sluice.domain.inference import Mode, Usage
from sluice.domain.ledger import Limits
from sluice.domain.pace import Pace
from sluice.domain.request_log import Outcome
from sluice.domain.routing import Target
from sluice.services import run_chunk
from sluice.services.consume import Done, Later
from sluice.testing.routes import target
from tests.unit.sluice.services.chunks import BATCH_ID, COST, INPUT_KEY, KEY, PRICE, World, chat_line, embed_line

TEN = [chat_line(f"line-{number}") for number in range(10)]


def test_every_line_of_a_chunk_gets_its_answer() -> None:
    world = World(TEN)
    assert world.deliver() == Done()
    results = {each["custom_id"]: each for each in world.outputs()}
    assert results.keys() == {f"line-{number}" for number in range(10)}
    assert len(world.outputs()) == 10
    for custom_id, result in results.items():
        assert result["error"] is None
        assert result["response"]["status_code"] == 200
        assert result["response"]["body"]["choices"][0]["message"]["content"] == f"re: {custom_id}"
        assert result["id"].startswith("batch_req_")
    assert len({result["id"] for result in results.values()}) == 10
    assert (world.batch.completed, world.batch.failed, world.chunk().status) == (10, 0, ChunkStatus.ENDED)
    assert world.errors() == []
    world.check_money()


def test_what_the_lines_came_to_is_entered_once() -> None:
    world = World(TEN)
    world.deliver()
    [entry] = world.log.entries
    assert (entry.mode, entry.requests, entry.model, entry.target) == (Mode.BATCH, 10, "auto", "a/one")
    assert entry.usage == Usage(input_tokens=80, output_tokens=20)
    assert (entry.cost_micro_usd, world.batch.cost_micro_usd) == (10 * COST, 10 * COST)
    assert world.batch.usage == entry.usage
    assert world.batch.held_micro_usd == 0


def test_no_line_writes_metrics_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    world = World(TEN)
    world.deliver()
    metrics = [msgspec.json.decode(line) for line in capsys.readouterr().out.splitlines() if '"_aws"' in line]
    assert [(each["Requests"], each["Errors"], each["Target"]) for each in metrics] == [(10, 0, "a/one")]


def test_the_end_of_the_last_chunk_is_told_to_the_assembler() -> None:
    world = World(TEN)
    world.deliver()
    [delivery] = world.assembly.receive()
    assert delivery.pointer.batch_id == BATCH_ID  # type: ignore[union-attr]
    assert world.batch.status is BatchStatus.FINALIZING


def test_a_chunk_that_ends_gives_out_the_next_of_its_lane() -> None:
    world = World([chat_line(str(number)) for number in range(6)], per_chunk=1, window=2)
    world.deliver(0)
    assert [pointer.chunk for pointer in world.pointers()] == [2]
    world.deliver(1)
    assert [pointer.chunk for pointer in world.pointers()] == [3]
    assert world.assembly.receive() == []


# ---- Redelivery and kills ----


def test_a_redelivered_pointer_changes_nothing() -> None:
    world = World(TEN)
    world.deliver()
    before = (dict(world.objects.bodies), world.batch, world.chunk(), world.log.entries)
    assert world.deliver() == Done()
    assert (dict(world.objects.bodies), world.batch, world.chunk(), world.log.entries) == before
    assert max(world.model.asked.values()) == 1


def test_what_was_not_sent_on_is_sent_by_the_next_delivery() -> None:
    world = World([chat_line("a"), chat_line("b")], per_chunk=1)
    world.chunks.failing = StateError("Away.")
    with pytest.raises(StateError):
        world.deliver(0)
    assert world.chunk(0).status is ChunkStatus.ENDED
    world.chunks.failing = None
    world.now += 30
    assert world.deliver(0) == Done()
    assert [pointer.chunk for pointer in world.pointers()] == [1]
    assert world.model.asked == {"a": 1}


def test_a_successor_that_is_at_work_is_not_sent_again() -> None:
    world = World([chat_line("a"), chat_line("b")], per_chunk=1)
    world.deliver(0)
    world.pointers()
    world.deliver(1)
    world.deliver(0)
    assert world.pointers() == []


def test_a_drained_batch_is_told_again_until_it_has_ended() -> None:
    world = World(TEN)
    world.assembly.failing = StateError("Away.")
    with pytest.raises(StateError):
        world.deliver()
    world.assembly.failing = None
    world.deliver()
    assert len(world.assembly.receive()) == 1


def test_objects_of_an_attempt_that_was_not_recorded_are_nobodys() -> None:
    world = World(TEN)
    world.batches.failing["record"] = StateError("Away.")
    with pytest.raises(StateError):
        world.deliver()
    assert world.chunk().status is ChunkStatus.PENDING
    world.batches.failing.clear()
    assert world.deliver() == Done()
    assert len(world.outputs()) == 10
    assert len(world.objects.bodies) == 3
    world.check_money()


def test_nothing_is_recorded_whose_object_is_not_there() -> None:
    world = World(TEN)
    put = world.objects.put
    world.objects.put = lambda *_: (_ for _ in ()).throw(StateError("Away."))  # type: ignore[method-assign]
    with pytest.raises(StateError):
        world.deliver()
    assert (world.batch.completed, world.chunk().parts) == (0, ())
    world.objects.put = put  # type: ignore[method-assign]
    assert world.deliver() == Done()
    assert len(world.outputs()) == 10


def test_a_chunk_that_another_has_is_left_to_it() -> None:
    world = World(TEN)
    world.batches.claim_chunk(BATCH_ID, 0, now=int(world.now), lease_until=int(world.now) + 30)
    with pytest.raises(LeasedError):
        world.deliver()
    assert world.model.asked == {}


def test_a_worker_that_was_given_up_records_nothing() -> None:
    world = World(TEN)
    held: list[str] = []

    def overtaken(text: str, _: Target) -> None:
        if text == "line-9":
            held.extend(world.pace_store.stored["a/one"].pace.slots)
            later = int(world.now) + 10_000
            world.batches.claim_chunk(BATCH_ID, 0, now=later, lease_until=later + 60)
            world.pace.enter(["a/one"], f"{BATCH_ID}/0#2", until=later, providers=["provider#bedrock"])

    world.model.before = overtaken
    assert isinstance(world.deliver(), Later)
    assert (world.batch.completed, world.log.entries, world.chunk().parts) == (0, [], ())
    assert world.chunk().status is ChunkStatus.RUNNING
    assert held == [f"{BATCH_ID}/0#1"]
    for state in world.pace_store.read(["a/one", "provider#bedrock"]).values():
        assert state.pace.slots.keys() == {f"{BATCH_ID}/0#2"}, "its slots are the other's"
    assert world.pace_store.stored.keys() == {"a/one", "provider#bedrock"}


def test_a_worker_that_is_at_work_keeps_its_chunk_for_longer_than_a_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_chunk, "LOOK_S", 0.02)
    world = World(TEN)
    begun = int(world.now)
    refused: list[int] = []

    def slow(text: str, _: Target) -> None:
        if text == "line-0":
            for _look in range(3):
                world.now += 50
                deadline = time.monotonic() + 10
                while world.chunk().lease_until != int(world.now) + 60 and time.monotonic() < deadline:
                    time.sleep(0.01)
                with pytest.raises(LeasedError) as leased:
                    world.batches.claim_chunk(BATCH_ID, 0, now=int(world.now) + 59, lease_until=2**40)
                refused.append(leased.value.lease_until - begun)

    world.model.before = slow
    assert world.deliver() == Done()
    assert refused == [110, 160, 210]
    assert (world.batch.completed, world.chunk().attempts) == (10, 1)


def test_a_worker_that_was_thought_dead_stops_at_its_next_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_chunk, "LOOK_S", 0.02)
    world = World(TEN, settings={"line_concurrency": 1})

    def overtaken(text: str, _: Target) -> None:
        if text == "line-0":
            world.now += 61
            world.batches.claim_chunk(BATCH_ID, 0, now=int(world.now), lease_until=int(world.now) + 60)
            time.sleep(0.5)

    world.model.before = overtaken
    assert isinstance(world.deliver(), Later)
    assert world.model.asked == {"line-0": 1}
    assert (world.batch.completed, world.log.entries, world.chunk().attempts) == (0, [], 2)
    for state in world.pace_store.read(["a/one", "provider#bedrock"]).values():
        assert state.pace.slots == {}, "the other takes slots of its own"


def lose_workers(world: World, count: int) -> None:
    for _ in range(count):
        world.batches.claim_chunk(BATCH_ID, 0, now=int(world.now), lease_until=int(world.now) + 60)
        world.now += 60


def test_a_chunk_that_kills_its_workers_is_left_to_the_operator() -> None:
    world = World(TEN)
    lose_workers(world, 10)
    for _ in range(2):
        with pytest.raises(StateError, match="10 workers were lost") as lost:
            world.deliver()
        assert lost.value.code == "workers_lost"
    assert (world.model.asked, world.chunk().status) == ({}, ChunkStatus.PENDING)

    world.batches.park_chunk(BATCH_ID, 0, now=int(world.now))
    with pytest.raises(StateError, match="10 workers were lost"):
        world.deliver()
    assert world.deliver(redriven=True) == Done(), "the operator has seen to it"
    assert world.batch.completed == 10


def test_a_redrive_of_a_chunk_that_kills_its_workers_costs_one_more() -> None:
    world = World(TEN)
    lose_workers(world, 11)
    with pytest.raises(StateError, match="10 workers were lost"):
        world.deliver(redriven=True, receives=1)
    world.pace_store.swap("a/one", Pace(slots={f"other/{n}": 2**40 for n in range(6)}), version=None)
    waits = world.deliver(redriven=True)
    assert isinstance(waits, Later)
    assert waits.instead is not None
    assert (waits.instead.redriven, waits.instead.receives) == (True, 0), "to wait for room was no attempt"


def test_a_chunk_that_comes_on_may_lose_as_many_workers_again() -> None:
    world = World(TEN)
    failing(world, "line-3", kind=ProviderUnavailableError, times=2)
    lose_workers(world, 9)
    assert isinstance(world.deliver(), Later)
    assert world.batch.completed == 9
    lose_workers(world, 9)
    assert world.deliver() == Done()
    assert world.batch.completed == 10


def test_a_chunk_that_kills_its_workers_ends_with_its_batch() -> None:
    world = World(TEN)
    lose_workers(world, 10)
    world.now += 90_000
    assert world.deliver() == Done()
    assert (world.batch.halted, world.batch.failed, world.model.asked) == ("expired", 10, {})


def test_two_workers_at_once_write_every_line_once() -> None:
    world = World(TEN)
    world.model.before = lambda *_: time.sleep(0.01)
    outcomes: list[Any] = []

    def work() -> None:
        try:
            outcomes.append(world.deliver())
        except LeasedError as error:
            outcomes.append(error)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sum(outcome == Done() for outcome in outcomes) >= 1
    assert len(world.outputs()) == 10
    assert max(world.model.asked.values()) == 1
    world.check_money()


# ---- Lines that fail ----


def failing(world: World, *texts: str, kind: type[ProviderError], times: int = 1_000, **more: Any) -> None:
    """Let these texts fail so many times each."""
    lock = threading.Lock()
    left = dict.fromkeys(texts, times)

    def before(text: str, where: Target) -> None:
        with lock:
            if left.get(text, 0) <= 0:
                return
            left[text] -= 1
        raise kind("It failed.", target=where.name, **more)

    world.model.before = before


def test_a_line_that_is_refused_has_its_error_at_once_and_the_others_their_answers() -> None:
    world = World(TEN)
    failing(world, "line-3", kind=ContentFilteredError)
    assert world.deliver() == Done()
    [error] = world.errors()
    assert error["custom_id"] == "line-3"
    assert error["error"] is None
    assert error["response"]["status_code"] == 400
    assert error["response"]["body"]["error"]["code"] == "content_filter"
    assert len(world.outputs()) == 9
    assert (world.batch.completed, world.batch.failed) == (9, 1)
    assert world.model.asked["line-3"] == 1
    assert {(entry.outcome, entry.requests) for entry in world.log.entries} == {
        (Outcome.COMPLETED, 9),
        (Outcome.FAILED, 1),
    }


def test_a_line_that_fails_once_is_run_again_in_the_same_attempt() -> None:
    world = World(TEN)
    failing(world, "line-3", "line-5", kind=ProviderUnavailableError, times=1)
    assert world.deliver() == Done()
    assert (world.batch.completed, world.chunk().attempts, world.model.asked["line-3"]) == (10, 1, 2)
    assert sum(world.model.asked.values()) == 12


def test_only_what_failed_is_run_by_the_next_delivery() -> None:
    world = World(TEN)
    failing(world, "line-3", kind=ProviderUnavailableError, times=2)
    outcome = world.deliver()
    assert isinstance(outcome, Later)
    assert (world.batch.completed, world.chunk().status, world.chunk().tries) == (9, ChunkStatus.PENDING, 1)
    assert world.pointers() == []
    assert world.deliver() == Done()
    assert (world.batch.completed, world.model.asked["line-3"], world.model.asked["line-1"]) == (10, 3, 1)
    assert len(world.outputs()) == 10
    assert len(world.chunk().parts) == 2
    world.check_money()


def test_a_line_that_fails_in_attempt_after_attempt_gets_its_error() -> None:
    world = World(TEN)
    failing(world, "line-3", kind=ProviderTimeoutError)
    outcomes = [type(world.deliver()) for _ in range(3)]
    assert outcomes == [Later, Later, Done]
    [error] = world.errors()
    assert (error["response"]["status_code"], error["response"]["body"]["error"]["code"]) == (504, "provider_timeout")
    assert (world.batch.completed, world.batch.failed, world.model.asked["line-3"]) == (9, 1, 6)


def test_a_bug_that_one_line_meets_is_that_lines_error_in_the_end() -> None:
    world = World(TEN, settings={"line_tries": 1})

    def before(text: str, _: Target) -> None:
        if text == "line-3":
            raise ZeroDivisionError(text)

    world.model.before = before
    assert world.deliver() == Done()
    [error] = world.errors()
    assert error["response"]["body"]["error"]["code"] == "internal_error"
    assert world.batch.completed == 9


def test_a_throttled_line_waits_for_as_long_as_the_provider_asks() -> None:
    world = World(TEN)
    failing(world, "line-3", kind=ProviderThrottledError, times=1, retry_after_s=5.0)
    outcome = world.deliver(seconds=4.0)
    assert isinstance(outcome, Later)
    assert outcome.seconds in (4, 5)
    assert outcome.instead is not None
    assert (outcome.instead.receives, outcome.instead.waits) == (0, 1)
    assert world.chunk().tries == 0
    # While the target is being left alone, nobody is asked.
    asked = sum(world.model.asked.values())
    assert isinstance(world.deliver(), Later)
    assert sum(world.model.asked.values()) == asked
    world.now += 6
    assert world.deliver() == Done()
    assert world.batch.completed == 10
    assert len(world.outputs()) == 10


def test_what_failed_before_a_chunk_got_on_does_not_count_any_more() -> None:
    world = World(TEN)
    failing(world, "line-3", kind=ProviderThrottledError, times=1, retry_after_s=5.0)
    outcome = world.deliver(seconds=4.0, receives=2)
    assert isinstance(outcome, Later)
    assert outcome.instead is not None
    assert 0 < world.batch.completed < 10
    assert outcome.instead.receives == 0
    # Nothing is recorded where nobody may be asked.
    outcome = world.deliver(receives=2)
    assert isinstance(outcome, Later)
    assert outcome.instead is not None
    assert outcome.instead.receives == 2


def test_throttles_are_no_tries_however_many_there_are() -> None:
    world = World(TEN[:2])
    failing(world, "line-0", "line-1", kind=ProviderThrottledError, times=20, retry_after_s=30.0)
    for _ in range(6):
        assert isinstance(world.deliver(seconds=2.0), Later)
        world.now += 31
    assert (world.chunk().tries, world.batch.failed) == (0, 0)
    assert world.batch.cost_micro_usd == 0


def test_throttles_of_batches_never_open_the_circuit_that_others_go_by() -> None:
    world = World(TEN, circuit_failures=2)
    failing(world, *(f"line-{number}" for number in range(10)), kind=ProviderThrottledError, retry_after_s=1.0)
    world.deliver(seconds=2.0)
    assert world.states.stored == {}
    pace = world.pace_store.stored["a/one"].pace
    assert pace.paused_s(world.now) > 0
    assert pace.limit == 3


def test_failures_do_open_it_and_then_the_lines_wait() -> None:
    world = World(TEN, circuit_failures=2, settings={"line_concurrency": 1})
    failing(world, *(f"line-{number}" for number in range(10)), kind=ProviderUnavailableError)
    outcome = world.deliver(seconds=3.0)
    assert isinstance(outcome, Later)
    assert outcome.seconds >= 20
    assert sum(world.model.asked.values()) <= 3
    assert world.batch.failed == 0


def test_an_overloaded_provider_is_asked_less_often_and_its_lines_count_tries() -> None:
    world = World(TEN[:1], settings={"tries_here": 1})
    failing(world, "line-0", kind=ProviderOverloadedError, times=1)
    assert isinstance(world.deliver(), Later)
    assert world.chunk().tries == 1
    assert world.pace_store.stored["a/one"].pace.paused_s(world.now) > 0


def test_a_refused_credential_is_an_operators_matter_and_costs_no_line() -> None:
    world = World([*TEN[:4], chat_line("other", model="b/two")], routes=[_other()])

    def before(_: str, where: Target) -> None:
        if where.name == "a/one":
            raise ProviderAuthError("Refused.", target=where.name)

    world.model.before = before
    with pytest.raises(ProviderAuthError):
        world.deliver()
    assert (world.batch.completed, world.batch.failed, world.chunk().status) == (1, 0, ChunkStatus.PENDING)
    world.model.before = lambda *_: None
    assert world.deliver() == Done()
    assert world.batch.completed == 5


def _other() -> Target:
    return target("b/two", price=PRICE)


def test_a_table_that_is_away_fails_the_attempt_and_keeps_what_was_done() -> None:
    world = World(TEN, settings={"line_concurrency": 1})

    def before(text: str, _: Target) -> None:
        if text == "line-4":
            world.route_source.failing = StateError("Away.")

    world.model.before = before
    with pytest.raises(StateError):
        world.deliver()
    assert 4 <= world.batch.completed < 10
    world.route_source.failing = None
    world.model.before = lambda *_: None
    assert world.deliver() == Done()
    assert len(world.outputs()) == 10
    world.check_money()


def test_a_model_that_is_gone_since_is_each_lines_error() -> None:
    world = World([*TEN[:2], chat_line("gone", model="b/two")], routes=[_other()])
    world.route_source.entries = [each for each in world.route_source.entries if each.name != "b/two"]
    assert world.deliver() == Done()
    [error] = world.errors()
    assert (error["custom_id"], error["response"]["status_code"]) == ("gone", 404)
    assert world.batch.completed == 2


# ---- The end of a batch before its time ----


def test_a_cancelled_batch_keeps_what_is_done_and_runs_no_more() -> None:
    world = World([chat_line(f"line-{number}") for number in range(40)], settings={"line_concurrency": 2})
    seen = threading.Event()

    def before(_: str, __: Target) -> None:
        if not seen.is_set() and sum(world.model.asked.values()) >= 6:
            seen.set()
            world.batches.halt(BATCH_ID, "cancelled", now=int(world.now))
        time.sleep(0.2)

    world.model.before = before
    began = time.monotonic()
    assert world.deliver() == Done()
    assert time.monotonic() - began < 4
    done = len(world.outputs())
    assert 6 <= done < 40
    assert (world.batch.completed, world.batch.status) == (done, BatchStatus.CANCELLING)
    assert world.chunk().status is ChunkStatus.ENDED
    assert len(world.assembly.receive()) == 1
    assert world.batch.held_micro_usd == 0
    world.check_money()


def test_a_chunk_of_a_cancelled_batch_ends_without_a_call() -> None:
    world = World(TEN)
    world.batches.halt(BATCH_ID, "cancelled", now=int(world.now))
    assert world.deliver() == Done()
    assert (world.model.asked, world.chunk().status, world.chunk().parts) == ({}, ChunkStatus.ENDED, ())
    assert len(world.assembly.receive()) == 1


def test_every_line_of_an_expired_batch_has_an_answer() -> None:
    world = World(TEN, per_chunk=5)
    failing(world, "line-3", kind=ProviderUnavailableError, times=2)
    world.deliver(0)
    world.now += 90_000
    assert world.deliver(0) == Done()
    assert [pointer.chunk for pointer in world.pointers()] == [1]
    assert world.deliver(1) == Done()
    assert world.batch.halted == "expired"
    assert (world.batch.completed, world.batch.failed) == (4, 6)
    errors = {each["custom_id"]: each for each in world.errors()}
    assert errors.keys() == {"line-3", *(f"line-{number}" for number in range(5, 10))}
    for error in errors.values():
        assert error["response"] is None
        assert error["error"]["code"] == "batch_expired"
    assert sum(world.model.asked.values()) == 6
    world.check_money()


def test_a_batch_that_expires_while_lines_run_ends_so() -> None:
    world = World(TEN, settings={"line_concurrency": 1})

    def before(_: str, __: Target) -> None:
        world.now += 20_000
        time.sleep(0.8)

    world.model.before = before
    assert world.deliver() == Done()
    done = len(world.outputs())
    assert 5 <= done < 10
    assert len(world.errors()) == 10 - done
    assert world.batch.halted == "expired"


def test_an_input_file_that_is_gone_halts_the_batch() -> None:
    world = World(TEN, per_chunk=5)
    world.deliver(0)
    del world.objects.bodies[INPUT_KEY]
    world.pointers()
    assert world.deliver(1) == Done()
    assert (world.batch.halted, world.batch.completed) == ("input_file_gone", 5)
    assert len(world.assembly.receive()) == 1
    assert world.batch.held_micro_usd == 0


def test_a_key_that_is_not_valid_any_more_halts_the_batch() -> None:
    world = World(TEN)
    world.keys.stored[KEY.key_hash] = msgspec.structs.replace(KEY, revoked_at=1)
    assert world.deliver() == Done()
    assert (world.batch.halted, world.model.asked) == ("key_not_valid", {})


def test_a_key_that_is_not_seen_for_a_moment_halts_nothing() -> None:
    world = World(TEN)
    world.keys.unseen = {KEY.key_hash}
    with pytest.raises(StateError):
        world.deliver()
    assert (world.batch.halted, world.chunk().status) == (None, ChunkStatus.PENDING)
    world.keys.unseen.clear()
    assert world.deliver() == Done()
    assert (world.batch.halted, world.batch.completed) == (None, 10)


# ---- Time, memory, pace ----


def test_what_the_deadline_does_not_hold_is_left_for_the_next_delivery() -> None:
    world = World([chat_line(f"line-{number}") for number in range(30)], settings={"line_concurrency": 1})
    world.model.before = lambda *_: time.sleep(0.1)
    began = time.monotonic()
    outcome = world.deliver(seconds=2.0)
    assert time.monotonic() - began < 2.0
    assert isinstance(outcome, Later)
    assert (outcome.seconds, world.chunk().tries) == (0, 0)
    assert 5 <= world.batch.completed < 30
    world.model.before = lambda *_: None
    assert world.deliver() == Done()
    assert len({each["custom_id"] for each in world.outputs()}) == len(world.outputs()) == 30
    assert max(world.model.asked.values()) == 1
    world.check_money()


def test_no_more_results_are_kept_in_memory_than_a_part_may_have() -> None:
    world = World(
        [chat_line(f"line-{number}", "x" * 1_000) for number in range(50)],
        settings={"part_bytes": 10_000, "line_concurrency": 2},
    )
    assert world.deliver() == Done()
    parts = world.chunk().parts
    assert len(parts) >= 5
    assert max(part.output_bytes for part in parts) < 14_000
    assert len({each["custom_id"] for each in world.outputs()}) == len(world.outputs()) == 50
    assert world.chunk().attempts == len(parts)
    world.check_money()


def test_so_many_chunks_at_a_target_and_no_more() -> None:
    world = World([chat_line(str(number)) for number in range(6)], per_chunk=1, window=6, most_at_target=2)
    world.model.before = lambda *_: time.sleep(0.3)
    outcomes: list[Any] = []
    workers = [
        threading.Thread(target=lambda number=number: outcomes.append(world.deliver(number))) for number in range(6)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert world.pace_store.most_at_work == 2
    assert sum(outcome == Done() for outcome in outcomes) == world.batch.completed
    assert {world.chunk(number).status for number in range(6)} == {ChunkStatus.ENDED, ChunkStatus.PENDING}
    assert world.pace_store.stored["a/one"].pace.slots == {}
    for number in range(6):
        assert world.deliver(number) == Done()
    assert len(world.outputs()) == 6


def test_models_of_one_provider_share_its_slots() -> None:
    elsewhere = msgspec.structs.replace(target("c/three", price=PRICE), region="eu-central-1")
    lines = [chat_line("one"), chat_line("two", model="b/two"), chat_line("three", model="c/three")]
    world = World(lines, per_chunk=1, window=3, most_at_target=1, routes=[_other(), elsewhere])
    outcomes: list[Any] = []

    def before(text: str, _: Target) -> None:
        if text == "one":
            outcomes.extend([world.deliver(1), world.deliver(2)])

    world.model.before = before
    assert world.deliver(0) == Done()
    refused, other_region = outcomes
    assert isinstance(refused, Later)
    assert other_region == Done()
    assert all(state.pace.slots == {} for state in world.pace_store.stored.values())
    assert world.deliver(1) == Done()


def test_nothing_begins_while_nobody_knows_the_pace() -> None:
    world = World(TEN)
    world.pace_store.failing = StateError("Away.")
    with pytest.raises(StateError):
        world.deliver()
    assert (world.model.asked, world.chunk().status) == ({}, ChunkStatus.PENDING)


# ---- Money ----


def test_what_is_set_aside_is_never_exceeded() -> None:
    limits = Limits(monthly_budget_micro_usd=Decimal(100_000))
    key = msgspec.structs.replace(KEY, limits=limits)
    world = World(TEN, limits=limits, held=Decimal(400), settings={"line_concurrency": 1, "tries_here": 1})
    world.keys.stored = {key.key_hash: key}
    assert world.deliver() == Done()
    assert 0 < world.batch.completed < 10
    assert world.batch.cost_micro_usd <= 400
    assert {each["response"]["body"]["error"]["type"] for each in world.errors()} == {"insufficient_quota"}
    world.check_money()


def test_what_is_left_over_goes_back_when_the_chunk_ends_and_not_before() -> None:
    world = World(TEN)
    before = world.batch.held_micro_usd
    failing(world, "line-3", kind=ProviderUnavailableError, times=2)
    world.deliver()
    assert world.batch.held_micro_usd == before - 9 * COST
    world.deliver()
    assert world.batch.held_micro_usd == 0


def test_calls_that_were_billed_are_paid_for_even_if_their_line_is_left() -> None:
    world = World(TEN[:2])

    def before(text: str, where: Target) -> None:
        if text == "line-0":
            error = ProviderUnavailableError("Cut.", target=where.name)
            error.calls = (Usage(input_tokens=5),)
            raise error

    world.model.before = before
    assert isinstance(world.deliver(), Later)
    assert world.batch.cost_micro_usd == COST + 2 * 10
    assert sum(entry.requests for entry in world.log.entries) == 1
    world.model.before = lambda *_: None
    world.deliver()
    assert sum(entry.requests for entry in world.log.entries) == 2
    world.check_money()


# ---- Embeddings together ----


def test_texts_for_a_model_inside_are_embedded_together() -> None:
    world = World([embed_line(f"line-{number}", "x" * (number + 1)) for number in range(100)])
    assert world.deliver() == Done()
    assert world.model.embeds == [100]
    results = {each["custom_id"]: each["response"]["body"] for each in world.outputs()}
    for number in range(100):
        body = results[f"line-{number}"]
        assert body["data"][0]["embedding"] == [number + 1.0, 0.5]
        assert body["usage"]["prompt_tokens"] == number + 1
    assert world.pace_store.writes == 0
    [entry] = world.log.entries
    assert (entry.requests, world.batch.usage) == (100, Usage(input_tokens=5_050))
    world.check_money()


def test_texts_for_a_model_outside_are_embedded_line_by_line() -> None:
    world = World([embed_line(str(number), model="embed") for number in range(5)])
    world.deliver()
    assert world.model.embeds == [1] * 5


def test_one_text_that_is_refused_is_one_lines_error() -> None:
    world = World([embed_line(f"line-{number}") for number in range(10)])
    failing(world, "line-3", kind=ContentFilteredError)
    assert world.deliver() == Done()
    assert [each["custom_id"] for each in world.errors()] == ["line-3"]
    assert len(world.outputs()) == 9


def test_lines_that_ask_for_other_vectors_are_not_put_together() -> None:
    lines = [embed_line(str(number), dimensions=1 + number % 2) for number in range(10)]
    world = World(lines)
    assert world.deliver() == Done()
    assert sorted(world.model.embeds) == [5, 5]


def test_vectors_as_parquet() -> None:
    lines = [embed_line("two", ["a", "bbb"]), *(embed_line(f"line-{number}") for number in range(5))]
    world = World(lines, output_format=OutputFormat.PARQUET)
    failing(world, "line-3", kind=ContentFilteredError)
    assert world.deliver() == Done()
    [part] = world.chunk().parts
    assert part.output_key is not None
    assert part.output_key.endswith(".parquet")
    table = parquet.read_table(io.BytesIO(world.objects.bodies[part.output_key]))
    rows = {(row["custom_id"], row["index"]): (row["embedding"], row["prompt_tokens"]) for row in table.to_pylist()}
    assert rows["two", 1] == ([3.0, 0.5], 3)
    assert rows["line-0", 0] == ([6.0, 0.5], 6)
    assert len(rows) == 6
    assert [each["custom_id"] for each in world.errors()] == ["line-3"]


# ---- As a consumer ----


def test_a_whole_batch_is_worked_off_the_queue() -> None:
    world = World([chat_line(str(number)) for number in range(25)], per_chunk=3, window=2)
    failing(world, "7", "11", kind=ProviderUnavailableError, times=3)
    for number in range(2):
        world.chunks.send(ChunkPointer(batch_id=BATCH_ID, chunk=number))
    for _ in range(40):
        world.consumed()
        world.now += 10
    assert (world.batch.completed, world.batch.status) == (25, BatchStatus.FINALIZING)
    assert len({each["custom_id"] for each in world.outputs()}) == len(world.outputs()) == 25
    assert len(world.assembly.receive()) == 1
    world.check_money()


def test_a_lane_of_messages_that_all_come_twice_stays_one() -> None:
    world = World([chat_line(str(number)) for number in range(12)], per_chunk=1)
    world.chunks.send(ChunkPointer(batch_id=BATCH_ID, chunk=0))
    sent = 0
    for _ in range(200):
        doubled = [delivery.pointer for delivery in world.chunks.receive()]  # type: ignore[union-attr]
        sent += len(doubled)
        world.chunks._messages.clear()
        for pointer in doubled:
            world.deliver(pointer.chunk)
            world.deliver(pointer.chunk)
    assert world.batch.completed == 12
    assert sent == 12


def test_what_cannot_be_done_ends_in_the_dlq_with_a_reason_and_can_be_redriven() -> None:
    world = World(TEN)
    world.chunks.max_receive_count = 4
    world.chunks.send(ChunkPointer(batch_id=BATCH_ID, chunk=0))
    world.ranges.failing = ConfigurationError("No permission.")
    for _ in range(8):
        world.consumed()
        world.now += 1_000
    [reason] = world.reasons.of_queue("chunks", limit=10)
    assert (reason.code, reason.subject) == ("misconfigured", f"{BATCH_ID}/0")
    assert len(world.chunks.dead_letters) == 1
    assert world.chunk().parked
    world.ranges.failing = None
    world.chunks.put(world.chunks.dead_letters.pop())
    world.consumed()
    assert (world.batch.completed, world.chunk().parked) == (10, False)
