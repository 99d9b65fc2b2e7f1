"""How fast batches go at one target."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sluice.domain.pace import FREE, LONGEST_PAUSE_S, Pace

NOW = 1_000.0
MOST = 4


def taken(pace: Pace, holder: str, *, now: float = NOW) -> Pace | None:
    return pace.taken_by(holder, until=int(now) + 60, now=now, most=MOST)


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
    pace = full().left_by("holder-1", clean=True, now=NOW, most=MOST)
    assert taken(pace, "one more") is not None


def test_the_slot_of_a_worker_that_died_lapses() -> None:
    later = taken(full(), "one more", now=NOW + 60)
    assert later is not None
    assert set(later.slots) == {"one more"}


def test_a_throttle_halves_the_limit_and_clean_chunks_raise_it_one_by_one() -> None:
    pace = FREE.throttled(until=NOW + 1, now=NOW, most=MOST)
    assert pace is not None
    assert pace.limit == 2
    pace = pace.left_by("x", clean=True, now=NOW, most=MOST)
    assert pace.limit == 3
    assert pace.left_by("x", clean=True, now=NOW, most=MOST).limit is None
    assert pace.left_by("x", clean=False, now=NOW, most=MOST).limit == 3


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
                pace = pace.left_by(str(number), clean=clean, now=now, most=MOST)
            case _:
                pace = pace.throttled(until=now + number, now=now, most=MOST) or pace
        assert pace.limit is None or 1 <= pace.limit < MOST
        assert len(pace.slots) <= MOST
