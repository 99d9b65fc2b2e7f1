"""Every delivery of every message ends in the right state: repeated, late, cut off, half written, poisoned."""

from __future__ import annotations

import dataclasses
import json
import random
import threading
from collections import Counter
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from sluice.domain.errors import (
    ConfigurationError,
    ConflictError,
    ContextTooLongError,
    NotFoundError,
    ProviderAuthError,
    ProviderThrottledError,
    ProviderUnavailableError,
    StateError,
)
from sluice.domain.inference import ChatRequest
from sluice.domain.jobs import NOT_ATTEMPTED, WORKER_LOST, AsyncJob, JobStatus
from sluice.domain.ledger import NO_LIMITS, ZERO, Ask, Limits
from sluice.services.run_job import MOST_ANSWER_BYTES
from tests.unit.sluice.services.durable import ATTEMPTS, BODY, CALLER, KEY, NOW, Batch

DOWN = ProviderUnavailableError("The provider is down.", target="bedrock/small")


def status(batch: Batch, job_id: str) -> JobStatus:
    return batch.reader.read(job_id, CALLER).status


def text(batch: Batch, job_id: str) -> str:
    answer = batch.reader.read(job_id, CALLER).answer
    assert answer is not None
    content: str = json.loads(answer)["choices"][0]["message"]["content"]
    return content


def test_a_delivered_job_is_answered_and_its_message_acknowledged() -> None:
    batch = Batch()
    job_id = batch.submitted()
    assert batch.deliver() == []
    view = batch.reader.read(job_id, CALLER)
    assert view.status is JobStatus.COMPLETED
    assert view.answer is not None
    assert json.loads(view.answer)["model"] == "bedrock/small"
    assert view.job.usage is not None
    assert view.job.usage.total_tokens == 10
    assert str(view.job.cost_micro_usd) == "4.00"
    assert (view.job.attempts, view.job.lease_until) == (1, None)
    assert not batch.queue.bodies


def test_every_attempt_has_a_log_entry_of_its_own() -> None:
    batch = Batch()
    job_id = batch.submitted()
    batch.model.error = DOWN
    batch.deliver()
    batch.clock.advance(60)
    batch.model.error = None
    batch.deliver()
    asked = [(entry.request_id, entry.started_at) for entry in batch.log.entries]
    assert asked == [(job_id, NOW), (job_id, NOW + 60)]
    assert [entry.outcome.value for entry in batch.log.entries] == ["failed", "completed"]


def test_a_batch_of_many_is_worked_on_side_by_side() -> None:
    batch = Batch()
    together = threading.Barrier(10, timeout=10)

    def wait(_: ChatRequest) -> None:
        together.wait()

    batch.model.before = wait
    jobs = [batch.submitted() for _ in range(10)]
    assert batch.deliver() == []
    assert {status(batch, job_id) for job_id in jobs} == {JobStatus.COMPLETED}


def test_one_bad_record_leaves_the_others_alone() -> None:
    batch = Batch()
    good = batch.submitted()
    batch.queue.put(b"not json")
    broken = batch.submitted({**BODY, "seed": 7})

    def fail(request: ChatRequest) -> None:
        if request.seed == 7:
            raise RuntimeError("a bug")

    batch.model.before = fail
    assert len(batch.deliver()) == 2
    assert status(batch, good) is JobStatus.COMPLETED
    assert status(batch, broken) is JobStatus.QUEUED


# ---- repeated and out of order ----


def test_a_redelivery_after_completion_changes_nothing() -> None:
    batch = Batch()
    job_id = batch.submitted()
    [delivery] = batch.queue.receive()
    batch.worker.run([delivery], batch.clock.deadline())
    before = batch.jobs.items[job_id]
    batch.model.text = "another answer"
    batch.clock.advance(batch.queue.visibility_s)
    assert batch.deliver() == []
    assert batch.jobs.items[job_id] == before
    assert text(batch, job_id) == "an answer"
    assert len(batch.model.requests) == 1


