"""What a protocol answers with, and how it is sent: whole, cut off, or not at all."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

JSON = "application/json"


@dataclass(frozen=True)
class Reply:
    """A complete answer."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    media_type: str = JSON


@dataclass(frozen=True)
class Frame:
    """One write of a stream: ``tokens`` of the answer in it; ``closing`` after the last of them."""

    data: bytes
    tokens: int = 0
    closing: bool = False


@dataclass(frozen=True)
class StreamReply:
    """An answer in frames."""

    frames: AsyncGenerator[Frame]
    media_type: str
    headers: Mapping[str, str] = field(default_factory=dict)


class WireError(Exception):
    """Raised to end a call with a refusal that is already in the protocol's shape."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(f"{reply.status} {reply.body.decode(errors='replace')}")
        self.reply = reply


class HangUpError(Exception):
    """Raised by a stream's frames to have the connection closed on the spot."""


def json_reply(status: int, value: object, headers: Mapping[str, str] | None = None) -> Reply:
    """A reply whose body is ``value`` as JSON."""
    return Reply(status, msgspec.json.encode(value), headers or {})


@dataclass(frozen=True)
class Whole:
    """ASGI response: all of a reply."""

    reply: Reply

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send it."""
        await _start(send, self.reply.status, _headers(self.reply))
        await send({"type": "http.response.body", "body": self.reply.body})


@dataclass(frozen=True)
class Truncated:
    """ASGI response: headers that promise a whole reply, the first ``length`` bytes of it, and a closed connection."""

    reply: Reply
    length: int

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send that much and hang up."""
        await _start(send, self.reply.status, _headers(self.reply))
        await send({"type": "http.response.body", "body": self.reply.body[: self.length], "more_body": True})
        await hang_up(scope, receive)


@dataclass(frozen=True)
class Dropped:
    """ASGI response: none. The connection is closed without a byte."""

    async def __call__(self, scope: Scope, receive: Receive, _send: Send) -> None:
        """Hang up."""
        await hang_up(scope, receive)


@dataclass(frozen=True)
class Streamed:
    """ASGI response: the frames of a stream, each in a chunk of its own."""

    reply: StreamReply

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send frame by frame, until the end, a hang-up or the client's leaving."""
        headers = [
            (b"content-type", self.reply.media_type.encode()),
            *((name.encode(), value.encode()) for name, value in self.reply.headers.items()),
        ]
        try:
            await _start(send, 200, headers)
            async for frame in self.reply.frames:
                await send({"type": "http.response.body", "body": frame.data, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        except HangUpError:
            await hang_up(scope, receive)
        finally:
            await self.reply.frames.aclose()


async def hang_up(scope: Scope, receive: Receive) -> None:
    """Close the connection after what is already written, and wait until it is closed.

    ASGI has no word for this; ``server.py`` puts the transport into the state of the connection.
    """
    scope["state"]["transport"].close()
    while (await receive())["type"] != "http.disconnect":
        pass


def _headers(reply: Reply) -> list[tuple[bytes, bytes]]:
    return [
        (b"content-type", reply.media_type.encode()),
        (b"content-length", str(len(reply.body)).encode()),
        *((name.encode(), value.encode()) for name, value in reply.headers.items()),
    ]


async def _start(send: Send, status: int, headers: list[tuple[bytes, bytes]]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
