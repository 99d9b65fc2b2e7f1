"""Custom ids: who has been there before, exactly, in little memory."""

import pytest

from sluice.domain.custom_ids import REGION_BYTES, REGION_NAMES, CustomIds, Region

LINE = 100


def test_what_was_never_added_has_no_look_alike_among_many() -> None:
    ids = CustomIds("batch_1")
    for number in range(20_000):
        assert not ids.look_alikes(f"line-{number}", at=number * LINE)
        ids.add(f"line-{number}", at=number * LINE)
    assert len(ids) == 20_000
    assert all(ids.look_alikes(f"line-{number}", at=20_000 * LINE) for number in range(20_000))


def test_a_look_alike_is_in_the_region_that_is_told() -> None:
    ids = CustomIds("batch_1")
    for number in range(5_000):
        ids.add(f"line-{number}", at=number * LINE)
    end = 5_000 * LINE
    for number in (0, 1, REGION_NAMES - 1, REGION_NAMES, 3_333, 4_999):
        [region] = ids.look_alikes(f"line-{number}", at=end)
        assert region.start <= number * LINE < region.end <= end
        assert region.end - region.start <= REGION_NAMES * LINE


def test_a_region_of_long_lines_is_no_larger_than_one_line_more() -> None:
    ids = CustomIds("batch_1")
    long = REGION_BYTES * 3 // 4
    for number in range(10):
        ids.add(f"line-{number}", at=number * long)
    assert ids.look_alikes("line-0", at=10 * long) == [Region(0, 2 * long)]
    assert ids.look_alikes("line-1", at=10 * long) == [Region(0, 2 * long)]
    assert ids.look_alikes("line-9", at=10 * long) == [Region(8 * long, 10 * long)]


def test_different_names_of_one_fingerprint_are_all_told() -> None:
    ids = CustomIds("batch_1", fingerprint=lambda _: 42)
    ids.add("one", at=0)
    ids.add("two", at=2 * REGION_BYTES)
    found = ids.look_alikes("three", at=3 * REGION_BYTES)
    assert found == [Region(0, 2 * REGION_BYTES), Region(2 * REGION_BYTES, 3 * REGION_BYTES)]


def test_fingerprints_of_one_batch_say_nothing_of_another_s() -> None:
    one, other = CustomIds("batch_1"), CustomIds("batch_2")
    one.add("name", at=0)
    other.add("name", at=0)
    assert one.saved() != other.saved()


def test_a_name_may_hold_half_a_surrogate_pair() -> None:
    ids = CustomIds("batch_1")
    ids.add("\ud800", at=0)
    assert ids.look_alikes("\ud800", at=LINE)


def test_what_is_saved_in_parts_is_restored_whole() -> None:
    ids, copy = CustomIds("batch_1"), CustomIds("batch_1")
    for number in range(3_000):
        ids.add(f"line-{number}", at=number * LINE)
    first = ids.saved()
    for number in range(3_000, 7_000):
        ids.add(f"line-{number}", at=number * LINE)
    copy.restore(first, ids.marks())
    copy.restore(ids.saved(since=3_000), ids.marks())
    end = 7_000 * LINE
    for number in range(0, 7_000, 13):
        assert copy.look_alikes(f"line-{number}", at=end) == ids.look_alikes(f"line-{number}", at=end) != []
    assert not copy.look_alikes("line-7000", at=end)
    for each in (ids, copy):
        each.add("line-7000", at=end)
    assert copy.saved() == ids.saved()
    assert copy.marks() == ids.marks()


@pytest.mark.parametrize("names", [88_000, 175_000])
def test_memory_is_less_than_24_bytes_a_name(names: int) -> None:
    ids = CustomIds("batch_1", fingerprint=lambda name: int(name) * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF)
    for number in range(names):
        ids.add(str(number), at=number * LINE)
    assert ids.memory_bytes / names < 24
