from sluice.domain.deadline import Deadline
from sluice.testing.clock import FakeClock


def test_what_is_left_shrinks_with_time_and_never_goes_below_zero() -> None:
    clock = FakeClock()
    deadline = Deadline.after(5, clock)
    clock.advance(2)
    assert deadline.remaining_s() == 3
    assert not deadline.expired
    clock.advance(10)
    assert deadline.remaining_s() == 0
    assert deadline.expired


def test_a_part_of_the_work_gets_its_share_or_what_is_left() -> None:
    clock = FakeClock()
    deadline = Deadline.after(5, clock)
    assert deadline.within(3) == 3
    clock.advance(4)
    assert deadline.within(3) == 1
