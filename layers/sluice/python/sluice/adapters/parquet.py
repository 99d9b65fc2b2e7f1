"""Embeddings as Parquet: files written row by row, and files joined without reading their rows again.

The format: https://parquet.apache.org/docs/file-format/. A file is a magic number, row groups, and a footer that says
where each column of each row group begins. So the row groups of several files behind each other, with a footer whose
offsets are shifted, are one file again (docs/adr/0032): the parts of a batch are copied inside S3, and only their
footers are ever fetched.

One row is one vector: of a line with several inputs there are several rows, told apart by ``index``.
"""

import zlib
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from sys import byteorder
from typing import Final, NamedTuple

from sluice.adapters.thrift_compact import Kind, MalformedError, Struct, Value, decode, encode, i32, i64, items, string
from sluice.adapters.thrift_compact import struct as nested
from sluice.domain.ports import Piece

CONTENT_TYPE: Final = "application/vnd.apache.parquet"

_MAGIC: Final = b"PAR1"
# Behind the footer: its length in four bytes, and the magic number once more.
_TRAILER_BYTES: Final = 8
# What is fetched of a part at first: a footer of one row group is half a kilobyte.
_TAIL_BYTES: Final = 4096
_TAILS_AT_ONCE: Final = 8
# Rows of 256 numbers make a page of the size that Parquet's writers aim at, one megabyte.
_PAGE_ROWS: Final = 1024

# Parquet's own numbers: https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift.
_INT32, _INT64, _FLOAT, _BYTE_ARRAY = 1, 2, 4, 6
_REQUIRED, _OPTIONAL, _REPEATED = 0, 1, 2
_UTF8, _LIST = 0, 3
_PLAIN, _RLE = 0, 3
_UNCOMPRESSED, _GZIP = 0, 2
_DATA_PAGE = 0
_GZIP_WINDOW: Final = 31
# Fields of FileMetaData, RowGroup, ColumnChunk and ColumnMetaData that the joining looks at.
_SCHEMA, _ROWS, _ROW_GROUPS = 2, 3, 4
_COLUMNS, _GROUP_OFFSET, _ORDINAL = 1, 5, 7
_CHUNK_OFFSET, _COLUMN = 2, 3
# Offsets of the pages of data, of an index and of a dictionary.
_PAGE_OFFSETS: Final = (9, 10, 11)
# Offsets of other structures, which readers do without; the new footer does not mention them.
_INDEX_OFFSETS: Final = (4, 5, 6, 7)
_BLOOM_FILTER: Final = (14, 15)


class ParquetError(ValueError):
    """A file is no Parquet file, is damaged, or does not go with the others."""


def _leaf(name: str, kind: int, repetition: int, *, text: bool = False) -> Struct:
    # Field 6 is how older readers, field 10 (a union, whose member 1 is STRING) how newer ones know a text.
    described = {6: i32(_UTF8), 10: nested({1: nested({})})} if text else {}
    return {1: i32(kind), 3: i32(repetition), 4: string(name), **described}


def _group(name: str, children: int, repetition: int, *, is_list: bool = False) -> Struct:
    described = {6: i32(_LIST), 10: nested({3: nested({})})} if is_list else {}
    return {3: i32(repetition), 4: string(name), 5: i32(children), **described}


_FILE_SCHEMA: Final = items(
    Kind.STRUCT,
    [
        {4: string("schema"), 5: i32(5)},
        _leaf("custom_id", _BYTE_ARRAY, _REQUIRED, text=True),
        _leaf("index", _INT32, _REQUIRED),
        _group("embedding", 1, _REQUIRED, is_list=True),
        _group("list", 1, _REPEATED),
        _leaf("element", _FLOAT, _REQUIRED),
        _leaf("prompt_tokens", _INT64, _OPTIONAL),
        _leaf("model", _BYTE_ARRAY, _REQUIRED, text=True),
    ],
)


class _Page(NamedTuple):
    """The rows of one page, by column, as they will be written."""

    rows: int
    custom_ids: bytes
    indexes: bytes
    sizes: Sequence[int]
    numbers: bytes
    tokens: Sequence[int | None]
    models: bytes


class _Column(NamedTuple):
    path: tuple[str, ...]
    kind: int
    codec: int
    # The values in a page (of a list: its members), and the page's levels and values.
    members: Callable[[_Page], int]
    body: Callable[[_Page], bytes]


