"""Reads the header of a `.pyc` (PEP 552)."""

from __future__ import annotations

import _imp
import struct
from dataclasses import dataclass

_HEADER = struct.Struct("<4sI8s")
_UNCHECKED_HASH = 0b01
# `importlib.util.MAGIC_NUMBER` of the Lambda runtime's Python.
MAGIC_313 = (3571).to_bytes(2, "little") + b"\r\n"


@dataclass(frozen=True)
class Header:
    """`flags` is word 1; `source_hash` has a meaning only when its lowest bit is set."""

    magic: bytes
    flags: int
    source_hash: bytes


def header(pyc: bytes) -> Header:
    return Header(*_HEADER.unpack_from(pyc))


def problems(pyc: bytes, source: bytes, magic: bytes) -> list[str]:
    """Why an interpreter with `magic` on a read-only file system would not use `pyc` for `source` as it is."""
    found = header(pyc)
    complaints = []
    if found.magic != magic:
        complaints.append("compiled for another Python")
    if found.flags != _UNCHECKED_HASH:
        complaints.append(f"flags are {found.flags}, not those of an unchecked hash")
    # As `importlib.util.source_hash`, whose answer depends on the Python it is asked of.
    if found.source_hash != _imp.source_hash(int.from_bytes(magic, "little"), source):
        complaints.append("compiled from other source")
    return complaints
