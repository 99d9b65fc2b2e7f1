"""Encoder of ``application/vnd.amazon.eventstream``, the framing of every AWS event stream.

A frame is: total length, header length, CRC-32 of these eight bytes, headers, payload, CRC-32 of
all before it; integers are big-endian and 32 bits wide. A header is: name length (1 byte), name,
type 7 (string), value length (2 bytes), value.
See https://smithy.io/2.0/aws/amazon-eventstream.html.
"""

from __future__ import annotations

import struct
from binascii import crc32
from collections.abc import Mapping

MEDIA_TYPE = "application/vnd.amazon.eventstream"

_STRING = 7
_PRELUDE = struct.Struct("!II")
_CRC = struct.Struct("!I")


def event(name: str, payload: bytes) -> bytes:
    """Frame a modelled event, such as ``contentBlockDelta``, with a JSON ``payload``."""
    return frame(
        {":event-type": name, ":content-type": "application/json", ":message-type": "event"},
        payload,
    )


def exception(name: str, payload: bytes) -> bytes:
    """Frame a modelled exception, such as ``throttlingException``: the stream ends with it."""
    return frame(
        {
            ":exception-type": name,
            ":content-type": "application/json",
            ":message-type": "exception",
        },
        payload,
    )


def frame(headers: Mapping[str, str], payload: bytes) -> bytes:
    """Encode one message whose headers are all strings."""
    packed = b"".join(_header(name, value) for name, value in headers.items())
    # 16 = prelude (8), prelude CRC (4) and message CRC (4).
    prelude = _PRELUDE.pack(len(packed) + len(payload) + 16, len(packed))
    body = prelude + _CRC.pack(crc32(prelude)) + packed + payload
    return body + _CRC.pack(crc32(body))


def _header(name: str, value: str) -> bytes:
    raw_name, raw_value = name.encode(), value.encode()
    return struct.pack("!B", len(raw_name)) + raw_name + struct.pack("!BH", _STRING, len(raw_value)) + raw_value
