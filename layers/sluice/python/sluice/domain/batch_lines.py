"""The lines of a batch's input: where one ends and the next begins, and what each of them asks for.

A line ends with a line feed, or with the file. A carriage return before that belongs to the line's end, a byte order
mark to nothing at all. Lines of white space only ask for nothing, but are counted all the same, so that the numbers are
those that an editor shows.
"""

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
LINE_FEED: Final = b"\n"


class LineRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One line, read: ``body`` is the JSON that ``method`` and ``url`` are to be asked with."""

    custom_id: str
    method: str
    url: str
    body: bytes


class Line(msgspec.Struct, frozen=True, gc=False):
    """One line of a file: its ``number`` (from 1), and its bytes ``start`` to ``end`` (exclusive), line feed and all.

    ``content`` is without what belongs to the line's end; it is ``None`` when it would be too long.
    """

    number: int
    start: int
    end: int
    content: bytes | None


def lines_of(blocks: Iterable[bytes], *, longest: int, start: int = 0, number: int = 1) -> Iterator[Line]:
    """The lines of a file that comes in ``blocks``, of which never more is kept than a block and a line.

    The first block begins at the byte ``start`` of the file, which is where its line ``number`` begins. A line of more
    than ``longest`` bytes is passed over without its content.
    """
    rest, skipped = b"", 0
    for block in blocks:
        *whole, tail = block.split(LINE_FEED)
        for piece in whole:
            line = rest + piece if rest else piece
            end = start + skipped + len(line) + 1
            yield Line(number, start, end, _content(line, number, skipped, longest))
            rest, skipped, start, number = b"", 0, end, number + 1
        rest += tail
        if len(rest) > longest:
            rest, skipped = b"", skipped + len(rest)
    if rest or skipped:
        yield Line(number, start, start + skipped + len(rest), _content(rest, number, skipped, longest))


def _content(line: bytes, number: int, skipped: int, longest: int) -> bytes | None:
    return None if skipped or len(line) > longest else _bare(line, number)


def requests_in(content: bytes, *, first_line: int) -> Iterator[tuple[int, bytes]]:
    """The lines of ``content`` that ask for something, with their numbers; the first of all lines is ``first_line``.

    ``content`` is made of whole lines, as those of a chunk are.
    """
    for number, line in enumerate(content.split(LINE_FEED), start=first_line):
        if bare := _bare(line, number):
            yield number, bare


def _bare(line: bytes, number: int) -> bytes:
    return (line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line).strip()