def test_the_same_message_twice_in_one_batch_is_answered_once() -> None:
    batch = Batch()
    job_id = batch.submitted()
    [delivery] = batch.queue.receive()
    twin = msgspec.structs.replace(delivery, message_id="twin")
    batch.worker.run([delivery, twin], batch.clock.deadline())
    assert len(batch.model.requests) == 1
    assert status(batch, job_id) is JobStatus.COMPLETED


def test_while_another_worker_has_the_job_its_message_waits_for_the_lease() -> None:
    batch = Batch()
    job_id = batch.submitted()
    batch.jobs.claim(job_id, now=int(NOW), lease_until=int(NOW) + 40, final_attempt=False)
    batch.deliver()
    batch.clock.advance(40)
    assert batch.queue.receive() == []
    assert not batch.model.requests


def test_waiting_for_a_lease_never_uses_up_the_last_receive() -> None:
    batch = Batch()
    job_id = batch.submitted()
    batch.jobs.claim(job_id, now=int(NOW), lease_until=int(NOW) + 40, final_attempt=False)
    [delivery] = batch.queue.receive()
    last = msgspec.structs.replace(delivery, receive_count=ATTEMPTS)
    reported = batch.worker.run([last], batch.clock.deadline())
    batch.queue.acknowledge([last], except_for=reported)
    assert len(batch.queue.bodies) == 1  # a fresh message in place of the used-up one
    batch.clock.advance(41)
    batch.deliver()
    assert status(batch, job_id) is JobStatus.COMPLETED
    assert not batch.queue.dead_letters


def test_a_worker_that_was_given_up_cannot_overwrite_the_one_that_took_over() -> None:
    batch = Batch()
    job_id = batch.submitted()
    [slow] = batch.queue.receive()

    def overtaken(_: ChatRequest) -> None:
        batch.model.before = lambda _: None
        batch.clock.advance(batch.queue.visibility_s)
        batch.model.text = "the second worker's"
        batch.deliver()
        batch.model.text = "the slow worker's"

    batch.model.before = overtaken
    assert batch.worker.run([slow], batch.clock.deadline()) == [slow.message_id]
    assert text(batch, job_id) == "the second worker's"
    assert batch.jobs.items[job_id].attempts == 2


# ---- cut off and half written ----


def test_a_worker_that_dies_before_the_last_attempt_is_replaced_after_its_lease() -> None:
    batch = Batch()
    job_id = batch.submitted()
    batch.queue.receive()
    batch.jobs.claim(job_id, now=int(NOW), lease_until=int(NOW) + 75, final_attempt=False)
    assert status(batch, job_id) is JobStatus.IN_PROGRESS
    batch.clock.advance(batch.queue.visibility_s)
    assert batch.deliver() == []
    assert status(batch, job_id) is JobStatus.COMPLETED


def test_a_worker_that_dies_on_the_last_attempt_is_shown_as_failed_and_a_redrive_mends_it() -> None:
    batch = Batch()
    job_id = batch.submitted()
    batch.jobs.claim(job_id, now=int(NOW), lease_until=int(NOW) + 75, final_attempt=True)
    assert status(batch, job_id) is JobStatus.IN_PROGRESS
    batch.clock.advance(75)
    view = batch.reader.read(job_id, CALLER)
    assert view.status is JobStatus.FAILED
    assert view.error is not None
    assert view.error.code == "worker_lost"
    batch.deliver()
    view = batch.reader.read(job_id, CALLER)
    assert (view.status, view.error) == (JobStatus.COMPLETED, None)


def lost(batch: Batch) -> str:
    """A job whose worker dies on its last attempt, which the queue notices when the message is visible again."""
    job_id = batch.submitted()
    for _ in range(ATTEMPTS):
        batch.clock.advance(batch.queue.visibility_s)
        batch.queue.receive()
    now = int(batch.clock())
    batch.jobs.claim(job_id, now=now, lease_until=now + 75, final_attempt=True)
    return job_id


def test_a_reader_records_that_the_last_worker_was_lost() -> None:
    batch = Batch()
    job_id = lost(batch)
    batch.clock.advance(80)
    view = batch.reader.read(job_id, CALLER)
    stored = batch.jobs.items[job_id]
    assert (stored.status, stored.error, stored.permanent) == (JobStatus.FAILED, WORKER_LOST, False)
    assert view.job == stored
    batch.clock.advance(1000)
    assert batch.reader.read(job_id, CALLER) == view


