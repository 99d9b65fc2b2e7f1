"""Thrift's compact protocol, as far as Parquet's metadata needs it: structs, lists, integers, strings, booleans.

The format: https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md. A struct is a mapping of
field numbers to values, and every value knows its type, so what was read can be written again without knowing what it
means.
"""

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any, Final, NamedTuple

# Metadata of Parquet is four structs deep; whoever goes further down is no metadata.
_DEEPEST: Final = 32
# A field's number is told as the distance to the one before, up to this.
_LONGEST_STEP: Final = 15
_SHORT_LIST: Final = 15


class Kind(IntEnum):
    """Types, by their numbers in the protocol."""

    TRUE = 1
    FALSE = 2
    BYTE = 3
    I16 = 4
    I32 = 5
    I64 = 6
    DOUBLE = 7
    BINARY = 8
    LIST = 9
    STRUCT = 12


class Value(NamedTuple):
    """A value: int, bytes (of a string, or a double's eight), :class:`Items`, or a :data:`Struct`, by its ``kind``."""

    kind: Kind
    value: Any


class Items(NamedTuple):
    """A list: the kind of its members, and what they hold."""

    kind: Kind
    values: Sequence[Any]


Struct = Mapping[int, Value]


class MalformedError(ValueError):
    """These bytes are no struct in the compact protocol."""


def i16(value: int) -> Value:
    """A 16-bit integer."""
    return Value(Kind.I16, value)


def i32(value: int) -> Value:
    """A 32-bit integer, or a member of an enumeration."""
    return Value(Kind.I32, value)


def i64(value: int) -> Value:
    """A 64-bit integer."""
    return Value(Kind.I64, value)


def string(value: str) -> Value:
    """A text, in UTF-8."""
    return Value(Kind.BINARY, value.encode())


def struct(fields: Struct) -> Value:
    """A struct within another."""
    return Value(Kind.STRUCT, fields)


def items(kind: Kind, values: Sequence[Any]) -> Value:
    """A list of values that are all of one kind."""
    return Value(Kind.LIST, Items(kind, values))


def encode(fields: Struct) -> bytes:
    """The bytes of a struct."""
    out = bytearray()
    _write_struct(out, fields)
    return bytes(out)


def _write_struct(out: bytearray, fields: Struct) -> None:
    before = 0
    for number, (kind, value) in sorted(fields.items()):
        step = number - before
        if step <= _LONGEST_STEP:
            out.append(step << 4 | kind)
        else:
            out.append(kind)
            _write_varint(out, _zigzag(number))
        before = number
        _write(out, kind, value)
    out.append(0)


def _write(out: bytearray, kind: Kind, value: Any) -> None:
    match kind:
        case Kind.TRUE | Kind.FALSE:
            # Of a field, the kind itself is the value.
            pass
        case Kind.BYTE:
            out.append(value & 0xFF)
        case Kind.I16 | Kind.I32 | Kind.I64:
            _write_varint(out, _zigzag(value))
        case Kind.DOUBLE:
            out += value
        case Kind.BINARY:
            _write_varint(out, len(value))
            out += value
        case Kind.LIST:
            _write_list(out, value)
        case Kind.STRUCT:
            _write_struct(out, value)


def _write_list(out: bytearray, listed: Items) -> None:
    size = len(listed.values)
    if size < _SHORT_LIST:
        out.append(size << 4 | listed.kind)
    else:
        out.append(_SHORT_LIST << 4 | listed.kind)
        _write_varint(out, size)
    for value in listed.values:
        if listed.kind in {Kind.TRUE, Kind.FALSE}:
            out.append(Kind.TRUE if value else Kind.FALSE)
        else:
            _write(out, listed.kind, value)


def _zigzag(value: int) -> int:
    return value << 1 if value >= 0 else (-value << 1) - 1


def _write_varint(out: bytearray, value: int) -> None:
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def decode(content: bytes) -> dict[int, Value]:
    """The struct at the beginning of ``content``.

    :raises MalformedError: there is none, or not all of it.
    """
    try:
        return _Reader(content).struct(0)
    except IndexError as exc:
        raise MalformedError("The metadata ends too early.") from exc


class _Reader:
    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    def struct(self, depth: int) -> dict[int, Value]:
        if depth > _DEEPEST:
            raise MalformedError("The metadata is nested too deep.")
        fields: dict[int, Value] = {}
        number = 0
        while head := self._byte():
            step, kind = head >> 4, _kind(head & 0x0F)
            number = number + step if step else self._integer()
            fields[number] = Value(kind, self._value(kind, depth))
        return fields

    def _value(self, kind: Kind, depth: int) -> Any:
        if kind == Kind.STRUCT:
            return self.struct(depth + 1)
        if kind == Kind.LIST:
            return self._items(depth)
        return self._scalar(kind)

    def _scalar(self, kind: Kind) -> int | bool | bytes:
        match kind:
            case Kind.TRUE | Kind.FALSE:
                return kind == Kind.TRUE
            case Kind.BYTE:
                return int.from_bytes(self._take(1), signed=True)
            case Kind.DOUBLE:
                return self._take(8)
            case Kind.BINARY:
                return self._take(self._varint())
            case _:
                return self._integer()

    def _items(self, depth: int) -> Items:
        head = self._byte()
        size, kind = head >> 4, _kind(head & 0x0F)
        if size == _SHORT_LIST:
            size = self._varint()
        if size > len(self._content) - self._at:
            # No member is shorter than a byte.
            raise MalformedError("The metadata ends too early.")
        if kind in {Kind.TRUE, Kind.FALSE}:
            return Items(kind, [self._byte() == Kind.TRUE for _ in range(size)])
        return Items(kind, [self._value(kind, depth + 1) for _ in range(size)])

    def _byte(self) -> int:
        self._at += 1
        return self._content[self._at - 1]

    def _take(self, size: int) -> bytes:
        start, self._at = self._at, self._at + size
        if self._at > len(self._content):
            raise MalformedError("The metadata ends too early.")
        return self._content[start : self._at]

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def _integer(self) -> int:
        value = self._varint()
        return value >> 1 if not value & 1 else -((value + 1) >> 1)


def _kind(number: int) -> Kind:
    try:
        return Kind(number)
    except ValueError as exc:
        raise MalformedError(f"The metadata holds type {number}, which Parquet does not use.") from exc
