"""Parquet files of embeddings, judged by another implementation's reader (parquet-cpp, through pyarrow)."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet as reader
from pyarrow import table

from sluice.adapters import thrift_compact
from sluice.adapters.parquet import ParquetError, PartWriter, merge
from sluice.adapters.thrift_compact import MalformedError
from sluice.domain.ports import Piece
from sluice.testing.objects import FakeObjects
from sluice.testing.ranges import FakeRanges

Row = dict[str, Any]


def row(number: int, *, dimensions: int = 4, tokens: int | None = 3) -> Row:
    return {
        "custom_id": f"línea-{number}",
        "index": number % 3,
        "embedding": [single(number + at / 10) for at in range(dimensions)],
        "prompt_tokens": tokens,
        "model": "in-process/static-embeddings",
    }


def single(number: float) -> float:
    """The nearest number of 32 bits."""
    (nearest,) = struct.unpack("<f", struct.pack("<f", number))
    return float(nearest)


def part(rows: Sequence[Row]) -> bytes:
    writer = PartWriter()
    for each in rows:
        writer.add(**each)
    assert writer.rows == len(rows)
    return writer.finish()


def read(content: bytes) -> list[Row]:
    rows: list[Row] = reader.read_table(io.BytesIO(content), page_checksum_verification=True).to_pylist()
    return rows


class Store:
    """Objects, and what is asked of them."""

    def __init__(self, *contents: bytes) -> None:
        self.objects = FakeObjects()
        self._ranges = FakeRanges(self.objects)
        self.fetched = 0
        self.parts = [(f"parts/{number:08}", len(content)) for number, content in enumerate(contents)]
        for (key, _), content in zip(self.parts, contents, strict=True):
            self.objects.put(key, content)

    def read_range(self, key: str, start: int, end: int) -> bytes:
        self.fetched += end - start
        return self._ranges.read_range(key, start, end)

    def merged(self) -> bytes:
        pieces = merge(self.parts, self.read_range)
        assert all(piece.size == len(self._content(piece)) for piece in pieces)
        return b"".join(map(self._content, pieces))

    def _content(self, piece: Piece) -> bytes:
        if piece.key is None:
            return piece.literal
        return self._ranges.read_range(piece.key, piece.start, piece.start + piece.size)


@pytest.mark.parametrize("count", [1, 2, 1023, 1024, 1025, 2500])
def test_what_is_written_is_what_others_read(count: int) -> None:
    rows = [row(number, tokens=None if number % 5 == 0 else number) for number in range(count)]
    assert read(part(rows)) == rows


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "custom_id": st.text(max_size=20),
                "index": st.integers(0, 2047),
                "embedding": st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=9),
                "prompt_tokens": st.none() | st.integers(0, 2**40),
                "model": st.text(min_size=1, max_size=5),
            }
        ),
        max_size=30,
    ),
    st.integers(0, 30),
)
@settings(max_examples=60, deadline=None)
def test_whatever_the_rows_hold_and_wherever_they_are_cut(rows: list[Row], cut: int) -> None:
    assert Store(part(rows[:cut]), part(rows[cut:])).merged() == Store(part(rows[:cut]), part(rows[cut:])).merged()
    assert read(part(rows)) == rows
    assert read(Store(part(rows[:cut]), part(rows[cut:])).merged()) == rows


def test_the_columns_are_what_the_documentation_says() -> None:
    schema = reader.read_schema(io.BytesIO(part([row(1)])))
    assert [(field.name, str(field.type), field.nullable) for field in schema] == [
        ("custom_id", "string", False),
        ("index", "int32", False),
        ("embedding", "list<element: float not null>", False),
        ("prompt_tokens", "int64", True),
        ("model", "string", False),
    ]


def test_vectors_may_be_of_different_lengths() -> None:
    rows = [row(number, dimensions=1 + number % 256) for number in range(600)]
    assert read(part(rows)) == rows


def test_a_row_takes_its_numbers_and_little_more() -> None:
    writer = PartWriter()
    for number in range(3000):
        writer.add(**row(number, dimensions=256))
    content = writer.finish()
    assert len(content) < 3000 * (256 * 4 + 30)
    assert writer.size == pytest.approx(len(content), rel=0.05)


def test_a_damaged_page_is_noticed_by_its_checksum() -> None:
    content = bytearray(part([row(number, dimensions=256) for number in range(50)]))
    content[20_000] ^= 1
    with pytest.raises(OSError, match="CRC"):
        read(bytes(content))


def test_parts_become_one_file_in_their_order() -> None:
    rows = [row(number) for number in range(3000)]
    store = Store(part(rows[:1]), part(rows[1:2100]), part(rows[2100:]))
    merged = store.merged()
    assert read(merged) == rows
    metadata = reader.read_metadata(io.BytesIO(merged))
    assert (metadata.num_rows, metadata.num_row_groups) == (3000, 3)
    # Each row group can be read by itself, as engines do that share the work.
    assert reader.ParquetFile(io.BytesIO(merged)).read_row_group(2).to_pylist() == rows[2100:]


def test_only_the_ends_of_the_parts_are_fetched() -> None:
    rows = [row(number, dimensions=256) for number in range(2000)]
    store = Store(part(rows[:1000]), part(rows[1000:]))
    assert len(store.merged()) > 2_000_000
    assert store.fetched <= 2 * 4096


def test_no_parts_are_an_empty_file_with_columns() -> None:
    store = Store()
    assert read(store.merged()) == []
    assert read(part([])) == []
    assert read(Store(part([]), part([row(1)])).merged()) == [row(1)]


def test_what_was_merged_can_be_merged_again() -> None:
    rows = [row(number) for number in range(300)]
    # Two hundred row groups make a footer that does not come along with the first bytes fetched.
    whole = Store(*(part([each]) for each in rows[:200])).merged()
    store = Store(part(rows[200:]), whole)
    assert read(store.merged()) == rows[200:] + rows[:200]
    assert store.fetched > 2 * 4096


def test_files_of_other_writers_are_merged_as_well() -> None:
    contents = []
    for first in (0, 100, 200):
        file = io.BytesIO()
        columns = {"number": list(range(first, first + 100)), "text": ["x" * (first % 7)] * 100}
        reader.write_table(table(columns), file, write_page_index=True, row_group_size=30, use_dictionary=True)
        contents.append(file.getvalue())
    merged = Store(*contents).merged()
    assert [each["number"] for each in read(merged)] == list(range(300))


def test_parts_of_other_columns_are_refused() -> None:
    file = io.BytesIO()
    reader.write_table(table({"number": [1]}), file)
    with pytest.raises(ParquetError, match="parts/00000001 has other columns"):
        Store(part([row(1)]), file.getvalue()).merged()


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:8],
        lambda content: content[:-1],
        lambda content: content[:-8] + (10**6).to_bytes(4, "little") + b"PAR1",
        lambda content: content[:-8] + (3).to_bytes(4, "little") + b"PAR1",
        lambda content: content[:-8] + (0).to_bytes(4, "little") + b"PAR1",
        lambda content: content[:-60] + b"\xff" * 52 + content[-8:],
    ],
)
def test_a_damaged_part_is_refused(damage: Any) -> None:
    with pytest.raises(ParquetError, match="parts/00000000"):
        Store(damage(part([row(1)]))).merged()


# Thrift's compact protocol.


@pytest.mark.parametrize("number", [0, 1, -1, 63, 64, -64, -65, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63)])
def test_integers_of_every_size_survive(number: int) -> None:
    fields = {1: thrift_compact.i64(number), 300: thrift_compact.i16(7)}
    assert thrift_compact.decode(thrift_compact.encode(fields)) == fields


def test_every_kind_of_value_survives() -> None:
    kind = thrift_compact.Kind
    fields = {
        1: thrift_compact.Value(kind.TRUE, value=True),
        2: thrift_compact.Value(kind.FALSE, value=False),
        3: thrift_compact.Value(kind.BYTE, -5),
        4: thrift_compact.Value(kind.DOUBLE, struct.pack("<d", 1.5)),
        5: thrift_compact.string("é"),
        40: thrift_compact.items(kind.I32, list(range(20))),
        41: thrift_compact.items(kind.TRUE, [True, False]),
        42: thrift_compact.items(kind.STRUCT, [{1: thrift_compact.struct({2: thrift_compact.i32(1)})}]),
    }
    assert thrift_compact.decode(thrift_compact.encode(fields)) == fields


def test_the_bytes_are_those_of_the_specification() -> None:
    # Field 1, i32, zigzag; field 2, binary; a step of 16 by its number in full; stop.
    fields = {1: thrift_compact.i32(-1), 2: thrift_compact.string("ab"), 18: thrift_compact.i64(150)}
    assert thrift_compact.encode(fields) == b"\x15\x01\x18\x02ab\x06\x24\xac\x02\x00"


@pytest.mark.parametrize(
    "content",
    [b"", b"\x15", b"\x18\x05ab", b"\x1b\x00", b"\x19\xf5\xff\xff\xff\x0f", b"\x1c" * 100, b"\x15" + b"\xff" * 3],
)
def test_what_is_no_struct_is_refused(content: bytes) -> None:
    with pytest.raises(MalformedError):
        thrift_compact.decode(content)
