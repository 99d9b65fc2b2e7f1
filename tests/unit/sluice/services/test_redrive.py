from __future__ import annotations

import pytest

from sluice.domain.audit import Administrator, AdminVerb
from sluice.domain.deadline import Deadline
from sluice.domain.errors import NotFoundError, StateError
from sluice.domain.redrive import DeadLetter, DeadLetterReason, Redriven
from sluice.services.redrive import MARGIN_S, Redrive
from sluice.testing.clock import FakeClock
from sluice.testing.dead_letters import FakeDeadLetterReasons, FakeDeadLetters
from sluice.testing.keys import FakeAudit

ADA = Administrator(actor="arn:aws:iam::000000000000:user/ada", request_id="request-1")


class World:
    def __init__(self, count: int, *, sent_at: float = 900) -> None:
        self.clock = FakeClock()
        letters = [letter(str(number), sent_at=sent_at) for number in range(count)]
        self.letters = FakeDeadLetters(*letters, now=self.clock)
        self.audit = FakeAudit()
        self.reasons = FakeDeadLetterReasons(*(reason(letter.message_id) for letter in letters))
        self._service = Redrive({"async": self.letters}, self.audit, self.reasons, self.clock)

    def redrive(self, name: str = "async", *, before_ms: int | None = None, seconds: float = 25) -> Redriven:
        deadline = Deadline.after(seconds, self.clock)
        return self._service.redrive(name, ADA, before_ms=before_ms, deadline=deadline)


def letter(handle: str, *, sent_at: float = 900) -> DeadLetter:
    return DeadLetter(
        message_id=f"message {handle}",
        handle=handle,
        body=f"body {handle}",
        sent_ms=int(sent_at * 1000),
        attributes={"x": handle},
    )


def reason(message_id: str, *, queue: str = "async") -> DeadLetterReason:
    return DeadLetterReason(queue=queue, message_id=message_id, subject=None, code="c", message="m", at=950, receives=6)


@pytest.mark.parametrize("count", [0, 1, 10, 23])
def test_every_letter_goes_back_as_it_was(count: int) -> None:
    world = World(count)
    letters = list(world.letters.dead)
    redriven = world.redrive()
    assert (redriven.moved, redriven.done, redriven.queue) == (count, True, "async")
    assert world.letters.sent == letters
    assert world.letters.dead == []


def test_who_moved_how_much_is_recorded() -> None:
    world = World(3)
    world.redrive()
    [action] = world.audit.actions
    assert (action.verb, action.subject, action.actor, action.at) == (
        AdminVerb.QUEUE_REDRIVEN,
        "async",
        ADA.actor,
        1_000,
    )
    assert action.changes == {"moved": "3"}


def test_nothing_moved_is_nothing_done() -> None:
    world = World(0)
    world.redrive()
    assert world.audit.actions == []


def test_what_fails_again_meanwhile_is_left_alone_and_visible() -> None:
    world = World(3)
    world.letters.dead.insert(0, letter("failed again", sent_at=1_002))
    redriven = world.redrive()
    assert (redriven.moved, redriven.done) == (3, True)
    assert [dead.handle for dead in world.letters.dead] == ["failed again"]
    assert world.letters.hidden.isdisjoint({"failed again"})


def test_a_large_queue_takes_several_requests_that_agree_on_when_it_began() -> None:
    world = World(30)
    world.letters.on_move = lambda: world.clock.advance(1)
    first = world.redrive(seconds=25)
    assert first.moved == 25 - MARGIN_S + 1
    assert not first.done
    # What was received and not moved is there for the next request.
    assert len(world.letters.hidden & {dead.handle for dead in world.letters.dead}) == 0
    world.letters.dead.append(letter("failed again", sent_at=world.clock()))
    second = world.redrive(before_ms=first.before_ms)
    assert (first.moved + second.moved, second.done, second.before_ms) == (30, True, first.before_ms)
    assert [dead.handle for dead in world.letters.dead] == ["failed again"]


def test_what_was_moved_before_a_failure_is_recorded_and_the_rest_stays() -> None:
    world = World(5)

    def fail_at_the_third() -> None:
        if len(world.letters.sent) == 2:
            world.letters.failing = StateError("The queue is not available.")

    world.letters.on_move = fail_at_the_third
    with pytest.raises(StateError):
        world.redrive()
    assert [action.changes for action in world.audit.actions] == [{"moved": "2"}]
    assert len(world.letters.dead) == 3


def test_the_reasons_for_what_is_moved_are_forgotten_and_no_others() -> None:
    world = World(3)
    late = letter("failed again", sent_at=1_002)
    world.letters.dead.insert(0, late)
    world.reasons.record(reason(late.message_id))
    world.reasons.record(reason("message 0", queue="chunks"))
    world.redrive()
    assert set(world.reasons.reasons) == {("async", late.message_id), ("chunks", "message 0")}


def test_a_reason_that_cannot_be_forgotten_stops_the_redrive_but_not_its_record() -> None:
    world = World(3)
    world.reasons.failing = StateError("The table is not available.")
    with pytest.raises(StateError):
        world.redrive()
    assert len(world.letters.sent) == 1
    assert [action.changes for action in world.audit.actions] == [{"moved": "1"}]


def test_an_unknown_queue_is_told_which_there_are() -> None:
    world = World(1)
    with pytest.raises(NotFoundError, match="async"):
        world.redrive("nonsense")
    assert world.letters.sent == []
