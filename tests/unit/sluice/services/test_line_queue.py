"""Which line is run next."""

from __future__ import annotations

import threading
import time

from sluice.domain.inference import EmbeddingRequest, Operation
from sluice.domain.tasks import Task
from sluice.services.line_queue import MOST_IDLE_S, Line, LineQueue, Unit
from sluice.testing.clock import FakeClock


def unit(place: int, model: str = "a") -> Unit:
    request = EmbeddingRequest(model=model, inputs=("x",))
    task = Task(endpoint="/v1/embeddings", operation=Operation.EMBED, request=request, asked=None)
    return Unit(lines=(Line(place=place, number=place + 1, custom_id=str(place), task=task),))


def queue(*units: Unit, most: int = 4, start_by: float = 10_000.0, clock: FakeClock | None = None) -> LineQueue:
    return LineQueue(units, most=lambda _: most, start_by=start_by, clock=clock or FakeClock())


def places(found: Unit | None) -> int | None:
    return None if found is None else found.lines[0].place


def take(from_queue: LineQueue) -> Unit:
    found = from_queue.take()
    assert found is not None
    return found


def test_units_come_in_order_and_then_none() -> None:
    lines = queue(unit(0), unit(1))
    first, second = take(lines), take(lines)
    assert (places(first), places(second)) == (0, 1)
    lines.done(first, answered=True)
    lines.done(second, answered=True)
    assert lines.take() is None
    assert lines.wait_s() is None


def test_a_closed_lane_lets_the_others_go_on() -> None:
    clock = FakeClock()
    lines = queue(unit(0, "a"), unit(1, "b"), clock=clock)
    lines.close("a", for_s=5)
    assert places(lines.take()) == 1
    clock.advance(5)
    assert places(lines.take()) == 0


def test_what_is_put_back_comes_after_its_wait() -> None:
    clock = FakeClock()
    lines = queue(unit(0), unit(1), clock=clock)
    first = take(lines)
    lines.put_back(first, after_s=3)
    lines.done(take(lines), answered=True)
    assert lines.wait_s() == 3
    clock.advance(3)
    assert places(lines.take()) == 0


def test_nobody_sits_and_waits_for_long() -> None:
    clock = FakeClock()
    lines = queue(unit(0), clock=clock)
    lines.close("a", for_s=MOST_IDLE_S + 1)
    assert lines.take() is None
    assert lines.wait_s() == MOST_IDLE_S + 1


def test_nothing_begins_after_its_time() -> None:
    clock = FakeClock()
    lines = queue(unit(0), start_by=clock() + 1, clock=clock)
    clock.advance(1)
    assert lines.take() is None
    assert lines.late
    assert lines.wait_s() == 0


def test_a_wait_that_outlasts_the_time_to_begin_is_not_waited_for() -> None:
    clock = FakeClock()
    lines = queue(unit(0), start_by=clock() + 4, clock=clock)
    lines.put_back(take(lines), after_s=5)
    assert lines.take() is None


def test_a_throttle_halves_what_may_be_under_way_and_answers_bring_it_back() -> None:
    clock = FakeClock()
    lines = queue(*map(unit, range(40)), most=4, clock=clock)
    taken = [take(lines) for _ in range(4)]
    lines.close("a", for_s=1)
    lines.close("a", for_s=1)
    for each in taken:
        lines.put_back(each)
    clock.advance(1)
    two = [take(lines) for _ in range(2)]
    at_limit = threading.Thread(target=lambda: lines.put_back(take(lines)))
    at_limit.start()
    time.sleep(0.05)
    assert at_limit.is_alive()
    for each in two:
        lines.done(each, answered=True)
    at_limit.join(timeout=5)
    assert not at_limit.is_alive()
    assert len([take(lines) for _ in range(3)]) == 3


def test_whoever_waits_is_told_when_something_comes_back() -> None:
    lines = LineQueue([unit(0)], most=lambda _: 4, start_by=time.monotonic() + 60)
    held = take(lines)
    found: list[int | None] = []
    waiter = threading.Thread(target=lambda: found.append(places(lines.take())))
    waiter.start()
    lines.put_back(held, after_s=0.05)
    waiter.join(timeout=5)
    assert found == [0]


def test_the_last_unit_that_is_done_lets_everybody_go() -> None:
    lines = LineQueue([unit(0)], most=lambda _: 4, start_by=time.monotonic() + 60)
    held = take(lines)
    found: list[int | None] = []
    waiters = [threading.Thread(target=lambda: found.append(places(lines.take()))) for _ in range(3)]
    for waiter in waiters:
        waiter.start()
    lines.done(held, answered=True)
    for waiter in waiters:
        waiter.join(timeout=5)
    assert found == [None, None, None]


def test_a_unit_can_be_taken_apart() -> None:
    lines = queue(unit(9))
    whole = take(lines)
    lines.replace(whole, [unit(0), unit(1)])
    assert [places(lines.take()) for _ in range(2)] == [0, 1]


def test_what_was_tried_and_is_left_is_told() -> None:
    lines = queue(unit(0), unit(1))
    held = take(lines)
    lines.put_back(held)
    assert not lines.tried()
    held.tries = 1
    assert lines.tried()


def test_stopping_ends_every_wait() -> None:
    lines = LineQueue([unit(0)], most=lambda _: 1, start_by=time.monotonic() + 60)
    take(lines)
    waiter = threading.Thread(target=lines.take)
    waiter.start()
    lines.stop()
    waiter.join(timeout=5)
    assert not waiter.is_alive()
