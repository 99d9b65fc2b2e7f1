"""Every message ends acknowledged, or in the dead-letter queue with the reason why."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from sluice.domain.batches import ChunkPointer
from sluice.domain.deadline import Deadline
from sluice.domain.deliveries import Delivery, Unreadable
from sluice.domain.errors import (
    ConfigurationError,
    InvalidRequestError,
    LeasedError,
    ProviderThrottledError,
    StateError,
    WebhookError,
)
from sluice.services.consume import Consumer, Done, Later, Outcome
from sluice.testing.clock import FakeClock
from sluice.testing.dead_letters import FakeDeadLetterReasons
from sluice.testing.queues import FakeQueue

ATTEMPTS = 4
BATCH = "batch_" + "1" * 32
SECRET = "what a caller wrote"

Deliver = Delivery[ChunkPointer]
Found = Outcome[ChunkPointer]


class World:
    """A queue and its consumer; ``work`` is what its messages are for, ``give_up`` what is done in the end."""

    def __init__(self, **settings: Any) -> None:
        self.clock = FakeClock(1_000)
        self.queue = FakeQueue(ChunkPointer, clock=self.clock, max_receive_count=ATTEMPTS + 1)
        self.reasons = FakeDeadLetterReasons()
        self.concurrency = 1
        self.work: Callable[[Deliver], Found] = lambda _: Done()
        self.give_up: Callable[[Deliver], Found | None] | None = None
        self.attempts: list[tuple[int, bool]] = []
        self.consumer = Consumer(
            queue=self.queue,
            reasons=self.reasons,
            queue_name="chunks",
            max_receive_count=ATTEMPTS,
            retry_base_s=2,
            clock=self.clock,
            jitter=lambda _, high: high,
            **settings,
        )

    def send(self, chunk: int = 0, *, receives: int = 0) -> None:
        self.queue.send(ChunkPointer(batch_id=BATCH, chunk=chunk, receives=receives))

    def deliver(self, *, seconds: float = 60) -> list[str]:
        deliveries = self.queue.receive()
        deadline = Deadline.after(seconds, self.clock)
        kept = self.consumer.run(deliveries, self._work, deadline, give_up=self.give_up, concurrency=self.concurrency)
        self.queue.acknowledge(deliveries, except_for=kept)
        return kept

    def deliver_until_quiet(self) -> None:
        for _ in range(30):
            self.deliver()
            if not self.queue.bodies:
                return
            self.clock.advance(self.queue.visibility_s)
        raise AssertionError("The queue never became empty.")

    @property
    def told(self) -> list[tuple[str | None, str, str, int]]:
        found = self.reasons.of_queue("chunks", limit=100)
        return [(reason.subject, reason.code, reason.message, reason.receives) for reason in found]

    def _work(self, delivery: Deliver, last: bool) -> Found:
        self.attempts.append((delivery.tries, last))
        return self.work(delivery)


def failing(error: Exception) -> Callable[[Deliver], Found]:
    def work(_: Deliver) -> Found:
        raise error

    return work


DOWN = StateError("The table is not available.")


def test_what_is_done_is_acknowledged() -> None:
    world = World()
    world.send(3)
    assert world.deliver() == []
    assert (world.queue.bodies, world.attempts, world.told) == ([], [(1, False)], [])


def test_what_fails_comes_again_after_growing_waits_and_then_dies_with_its_reason() -> None:
    world = World()
    world.work = failing(DOWN)
    world.send(3)
    world.deliver_until_quiet()
    assert world.attempts == [(1, False), (2, False), (3, False), (4, True)]
    assert world.queue.delays == [2, 4, 8, 0, 0]
    assert len(world.queue.dead_letters) == 1
    assert world.told == [(f"{BATCH}/3", "state_unavailable", "The table is not available.", ATTEMPTS)]


@pytest.mark.parametrize(
    "error",
    [
        ProviderThrottledError("Slow down.", target="a/b", retry_after_s=33.2),
        WebhookError("Leave me alone.", retry_after_s=33.2),
    ],
)
def test_whoever_wants_to_be_left_alone_is(error: Exception) -> None:
    world = World()
    world.work = failing(error)
    world.send()
    world.deliver()
    assert world.queue.delays == [34]


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (RuntimeError(SECRET), "internal_error", "RuntimeError: see the log."),
        (InvalidRequestError(SECRET, code="unknown_field"), "unknown_field", "The work was refused."),
        (ConfigurationError("The role may not."), "misconfigured", "The role may not."),
    ],
)
def test_a_reason_quotes_nothing_that_a_caller_wrote(error: Exception, code: str, message: str) -> None:
    world = World()
    world.work = failing(error)
    world.send()
    world.deliver_until_quiet()
    assert world.told == [(f"{BATCH}/0", code, message, ATTEMPTS)]


def test_one_bad_record_leaves_the_others_alone() -> None:
    world = World()
    world.concurrency = 5

    def work(delivery: Deliver) -> Found:
        if delivery.pointer.chunk == 2:
            raise RuntimeError("a bug")
        return Done()

    world.work = work
    for chunk in range(5):
        world.send(chunk)
    world.queue.put(b"not json")
    assert len(world.deliver()) == 2
    assert [body for body in world.queue.bodies if body != b"not json"] == [
        msgspec.json.encode(ChunkPointer(batch_id=BATCH, chunk=2))
    ]


def test_as_many_are_worked_on_side_by_side_as_was_asked_for() -> None:
    world = World()
    world.concurrency = 3
    together = threading.Barrier(3, timeout=10)
    world.work = lambda _: Done() if together.wait() >= 0 else Later(1)
    for chunk in range(6):
        world.send(chunk)
    assert world.deliver() == []


# ---- what is put off ----


def test_putting_off_never_uses_up_the_last_receive() -> None:
    world = World()
    world.work = lambda _: Later(7)
    world.send(3, receives=1)
    for _ in range(10):
        world.deliver()
        assert len(world.queue.bodies) == 1
        world.clock.advance(7)
    assert {count for count, _ in world.attempts} == {2, 3, 4}
    assert not world.queue.dead_letters
    world.work = lambda _: Done()
    world.deliver()
    assert not world.queue.bodies


def test_what_waits_for_long_is_replaced_and_uses_up_no_receive() -> None:
    world = World()
    world.work = lambda delivery: Later(30, instead=delivery.waited())
    world.send()
    for waits in range(1, 20):
        assert world.deliver() == []
        assert world.queue.pointers == [ChunkPointer(batch_id=BATCH, chunk=0, waits=waits)]
        assert world.queue.receive() == []
        world.clock.advance(30)
    assert {count for count, _ in world.attempts} == {1}


def test_attempts_before_a_wait_are_not_forgotten() -> None:
    world = World()
    world.work = failing(DOWN)
    world.send()
    world.deliver()
    world.clock.advance(2)
    world.work = lambda delivery: Later(1, instead=delivery.waited())
    world.deliver()
    assert world.queue.pointers == [ChunkPointer(batch_id=BATCH, chunk=0, receives=1, waits=1)]
    world.clock.advance(1)
    world.work = failing(DOWN)
    world.deliver_until_quiet()
    assert [count for count, _ in world.attempts] == [1, 2, 2, 3, 4]


def test_attempts_before_the_work_got_on_are_forgotten() -> None:
    world = World()
    world.work = lambda delivery: Later(1, instead=delivery.waited(got_on=True))
    world.send(receives=2)
    world.deliver()
    assert world.queue.pointers == [ChunkPointer(batch_id=BATCH, chunk=0, receives=0, waits=1)]
    world.clock.advance(1)
    world.work = failing(DOWN)
    world.deliver_until_quiet()
    assert [count for count, _ in world.attempts] == [3, 1, 2, 3, 4]


def test_no_wait_is_longer_than_a_queue_can_delay() -> None:
    world = World()
    world.work = lambda _: Later(5_000)
    world.send()
    world.deliver()
    assert world.queue.delays == [900]


def test_what_somebody_else_has_waits_for_the_lease_and_that_is_no_attempt() -> None:
    world = World()
    world.send()
    for _ in range(8):
        world.work = failing(LeasedError(lease_until=int(world.clock()) + 40))
        assert world.deliver() == []
        world.clock.advance(40)
        assert world.queue.receive() == []
        world.clock.advance(1)
    [delivery] = world.queue.receive()
    assert delivery.tries == 1


def test_a_record_that_cannot_start_in_time_is_put_off_without_an_attempt() -> None:
    world = World(start_needs_s=20)

    def work(_: Deliver) -> Found:
        world.clock.advance(50)
        return Done()

    world.work = work
    world.send(0)
    world.send(1)
    assert len(world.deliver(seconds=60)) == 1
    assert len(world.attempts) == 1
    assert world.queue.delays == [5]
    world.clock.advance(5)
    world.deliver(seconds=10)
    assert len(world.attempts) == 2


def test_a_message_that_cannot_be_replaced_is_kept() -> None:
    world = World()

    def work(delivery: Deliver) -> Found:
        world.queue.failing = StateError("down")
        return Later(1, instead=delivery.waited())

    world.work = work
    world.send()
    assert len(world.deliver()) == 1
    world.queue.failing, world.work = None, lambda _: Done()
    world.deliver_until_quiet()
    assert world.attempts == [(1, False), (2, False)]


# ---- the receive after the last attempt ----


def lost(world: World) -> None:
    """A message whose worker dies on every attempt."""
    world.send(3)
    for _ in range(ATTEMPTS):
        world.queue.receive()
        world.clock.advance(world.queue.visibility_s)


def test_who_dies_on_the_last_attempt_is_told_by_the_next_receive() -> None:
    world = World()
    given_up: list[int] = []
    world.give_up = lambda delivery: given_up.append(delivery.pointer.chunk)
    lost(world)
    assert len(world.deliver()) == 1
    assert (given_up, world.attempts, world.queue.delays) == ([3], [], [0])
    [(subject, code, _, receives)] = world.told
    assert (subject, code, receives) == (f"{BATCH}/3", "worker_lost", ATTEMPTS + 1)
    world.deliver()
    assert len(world.queue.dead_letters) == 1


def test_without_anything_to_give_up_the_reason_is_told_all_the_same() -> None:
    world = World()
    lost(world)
    world.deliver()
    assert [code for _, code, _, _ in world.told] == ["worker_lost"]


def test_giving_up_that_fails_is_the_reason_then() -> None:
    world = World()
    world.give_up = failing(DOWN)
    lost(world)
    world.deliver_until_quiet()
    assert [code for _, code, _, _ in world.told] == ["state_unavailable"]
    assert len(world.queue.dead_letters) == 1


@pytest.mark.parametrize("last", [Done(), LeasedError(lease_until=10_000), Later(5)])
def test_what_is_found_to_be_in_order_after_all_is_no_dead_letter(last: Done | Later[ChunkPointer] | Exception) -> None:
    world = World()
    world.work = failing(DOWN)
    world.send()
    for _ in range(ATTEMPTS):
        world.deliver()
        world.clock.advance(60)
    assert len(world.told) == 1

    def give_up(_: Deliver) -> Found:
        if isinstance(last, Exception):
            raise last
        return last

    world.give_up = give_up
    assert world.deliver() == []
    assert (world.told, world.queue.dead_letters) == ([], [])
    assert len(world.queue.bodies) == (0 if isinstance(last, Done) else 1)


@pytest.mark.parametrize("body", [b"not json", b"{}", b'{"batch_id":"nonsense","chunk":0}', b"[]"])
def test_a_message_nobody_can_read_is_a_dead_letter_at_once(body: bytes) -> None:
    world = World()
    world.queue.put(body)
    for _ in range(ATTEMPTS + 2):
        world.deliver()
    assert world.queue.dead_letters == [body]
    assert [(subject, code) for subject, code, _, _ in world.told] == [(None, "unreadable_message")]
    assert not world.attempts


def test_a_table_that_is_away_keeps_no_message_from_its_dead_letter_queue() -> None:
    world = World()
    world.work = failing(DOWN)
    world.reasons.failing = DOWN
    world.give_up = failing(DOWN)
    world.send()
    world.deliver_until_quiet()
    assert len(world.queue.dead_letters) == 1


def test_what_is_redriven_begins_anew() -> None:
    world = World()
    world.work = failing(DOWN)
    world.send()
    world.deliver_until_quiet()
    world.work = lambda _: Done()
    world.queue.redrive()
    world.deliver()
    assert world.queue.bodies == []


def test_a_queue_that_cannot_delay_still_delivers_again() -> None:
    world = World()

    def work(_: Deliver) -> Found:
        world.queue.failing = StateError("down")
        raise DOWN

    world.work = work
    world.send()
    assert len(world.deliver()) == 1
    world.queue.failing, world.work = None, lambda _: Done()
    world.deliver_until_quiet()
    assert not world.queue.dead_letters


def test_every_record_has_a_canonical_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    world = World()
    world.work = failing(DOWN)
    world.send(3)
    world.queue.put(b"not json")
    world.deliver()
    lines = [msgspec.json.decode(line) for line in capsys.readouterr().out.splitlines()]
    records = [line for line in lines if line["event"] == "chunks.record"]
    assert [(line.get("subject"), line["acknowledged"]) for line in records] == [(f"{BATCH}/3", False), (None, False)]
    assert records[0]["error_code"] == "state_unavailable"


def test_an_unreadable_message_has_tries_as_well() -> None:
    assert Unreadable(message_id="1", receipt_handle="1", receive_count=3).tries == 3
