"""Event stream frames, judged by botocore's parser and by the published example."""

from __future__ import annotations

import struct
from binascii import crc32
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.eventstream import ChecksumMismatch, EventStreamBuffer

from local.models import eventstream


def parse(data: bytes) -> list[tuple[dict[str, object], bytes]]:
    buffer = EventStreamBuffer()
    buffer.add_data(data)
    # The stubs take the buffer for an iterator of numbers.
    frames: Iterator[Any] = iter(buffer)
    return [(frame.headers, frame.payload) for frame in frames]


def test_an_event_is_read_back() -> None:
    data = eventstream.event("messageStart", b'{"role":"assistant"}') + eventstream.event("metadata", b"{}")
    names = {":message-type": "event", ":content-type": "application/json"}
    assert parse(data) == [
        ({**names, ":event-type": "messageStart"}, b'{"role":"assistant"}'),
        ({**names, ":event-type": "metadata"}, b"{}"),
    ]


def test_an_exception_is_told_from_an_event() -> None:
    ((headers, payload),) = parse(eventstream.exception("throttlingException", b'{"message":"slow"}'))
    assert headers[":message-type"] == "exception"
    assert headers[":exception-type"] == "throttlingException"
    assert payload == b'{"message":"slow"}'


def test_lengths_and_checksums_stand_where_the_format_puts_them() -> None:
    data = eventstream.frame({"a": "bc"}, b"xyz")
    assert data[8:12] == struct.pack("!I", crc32(data[:8]))
    assert data[12:19] == b"\x01a\x07\x00\x02bc"
    assert data[19:22] == b"xyz"
    assert struct.unpack("!III", data[:8] + data[-4:]) == (len(data), 7, crc32(data[:-4]))


@pytest.mark.parametrize("payload", [b"", "日本".encode(), b"x" * 100_000])
def test_any_payload_survives(payload: bytes) -> None:
    assert parse(eventstream.frame({":event-type": "ü"}, payload)) == [({":event-type": "ü"}, payload)]


def test_a_flipped_bit_is_noticed() -> None:
    data = bytearray(eventstream.event("metadata", b"{}"))
    data[-5] ^= 1
    with pytest.raises(ChecksumMismatch):
        parse(bytes(data))
