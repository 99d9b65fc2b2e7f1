"""How fast batches go at one target."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sluice.domain.pace import FREE, LONGEST_PAUSE_S, Pace, holder_of

NOW = 1_000.0
MOST = 4


def taken(pace: Pace, holder: str, *, now: float = NOW) -> Pace | None:
    return pace.taken_by(holder, until=int(now) + 60, now=now, most=MOST)


def left(pace: Pace, holder: str, *, clean: bool, now: float = NOW) -> Pace:
    """Without the slot that the holder had."""
    without = pace.left_by(holder, clean=clean, now=now, most=MOST)
    assert without is not None
    return without


def full() -> Pace:
    pace = FREE
    for number in range(MOST):
        following = taken(pace, f"holder-{number}")
        assert following is not None
        pace = following
    return pace


def test_there_are_so_many_slots_and_no_more() -> None:
    assert taken(full(), "one more") is None


def test_a_holder_takes_its_own_slot_again() -> None:
    again = taken(full(), "holder-2")
    assert again is not None
    assert len(again.slots) == MOST


def test_a_slot_that_was_left_can_be_taken() -> None:
    pace = left(full(), "holder-1", clean=True)
    assert taken(pace, "one more") is not None


def test_an_attempt_takes_over_the_slot_of_the_one_before_which_has_none_to_leave_then() -> None:
    first, second = holder_of("batch_1/7", 1), holder_of("batch_1/7", 2)
    other = holder_of("batch_1/71", 1)
    pace = Pace(slots={first: int(NOW) + 60, other: int(NOW) + 60}, limit=2)
    pace = taken(pace, second) or pace
    assert pace.slots.keys() == {second, other}
    assert pace.left_by(first, clean=True, now=NOW, most=MOST) is None
    assert left(pace, second, clean=True).slots.keys() == {other}


def test_a_slot_that_was_named_by_its_chunk_alone_is_taken_over_as_well() -> None:
    pace = taken(Pace(slots={"batch_1/7": int(NOW) + 60}), holder_of("batch_1/7", 3))
    assert pace is not None
    assert pace.slots.keys() == {holder_of("batch_1/7", 3)}


def test_the_slot_of_a_worker_that_died_lapses() -> None:
    later = taken(full(), "one more", now=NOW + 60)
    assert later is not None
    assert set(later.slots) == {"one more"}


def test_a_throttle_halves_the_limit_and_clean_chunks_raise_it_one_by_one() -> None:
    pace = FREE.throttled(until=NOW + 1, now=NOW, most=MOST)
    assert pace is not None
    assert pace.limit == 2
    pace = Pace(slots={"x": int(NOW) + 60, "y": int(NOW) + 60}, limit=pace.limit)
    pace = left(pace, "x", clean=True)
    assert pace.limit == 3
    assert left(pace, "y", clean=True).limit is None
    assert left(pace, "y", clean=False).limit == 3


def test_one_wave_of_throttles_halves_it_once() -> None:
    pace = FREE.throttled(until=NOW + 1, now=NOW, most=MOST)
    assert pace is not None
    assert pace.throttled(until=NOW + 1, now=NOW + 0.5, most=MOST) is None
    longer = pace.throttled(until=NOW + 3, now=NOW + 0.5, most=MOST)
    assert longer is not None
    assert (longer.limit, longer.paused_until) == (2, NOW + 3)
    next_wave = longer.throttled(until=NOW + 9, now=NOW + 8, most=MOST)
    assert next_wave is not None
    assert next_wave.limit == 1


def test_a_pause_is_never_shortened_and_never_longer_than_the_longest() -> None:
    pace = Pace(paused_until=NOW + 50).throttled(until=NOW + 10, now=NOW, most=MOST)
    assert pace is not None
    assert pace.paused_s(NOW) == 50
    endless = FREE.throttled(until=NOW + 1e9, now=NOW, most=MOST)
    assert endless is not None
    assert endless.paused_s(NOW) == LONGEST_PAUSE_S
    assert endless.paused_s(NOW + 1e6) == 0


def test_a_limit_from_a_larger_deployment_is_held_to_this_one() -> None:
    assert Pace(limit=50).taken_by("x", until=2_000, now=NOW, most=0) is None


@given(st.lists(st.tuples(st.sampled_from(["take", "leave", "throttle"]), st.integers(0, 8), st.booleans())))
def test_the_limit_is_at_least_one_and_never_above_the_most(steps: list[tuple[str, int, bool]]) -> None:
    pace, now = FREE, NOW
    for step, number, clean in steps:
        now += 1
        match step:
            case "take":
                pace = taken(pace, str(number), now=now) or pace
            case "leave":
                pace = pace.left_by(str(number), clean=clean, now=now, most=MOST) or pace
            case _:
                pace = pace.throttled(until=now + number, now=now, most=MOST) or pace
        assert pace.limit is None or 1 <= pace.limit < MOST
        assert len(pace.slots) <= MOST