class PartWriter:
    """Takes rows, and makes a Parquet file of one row group of them. Memory: what the file takes. For one thread."""

    def __init__(self) -> None:
        self.rows = 0
        self._pages: list[_Page] = []
        self._packed = 0
        self._begin_page()

    @property
    def size(self) -> int:
        """About the size of the file in bytes, as far as it has come."""
        return self._packed + len(self._custom_ids) + len(self._numbers)

    def add(
        self, *, custom_id: str, index: int, embedding: Sequence[float], prompt_tokens: int | None, model: str
    ) -> None:
        """One vector, of at least one number. ``prompt_tokens`` are those of its input, where that is known."""
        self._custom_ids += _text(custom_id)
        self._indexes += index.to_bytes(4, "little")
        self._numbers += _floats(embedding)
        self._sizes.append(len(embedding))
        self._tokens.append(prompt_tokens)
        self._models += _text(model)
        self.rows += 1
        if len(self._sizes) == _PAGE_ROWS:
            self._end_page()

    def finish(self) -> bytes:
        """The whole file."""
        if self._sizes:
            self._end_page()
        out = bytearray(_MAGIC)
        chunks = [_write_column(out, column, self._pages) for column in _COLUMNS_WRITTEN] if self.rows else []
        groups = [_row_group(chunks, self.rows)] if chunks else []
        out += _footer({_SCHEMA: _FILE_SCHEMA}, groups, self.rows)
        return bytes(out)

    def _begin_page(self) -> None:
        self._custom_ids, self._indexes, self._numbers, self._models = (bytearray() for _ in range(4))
        self._sizes: list[int] = []
        self._tokens: list[int | None] = []

    def _end_page(self) -> None:
        page = _Page(
            rows=len(self._sizes),
            custom_ids=bytes(self._custom_ids),
            indexes=bytes(self._indexes),
            sizes=self._sizes,
            numbers=bytes(self._numbers),
            tokens=self._tokens,
            models=bytes(self._models),
        )
        self._pages.append(page)
        self._packed += len(page.custom_ids) + len(page.numbers)
        self._begin_page()


def _text(value: str) -> bytes:
    encoded = value.encode()
    return len(encoded).to_bytes(4, "little") + encoded


def _floats(values: Sequence[float]) -> bytes:
    packed = array("f", values)
    if byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _run(count: int, level: int) -> bytes:
    """So many times the same level, in the RLE of Parquet's levels."""
    return _varint(count << 1) + bytes([level])


def _levels(runs: bytes) -> bytes:
    return len(runs).to_bytes(4, "little") + runs


def _embedding_body(page: _Page) -> bytes:
    # The first number of a row begins a list (0), the others go on with it (1); none of them is missing.
    repeated = b"".join(_run(1, 0) + (_run(size - 1, 1) if size > 1 else b"") for size in page.sizes)
    return _levels(repeated) + _levels(_run(sum(page.sizes), 1)) + page.numbers


def _tokens_body(page: _Page) -> bytes:
    known = b"".join(_run(1, int(tokens is not None)) for tokens in page.tokens)
    return _levels(known) + b"".join(tokens.to_bytes(8, "little") for tokens in page.tokens if tokens is not None)


def _rows_of(page: _Page) -> int:
    return page.rows


# Numbers of a vector do not get shorter by compressing them; the other columns all but vanish.
_COLUMNS_WRITTEN: Final = (
    _Column(("custom_id",), _BYTE_ARRAY, _GZIP, _rows_of, lambda page: page.custom_ids),
    _Column(("index",), _INT32, _GZIP, _rows_of, lambda page: page.indexes),
    _Column(("embedding", "list", "element"), _FLOAT, _UNCOMPRESSED, lambda page: sum(page.sizes), _embedding_body),
    _Column(("prompt_tokens",), _INT64, _GZIP, _rows_of, _tokens_body),
    _Column(("model",), _BYTE_ARRAY, _GZIP, _rows_of, lambda page: page.models),
)


def _write_column(out: bytearray, column: _Column, pages: Sequence[_Page]) -> Struct:
    """Append a column's pages to ``out``; where and what they are, as a ColumnChunk."""
    start, uncompressed = len(out), 0
    for page in pages:
        body = column.body(page)
        packed = _compressed(body) if column.codec == _GZIP else body
        header = _page_header(len(body), packed, column.members(page))
        uncompressed += len(header) + len(body)
        out += header
        out += packed
    described = {
        1: i32(column.kind),
        2: items(Kind.I32, [_PLAIN, _RLE]),
        3: items(Kind.BINARY, [name.encode() for name in column.path]),
        4: i32(column.codec),
        5: i64(sum(map(column.members, pages))),
        6: i64(uncompressed),
        7: i64(len(out) - start),
        9: i64(start),
    }
    return {_CHUNK_OFFSET: i64(0), _COLUMN: nested(described)}


def _compressed(body: bytes) -> bytes:
    packing = zlib.compressobj(wbits=_GZIP_WINDOW)
    return packing.compress(body) + packing.flush()


def _page_header(uncompressed: int, packed: bytes, count: int) -> bytes:
    checksum = zlib.crc32(packed)
    data_page = {1: i32(count), 2: i32(_PLAIN), 3: i32(_RLE), 4: i32(_RLE)}
    header = {
        1: i32(_DATA_PAGE),
        2: i32(uncompressed),
        3: i32(len(packed)),
        4: i32(checksum - (1 << 32) if checksum >> 31 else checksum),
        5: nested(data_page),
    }
    return encode(header)