def test_a_reader_that_comes_second_tells_what_the_first_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = Batch()
    job_id = lost(batch)
    batch.clock.advance(80)
    settle = batch.jobs.settle

    def overtaken(job: AsyncJob) -> None:
        now = int(batch.clock())
        batch.jobs.claim(job_id, now=now, lease_until=now + 75, final_attempt=False)  # a redrive
        settle(job)

    monkeypatch.setattr(batch.jobs, "settle", overtaken)
    view = batch.reader.read(job_id, CALLER)
    assert (view.status, view.error, view.job) == (JobStatus.IN_PROGRESS, None, batch.jobs.items[job_id])


def test_without_a_reader_the_receive_after_the_last_attempt_records_it() -> None:
    batch = Batch()
    job_id = lost(batch)
    batch.clock.advance(batch.queue.visibility_s)
    assert len(batch.deliver()) == 1
    stored = batch.jobs.items[job_id]
    assert (stored.status, stored.error) == (JobStatus.FAILED, WORKER_LOST)
    assert not batch.model.requests
    assert batch.queue.delays == [0]  # at once into the dead-letter queue
    batch.deliver()
    assert len(batch.queue.dead_letters) == 1
    batch.queue.redrive()
    batch.deliver_until_quiet()
    assert status(batch, job_id) is JobStatus.COMPLETED


def test_a_job_that_was_never_even_claimed_is_given_up_too() -> None:
    batch = Batch()
    job_id = batch.submitted()
    batch.jobs.failing["claim"] = StateError("down")
    batch.deliver_until_quiet()
    view = batch.reader.read(job_id, CALLER)
    assert (view.status, view.error, view.job.attempts) == (JobStatus.FAILED, NOT_ATTEMPTED, 0)
    assert len(batch.queue.dead_letters) == 1


def test_the_receive_after_the_last_attempt_leaves_what_is_recorded_alone() -> None:
    batch = Batch()
    job_id = batch.submitted()
    [delivery] = batch.queue.receive()
    extra = msgspec.structs.replace(delivery, receive_count=ATTEMPTS + 1)
    now = int(batch.clock())
    claim = batch.jobs.claim(job_id, now=now, lease_until=now + 40, final_attempt=False)
    # Another message's worker has it: this one must not end in the dead-letter queue meanwhile.
    assert batch.worker.run([extra], batch.clock.deadline()) == []
    assert len(batch.queue.bodies) == 2
    failed = claim.job.failed(WORKER_LOST, now=now, permanent=True)
    batch.jobs.settle(failed)
    assert batch.worker.run([extra], batch.clock.deadline()) == []
    assert batch.jobs.items[job_id] == failed


@pytest.mark.parametrize("lost_at", ["put", "settle"])
def test_an_answer_that_could_not_be_stored_is_asked_for_again(lost_at: str) -> None:
    """Cut off after the provider answered; after the object was stored, before the table knew."""
    batch = Batch()
    job_id = batch.submitted()

    def cut_off(_: ChatRequest) -> None:
        if lost_at == "put":
            batch.objects.failing = StateError("down")
        batch.jobs.failing["settle"] = StateError("down")

    batch.model.before = cut_off
    assert len(batch.deliver()) == 1
    assert batch.jobs.items[job_id].status is JobStatus.IN_PROGRESS

    batch.objects.failing = None
    batch.jobs.failing.clear()
    batch.model.before = lambda _: None
    batch.model.text = "the second answer"
    batch.deliver_until_quiet()
    assert text(batch, job_id) == "the second answer"
    assert not batch.queue.dead_letters


def test_a_worker_cut_off_before_its_acknowledgement_has_still_answered() -> None:
    batch = Batch()
    job_id = batch.submitted()
    batch.worker.run(batch.queue.receive(), batch.clock.deadline())  # the answer to SQS is lost
    batch.deliver_until_quiet()
    assert status(batch, job_id) is JobStatus.COMPLETED
    assert len(batch.model.requests) == 1


