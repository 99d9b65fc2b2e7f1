"""Lines of a file: where they are, whatever the blocks that it comes in."""

import itertools
import random

import pytest

from sluice.domain.batch_lines import Line, lines_of, requests_in

LONGEST = 20


def cut(content: bytes, size: int) -> list[bytes]:
    return [content[start : start + size] for start in range(0, len(content), size)]


def found(content: bytes, *, block: int = 7, longest: int = LONGEST) -> list[Line]:
    return list(lines_of(cut(content, block), longest=longest))


@pytest.mark.parametrize("block", [1, 2, 3, 5, 64])
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", []),
        (b"a\nbc\n", [(1, 0, 2, b"a"), (2, 2, 5, b"bc")]),
        (b"a\nbc", [(1, 0, 2, b"a"), (2, 2, 4, b"bc")]),
        (b"a\r\nbc\r\n", [(1, 0, 3, b"a"), (2, 3, 7, b"bc")]),
        (b"\xef\xbb\xbfa\nb\n", [(1, 0, 5, b"a"), (2, 5, 7, b"b")]),
        (b"\xef\xbb\xbf\n", [(1, 0, 4, b"")]),
        (b"\n \t\r\na", [(1, 0, 1, b""), (2, 1, 5, b""), (3, 5, 6, b"a")]),
        (b"a\rb\n", [(1, 0, 4, b"a\rb")]),
    ],
    ids=["empty", "plain", "no final newline", "CRLF", "BOM", "BOM only", "blank lines", "a lone CR is no line's end"],
)
def test_lines_are_the_same_whatever_the_blocks(
    content: bytes, expected: list[tuple[int, int, int, bytes]], block: int
) -> None:
    assert [(line.number, line.start, line.end, line.content) for line in found(content, block=block)] == expected


@pytest.mark.parametrize("block", [1, 6, 20, 21, 1000])
@pytest.mark.parametrize("last", [b"\n", b""], ids=["newline", "end of file"])
def test_a_line_that_is_too_long_is_passed_over_and_the_next_is_where_it_should_be(block: int, last: bytes) -> None:
    content = b"one\n" + b"x" * (LONGEST + 1) + b"\n" + b"y" * LONGEST + last
    lines = found(content, block=block)
    assert [line.content for line in lines] == [b"one", None, b"y" * LONGEST]
    assert [(line.start, line.end) for line in lines] == [(0, 4), (4, 26), (26, len(content))]


def test_a_line_without_end_is_never_kept_whole() -> None:
    blocks = itertools.repeat(b"x" * 1_000, 10_000)
    [line] = lines_of(blocks, longest=5_000)
    assert (line.content, line.end) == (None, 10_000_000)


def test_reading_can_go_on_at_any_line() -> None:
    content = b"\xef\xbb\xbfone\n\ntwo\r\nthree"
    lines = found(content)
    for index, line in enumerate(lines):
        rest = lines_of([content[line.start :]], longest=LONGEST, start=line.start, number=line.number)
        assert list(rest) == lines[index:]


def test_the_requests_of_a_chunk_are_those_that_were_found_when_it_was_planned() -> None:
    dice = random.Random(6)
    ends = [b"\n", b"\r\n", b"\n\n", b" \n", b"\n\t\n"]
    content = b"\xef\xbb\xbf" + b"".join(b"{%d}" % number + dice.choice(ends) for number in range(200))
    asked = [line for line in found(content) if line.content]
    for first, last in itertools.combinations(range(0, 200, 17), 2):
        part = content[asked[first].start : asked[last].end]
        expected = [(line.number, line.content) for line in asked[first : last + 1]]
        assert list(requests_in(part, first_line=asked[first].number)) == expected