def _row_group(chunks: Sequence[Struct], rows: int) -> Struct:
    columns = [chunk[_COLUMN].value for chunk in chunks]
    return {
        _COLUMNS: items(Kind.STRUCT, chunks),
        2: i64(sum(column[6].value for column in columns)),
        3: i64(rows),
        _GROUP_OFFSET: i64(columns[0][9].value),
        6: i64(sum(column[7].value for column in columns)),
    }


def _footer(schema: Struct, groups: Sequence[Struct], rows: int) -> bytes:
    """The end of a file: its metadata, their length, and the magic number."""
    metadata = encode(
        {**schema, 1: i32(1), _ROWS: i64(rows), _ROW_GROUPS: items(Kind.STRUCT, groups), 6: string("sluice")}
    )
    return metadata + len(metadata).to_bytes(4, "little") + _MAGIC


class _PartFooter(NamedTuple):
    """What is known of a file: its metadata, and where its row groups end."""

    metadata: Mapping[int, Value]
    data_end: int


def merge(parts: Sequence[tuple[str, int]], read_range: Callable[[str, int, int], bytes]) -> list[Piece]:
    """One file of several: the pieces it is made of, for a :class:`~sluice.domain.ports.Composer`.

    ``parts`` are keys and sizes in bytes of Parquet files of equal columns; the rows keep their order.
    ``read_range`` (a RangeStore's) is asked for the ends of the files, of several at a time.

    :raises NotFoundError: a part is not there.
    :raises ParquetError: one is damaged, or of other columns than the first.
    """
    with ThreadPoolExecutor(_TAILS_AT_ONCE) as readers:
        footers = list(readers.map(lambda part: _read_footer(part[0], part[1], read_range), parts))
    pieces = [Piece(key=None, size=len(_MAGIC), literal=_MAGIC)]
    groups: list[Struct] = []
    schema = footers[0].metadata[_SCHEMA] if footers else _FILE_SCHEMA
    position, rows = len(_MAGIC), 0
    for (key, _), footer in zip(parts, footers, strict=True):
        if footer.metadata[_SCHEMA] != schema:
            raise ParquetError(f"{key} has other columns than the parts before it.")
        size = footer.data_end - len(_MAGIC)
        pieces.append(Piece(key=key, size=size, start=len(_MAGIC)))
        groups += [_shifted(group, position - len(_MAGIC)) for group in footer.metadata[_ROW_GROUPS].value.values]
        position += size
        rows += footer.metadata[_ROWS].value
    end = _footer({_SCHEMA: schema}, groups, rows)
    return [*pieces, Piece(key=None, size=len(end), literal=end)]


def _read_footer(key: str, size: int, read_range: Callable[[str, int, int], bytes]) -> _PartFooter:
    if size < len(_MAGIC) + _TRAILER_BYTES:
        raise ParquetError(f"{key} is too short for a Parquet file.")
    tail = read_range(key, max(0, size - _TAIL_BYTES), size)
    length = int.from_bytes(tail[-_TRAILER_BYTES : -len(_MAGIC)], "little")
    data_end = size - _TRAILER_BYTES - length
    if not tail.endswith(_MAGIC) or data_end < len(_MAGIC):
        raise ParquetError(f"{key} is no Parquet file.")
    if length + _TRAILER_BYTES > len(tail):
        tail = read_range(key, data_end, size)
    try:
        metadata = decode(tail[len(tail) - _TRAILER_BYTES - length : -_TRAILER_BYTES])
    except MalformedError as exc:
        raise ParquetError(f"The footer of {key} is damaged.") from exc
    if not {_SCHEMA, _ROWS, _ROW_GROUPS} <= metadata.keys():
        raise ParquetError(f"The footer of {key} is damaged.")
    return _PartFooter(metadata, data_end)


def _shifted(group: Struct, by: int) -> Struct:
    """A row group that lies ``by`` bytes further back than it says."""
    chunks = [_shifted_chunk(chunk, by) for chunk in group[_COLUMNS].value.values]
    # An ordinal counts the row groups of one file; it may be left out.
    kept = {number: value for number, value in group.items() if number != _ORDINAL}
    return {**kept, **_moved(kept, (_GROUP_OFFSET,), by), _COLUMNS: items(Kind.STRUCT, chunks)}


def _shifted_chunk(chunk: Struct, by: int) -> Struct:
    column: Struct = chunk[_COLUMN].value
    described = {number: value for number, value in column.items() if number not in _BLOOM_FILTER}
    kept = {number: value for number, value in chunk.items() if number not in _INDEX_OFFSETS}
    # 0 is what the format asks to be written where the metadata is not repeated beside the data.
    offset = {_CHUNK_OFFSET: i64(kept[_CHUNK_OFFSET].value + by)} if kept[_CHUNK_OFFSET].value else {}
    return {**kept, **offset, _COLUMN: nested({**described, **_moved(described, _PAGE_OFFSETS, by)})}


def _moved(fields: Struct, numbers: Sequence[int], by: int) -> dict[int, Value]:
    return dict(_moving(fields, numbers, by))


def _moving(fields: Struct, numbers: Sequence[int], by: int) -> Iterator[tuple[int, Value]]:
    for number in numbers:
        if number in fields:
            yield number, i64(fields[number].value + by)