# ---- failures that pass ----


def test_a_passing_failure_puts_the_job_back_with_its_reason() -> None:
    batch = Batch()
    job_id = batch.submitted()
    batch.model.error = DOWN
    assert len(batch.deliver()) == 1
    job = batch.jobs.items[job_id]
    assert (job.status, job.attempts, job.lease_until) == (JobStatus.QUEUED, 1, None)
    assert job.error is not None
    assert job.error.code == "provider_unavailable"
    assert batch.reader.read(job_id, CALLER).error is None  # nothing has failed for good


def test_waits_grow_from_the_base_and_end_with_the_receives() -> None:
    batch = Batch()
    batch.submitted()
    batch.model.error = DOWN
    batch.deliver_until_quiet()
    assert batch.queue.delays == [2, 4, 8, 16, 0, 0]


def test_the_providers_own_retry_after_is_honoured() -> None:
    batch = Batch()
    batch.submitted()
    batch.model.error = ProviderThrottledError("Slow down.", target="bedrock/small", retry_after_s=33.2)
    batch.deliver()
    assert batch.queue.delays == [34]


def test_a_queue_that_cannot_delay_still_delivers_again() -> None:
    batch = Batch()
    job_id = batch.submitted()
    batch.model.error = DOWN
    batch.model.before = lambda _: setattr(batch.queue, "failing", StateError("down"))
    assert len(batch.deliver()) == 1
    batch.queue.failing, batch.model.error, batch.model.before = None, None, lambda _: None
    batch.deliver_until_quiet()
    assert status(batch, job_id) is JobStatus.COMPLETED


def test_a_poisoned_message_ends_in_the_dead_letter_queue_and_says_why() -> None:
    batch = Batch()
    job_id = batch.submitted()
    batch.model.error = DOWN
    batch.deliver_until_quiet()
    view = batch.reader.read(job_id, CALLER)
    assert (view.status, view.job.attempts) == (JobStatus.FAILED, 5)
    assert view.error is not None
    assert view.error.message == "The provider is down."
    assert [json.loads(body)["id"] for body in batch.queue.dead_letters] == [job_id]


def test_a_redrive_brings_a_failed_job_back() -> None:
    batch = Batch()
    job_id = batch.submitted()
    batch.model.error = DOWN
    batch.deliver_until_quiet()
    batch.model.error = None
    batch.queue.redrive()
    batch.deliver_until_quiet()
    view = batch.reader.read(job_id, CALLER)
    assert (view.status, view.error, view.job.attempts) == (JobStatus.COMPLETED, None, 6)


@pytest.mark.parametrize(
    "error",
    [
        ConfigurationError("The role may not call model 'x'."),
        ProviderAuthError("The provider refused the credentials.", target="bedrock/small"),
        RuntimeError("a bug that quotes a secret question"),
    ],
)
def test_what_an_operator_can_mend_waits_in_the_dead_letter_queue(error: Exception) -> None:
    batch = Batch()
    job_id = batch.submitted()
    batch.model.error = error
    batch.deliver_until_quiet()
    view = batch.reader.read(job_id, CALLER)
    assert view.status is JobStatus.FAILED
    assert view.error is not None
    assert "'x'" not in view.error.message
    assert "secret" not in view.error.message
    assert len(batch.queue.dead_letters) == 1


@pytest.mark.parametrize("body", [None, b"{"])
def test_a_request_that_cannot_be_read_back_waits_in_the_dead_letter_queue(body: bytes | None) -> None:
    batch = Batch()
    job_id = batch.submitted()
    key = batch.jobs.items[job_id].request_key
    original = batch.objects.bodies.pop(key)
    if body is not None:
        batch.objects.bodies[key] = body
    batch.deliver_until_quiet()
    view = batch.reader.read(job_id, CALLER)
    assert view.error is not None
    assert view.error.code == "request_unreadable"
    batch.objects.bodies[key] = original
    batch.queue.redrive()
    batch.deliver_until_quiet()
    assert status(batch, job_id) is JobStatus.COMPLETED


# ---- failures that stay ----


def test_a_request_the_model_refuses_fails_at_once_and_is_acknowledged() -> None:
    batch = Batch()
    job_id = batch.submitted()
    batch.model.error = ContextTooLongError("The prompt is too long.", target="bedrock/small")
    assert batch.deliver() == []
    view = batch.reader.read(job_id, CALLER)
    assert view.status is JobStatus.FAILED
    assert view.error is not None
    assert (view.error.code, view.error.type) == ("context_length_exceeded", "invalid_request_error")
    assert not batch.queue.bodies


def test_a_repeat_of_a_request_the_model_refused_changes_nothing() -> None:
    batch = Batch()
    job_id = batch.submitted()
    batch.model.error = ContextTooLongError("The prompt is too long.", target="bedrock/small")
    batch.worker.run(batch.queue.receive(), batch.clock.deadline())
    before = batch.jobs.items[job_id]
    batch.deliver_until_quiet()
    assert batch.jobs.items[job_id] == before
    assert len(batch.model.requests) == 1


@pytest.mark.parametrize("body", [b"not json", b"{}", b'{"id":"async_unknown","version":1}', b'{"id":1}', b"[]"])
def test_a_message_nobody_can_read_ends_in_the_dead_letter_queue(body: bytes) -> None:
    batch = Batch()
    batch.queue.put(body)
    batch.deliver_until_quiet()
    assert batch.queue.dead_letters == [body]


def test_a_message_about_an_unknown_job_ends_in_the_dead_letter_queue() -> None:
    batch = Batch()
    batch.queue.put(b'{"id":"async_00000000000000000000000000000000","version":1}')
    batch.deliver_until_quiet()
    assert len(batch.queue.dead_letters) == 1


def test_a_table_that_is_away_costs_receives_but_no_attempts() -> None:
    batch = Batch()
    job_id = batch.submitted()
    batch.jobs.failing["claim"] = StateError("down")
    assert len(batch.deliver()) == 1
    batch.jobs.failing.clear()
    batch.deliver_until_quiet()
    assert (status(batch, job_id), batch.jobs.items[job_id].attempts) == (JobStatus.COMPLETED, 1)


# ---- deadlines ----


def test_a_record_that_cannot_start_in_time_is_put_off_without_an_attempt() -> None:
    batch = Batch()
    batch.model.before = lambda _: batch.clock.advance(50)
    for _ in range(15):
        batch.submitted()
    reported = batch.deliver(seconds=60)
    assert reported
    put_off = [job for job in batch.jobs.items.values() if job.status is JobStatus.QUEUED]
    assert {job.attempts for job in put_off} <= {0}
    batch.model.before = lambda _: None
    batch.deliver_until_quiet()
    assert {job.status for job in batch.jobs.items.values()} == {JobStatus.COMPLETED}


def test_the_lease_outlives_the_function() -> None:
    batch = Batch()
    job_id = batch.submitted()
    seen: list[int | None] = []
    batch.model.before = lambda _: seen.append(batch.jobs.items[job_id].lease_until)
    batch.deliver(seconds=60)
    assert seen == [NOW + 60 + 15]


# ---- reading ----


def test_another_keys_job_an_expired_one_and_nonsense_all_look_the_same() -> None:
    batch = Batch()
    job_id = batch.submitted()
    other = msgspec.structs.replace(CALLER, key_id="key_2")
    messages = set()
    for asked, caller in [(job_id, other), ("async_" + "0" * 32, CALLER), ("../../etc", CALLER)]:
        with pytest.raises(NotFoundError) as caught:
            batch.reader.read(asked, caller)
        messages.add(caught.value.message)
    batch.clock.advance(30 * 86_400)
    with pytest.raises(NotFoundError) as caught:
        batch.reader.read(job_id, CALLER)
    assert messages == {caught.value.message}


def test_an_answer_that_cannot_be_read_is_an_error_of_ours() -> None:
    batch = Batch()
    job_id = batch.submitted()
    batch.deliver()
    batch.objects.bodies.clear()
    with pytest.raises(StateError):
        batch.reader.read(job_id, CALLER)


# ---- the key, as it is when the work is done ----


def limited(batch: Batch, **limits: Any) -> None:
    """Give the key limits after its jobs were accepted, and let what is known of it be forgotten."""
    batch.keys.stored[KEY.key_hash] = msgspec.structs.replace(KEY, limits=Limits(**limits))
    batch.clock.advance(61)


def assert_settled(batch: Batch) -> None:
    standing = batch.ledger.standing(KEY.id, NO_LIMITS)
    assert (batch.ledger.open_holds(KEY.id), standing.total_held_micro_usd) == (0, ZERO)
    assert standing.total_spent_micro_usd == sum((entry.cost_micro_usd or ZERO for entry in batch.log.entries), ZERO)
    assert standing.requests == len(batch.log.entries)


@pytest.mark.parametrize("change", [{"revoked_at": 5}, {"expires_at": int(NOW)}], ids=["revoked", "expired"])
def test_a_key_that_is_not_valid_any_more_gets_nothing_done(change: dict[str, Any]) -> None:
    batch = Batch()
    job_id = batch.submitted()
    batch.keys.stored[KEY.key_hash] = msgspec.structs.replace(KEY, **change)
    assert batch.deliver() == []
    view = batch.reader.read(job_id, CALLER)
    assert view.status is JobStatus.FAILED
    assert view.error is not None
    assert (view.error.code, batch.model.requests, batch.log.entries) == ("invalid_api_key", [], [])


def test_a_key_that_is_not_seen_at_first_is_looked_for_again() -> None:
    batch = Batch()
    job_id = batch.submitted()
    batch.keys.unseen = {KEY.key_hash}
    assert len(batch.deliver()) == 1
    batch.keys.unseen.clear()
    batch.deliver_until_quiet()
    assert status(batch, job_id) is JobStatus.COMPLETED


def test_a_key_that_is_really_gone_uses_up_the_attempts() -> None:
    batch = Batch()
    job_id = batch.submitted()
    batch.keys.stored.clear()
    batch.deliver_until_quiet()
    view = batch.reader.read(job_id, CALLER)
    assert view.error is not None
    assert (view.status, view.error.code) == (JobStatus.FAILED, "key_unreadable")
    assert (len(batch.queue.dead_letters), batch.model.requests, batch.log.entries) == (1, [], [])


def test_models_that_were_taken_from_the_key_are_not_asked() -> None:
    batch = Batch()
    job_id = batch.submitted()
    batch.keys.stored[KEY.key_hash] = msgspec.structs.replace(KEY, allowed_models=("other",))
    batch.deliver()
    view = batch.reader.read(job_id, CALLER)
    assert view.error is not None
    assert (view.error.code, batch.model.requests) == ("permission_denied", [])


def test_a_key_that_cannot_be_read_is_tried_again() -> None:
    batch = Batch()
    job_id = batch.submitted()
    batch.keys.failing = StateError("down")
    assert len(batch.deliver()) == 1
    batch.keys.failing = None
    batch.deliver_until_quiet()
    assert status(batch, job_id) is JobStatus.COMPLETED


def test_every_attempt_is_held_and_settled() -> None:
    batch = Batch()
    batch.submitted()
    batch.model.error = DOWN
    batch.deliver()
    batch.model.error = None
    batch.deliver_until_quiet()
    assert batch.ledger.calls["reserve"] == batch.ledger.calls["settle"] == 2
    assert_settled(batch)


# ---- limits ----


def test_a_job_over_its_rate_waits_for_the_next_minute() -> None:
    batch = Batch()
    limited(batch, rpm=1)
    first, second = batch.submitted(), batch.submitted()
    at = batch.clock()
    assert batch.deliver() == []
    stands = {status(batch, job_id) for job_id in (first, second)}
    assert stands == {JobStatus.COMPLETED, JobStatus.QUEUED}
    [waiting] = [job for job in batch.jobs.items.values() if job.status is JobStatus.QUEUED]
    assert batch.reader.read(waiting.id, CALLER).error is None
    batch.clock.time = 60 * (at // 60 + 1) - 0.5
    assert batch.queue.receive() == []
    batch.clock.advance(2)
    batch.deliver()
    assert status(batch, waiting.id) is JobStatus.COMPLETED
    assert len(batch.model.requests) == 2
    assert_settled(batch)


def test_however_long_the_queue_nothing_is_lost_and_the_rate_is_kept() -> None:
    batch = Batch()
    batch.worker = dataclasses.replace(batch.worker, jitter=random.Random(5).uniform)
    limited(batch, rpm=7)
    jobs = [batch.submitted() for _ in range(150)]
    started: Counter[int] = Counter()
    batch.model.before = lambda _: started.update([int(batch.clock() // 60)])
    for _ in range(1_000):
        batch.deliver()
        batch.clock.advance(7)
        if not batch.queue.bodies:
            break
    assert {status(batch, job_id) for job_id in jobs} == {JobStatus.COMPLETED}
    assert max(started.values()) == 7
    assert not batch.queue.dead_letters
    assert_settled(batch)


def test_waiting_uses_up_no_attempt() -> None:
    batch = Batch()
    limited(batch, rpm=1)
    job_id = batch.submitted()
    for _ in range(3 * ATTEMPTS):
        batch.ledger.reserve(KEY.id, Limits(rpm=1), Ask(), until=batch.clock() + 1)
        batch.deliver()
        assert status(batch, job_id) is JobStatus.QUEUED
        batch.clock.advance(960 - batch.clock() % 60)
    batch.model.error = DOWN
    for attempt in range(1, ATTEMPTS + 1):
        assert status(batch, job_id) is JobStatus.QUEUED
        batch.deliver()
        assert len(batch.model.requests) == attempt
        batch.clock.advance(60)
    assert status(batch, job_id) is JobStatus.FAILED
    for _ in range(2 * ATTEMPTS):
        batch.deliver()
    assert [json.loads(body)["id"] for body in batch.queue.dead_letters] == [job_id]
    assert len(batch.model.requests) == ATTEMPTS


def test_attempts_before_a_wait_are_not_forgotten() -> None:
    batch = Batch()
    job_id = batch.submitted()
    batch.model.error = DOWN
    for _ in range(ATTEMPTS - 1):
        batch.deliver()
        batch.clock.advance(60)
    limited(batch, rpm=1)
    batch.ledger.reserve(KEY.id, Limits(rpm=1), Ask(), until=batch.clock() + 1)
    batch.deliver()
    assert status(batch, job_id) is JobStatus.QUEUED
    batch.clock.advance(120)
    batch.deliver()
    assert (status(batch, job_id), len(batch.model.requests)) == (JobStatus.FAILED, ATTEMPTS)


def test_what_was_put_off_can_still_be_redriven() -> None:
    batch = Batch()
    job_id = batch.submitted()
    batch.model.error = DOWN
    limited(batch, rpm=1)
    batch.ledger.reserve(KEY.id, Limits(rpm=1), Ask(), until=batch.clock() + 1)
    batch.deliver()
    for _ in range(4 * ATTEMPTS):
        batch.clock.advance(60)
        batch.deliver()
    assert len(batch.queue.dead_letters) == 1
    batch.model.error = None
    batch.queue.redrive()
    batch.clock.advance(60)
    batch.deliver()
    assert status(batch, job_id) is JobStatus.COMPLETED


def test_a_budget_that_is_spent_fails_the_job_for_good() -> None:
    batch = Batch()
    limited(batch, total_budget_micro_usd=Decimal(1))
    job_id = batch.submitted()
    assert batch.deliver() == []
    view = batch.reader.read(job_id, CALLER)
    assert view.error is not None
    assert (view.status, view.error.code, view.job.permanent) == (JobStatus.FAILED, "insufficient_quota", True)
    assert (batch.queue.bodies, batch.log.entries) == ([], [])


def test_money_that_others_only_hold_is_waited_for() -> None:
    batch = Batch()
    limited(batch, total_budget_micro_usd=Decimal(20_000))
    jobs = [batch.submitted() for _ in range(10)]
    together = threading.Event()

    def hold(_: ChatRequest) -> None:
        # As long as it takes for the others to find the budget held.
        together.wait(timeout=0.2)

    batch.model.before = hold
    assert batch.deliver() == []
    assert batch.queue.bodies
    batch.model.before = lambda _: None
    batch.deliver_until_quiet()
    assert {status(batch, job_id) for job_id in jobs} == {JobStatus.COMPLETED}
    assert_settled(batch)


# ---- cancelled ----


def test_a_cancelled_job_is_never_begun() -> None:
    batch = Batch()
    job_id = batch.submitted()
    cancelled = batch.reader.cancel(job_id, CALLER)
    assert cancelled.status is JobStatus.CANCELLED
    batch.deliver_until_quiet()
    assert not batch.model.requests
    assert batch.reader.read(job_id, CALLER) == cancelled


@pytest.mark.parametrize("error", [None, DOWN, ContextTooLongError("Too long.", target="bedrock/small")])
@pytest.mark.parametrize("last", [False, True])
def test_what_a_worker_does_with_a_job_that_is_cancelled_meanwhile_is_dropped_and_its_message_acknowledged(
    error: Exception | None, last: bool
) -> None:
    batch = Batch()
    job_id = batch.submitted()

    def cancel(_: ChatRequest) -> None:
        assert batch.reader.cancel(job_id, CALLER).status is JobStatus.CANCELLED

    batch.model.before, batch.model.error = cancel, error
    [delivery] = batch.queue.receive()
    if last:
        delivery = msgspec.structs.replace(delivery, receive_count=ATTEMPTS)
    assert batch.worker.run([delivery], batch.clock.deadline()) == []
    view = batch.reader.read(job_id, CALLER)
    assert (view.status, view.answer, view.error) == (JobStatus.CANCELLED, None, None)
    # The model has answered, so it is billed, and whoever cancelled is told how much.
    assert view.job.cost_micro_usd == (None if error else Decimal("4.00"))
    assert [entry.cost_micro_usd for entry in batch.log.entries] == [None if error else Decimal("4.00")]
    assert not batch.reasons.reasons


def test_a_failed_job_that_was_redriven_can_be_cancelled_before_it_is_begun_again() -> None:
    batch = Batch()
    job_id = batch.submitted()
    batch.model.error = DOWN
    batch.deliver_until_quiet()
    with pytest.raises(ConflictError) as refused:
        batch.reader.cancel(job_id, CALLER)
    assert refused.value.code == "already_ended"


# ---- any route ----


def test_an_answer_is_the_document_of_its_own_route() -> None:
    batch = Batch()
    job_id = batch.submitted({"model": "auto", "prompt": "What?"}, endpoint="/v1/chat")
    batch.deliver_until_quiet()
    answer = batch.reader.read(job_id, CALLER).answer
    assert answer is not None
    assert json.loads(answer)["response"] == "an answer"


def test_an_answer_that_could_not_be_fetched_fails_for_good_and_says_what_it_cost() -> None:
    batch = Batch()
    job_id = batch.submitted()
    batch.model.text = "x" * MOST_ANSWER_BYTES
    batch.deliver_until_quiet()
    view = batch.reader.read(job_id, CALLER)
    assert view.error is not None
    assert (view.status, view.error.code) == (JobStatus.FAILED, "answer_too_large")
    assert (view.job.cost_micro_usd, view.job.permanent) == (Decimal("4.00"), True)
    assert len(batch.model.requests) == 1
    assert not batch.queue.dead_letters


def test_an_answer_is_forgotten_when_its_own_time_is_over() -> None:
    batch = Batch()
    body = json.dumps(BODY).encode()
    job_id = batch.submit.submit("/v1/chat/completions", body, CALLER, result_ttl_s=600).id
    batch.clock.advance(10_000)  # waiting does not count
    batch.deliver_until_quiet()
    batch.clock.advance(599)
    assert text(batch, job_id) == "an answer"
    batch.clock.advance(1)
    with pytest.raises(NotFoundError):
        batch.reader.read(job_id, CALLER)
