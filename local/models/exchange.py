"""One call from request to response: identify, count, strike with a fault, answer, never fail shapelessly."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from starlette.requests import ClientDisconnect, Request

from local.models.chat import ChatError
from local.models.faults import Fault, FaultBook, ProtocolName
from local.models.ledger import Ledger
from local.models.replies import (
    Dropped,
    Frame,
    HangUpError,
    Reply,
    Streamed,
    StreamReply,
    Truncated,
    Whole,
    WireError,
)

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Call:
    """A request whose model is known; ``headers`` have lower-case names.

    ``prose``: the model is to forget what form its answer should have.
    """

    model: str
    streaming: bool
    body: bytes
    headers: Mapping[str, str]
    prose: bool = False


class Dialect(Protocol):
    """How one protocol says that something went wrong."""

    name: ProtocolName

    def throttled(self, status: int | None, retry_after: float | None) -> Reply:
        """Too many requests; ``status`` overrides the protocol's own."""
        ...

    def failed(self, status: int, retry_after: float | None) -> Reply:
        """The error that goes with ``status``."""
        ...

    def refused(self, error: ChatError) -> Reply:
        """A conversation that the chat engine could not answer."""
        ...

    def error_frame(self, reply: Reply) -> Frame:
        """``reply`` as an error in mid-stream."""
        ...

    def damaged(self, frame: Frame) -> Frame:
        """A frame its reader cannot accept."""
        ...


Answer = Callable[[Call], Awaitable[Reply | StreamReply]]


@dataclass(frozen=True)
class Operation:
    """An operation of a protocol.

    ``identify`` names the model and raises ``WireError`` when it cannot; ``answer`` does the work.
    """

    name: str
    dialect: Dialect
    identify: Callable[[Request, bytes], Call]
    answer: Answer


class Exchange:
    """Serves operations: every call is counted, and may be struck by the fault set for its model."""

    def __init__(self, faults: FaultBook, ledger: Ledger) -> None:
        self.faults = faults
        self.ledger = ledger

    def endpoint(self, operation: Operation) -> Callable[[Request], Awaitable[ASGIApp]]:
        """The HTTP endpoint of ``operation``; whatever happens, it answers in the protocol's own shape."""

        async def endpoint(request: Request) -> ASGIApp:
            try:
                return await self._serve(operation, request)
            except WireError as refusal:
                return Whole(refusal.reply)
            except ChatError as error:
                return Whole(operation.dialect.refused(error))
            except ClientDisconnect:
                return Dropped()
            except Exception:
                log.exception("%s %s failed", operation.dialect.name, operation.name)
                return Whole(operation.dialect.failed(500, None))

        return endpoint

    async def _serve(self, operation: Operation, request: Request) -> ASGIApp:
        call = operation.identify(request, await request.body())
        dialect = operation.dialect
        self.ledger.add(call.model, dialect.name, operation.name)
        fault = self.faults.take(call.model, dialect.name, streaming=call.streaming)
        if fault is None:
            return _whole(await operation.answer(call))
        log.info("fault for %s over %s: %s", call.model, dialect.name, fault.kind)
        if fault.kind in {"hang", "latency"} and await _left(request.receive, fault.pause_s):
            return Dropped()
        if fault.kind == "hang" or (fault.kind == "cut" and fault.at in {None, "start"}):
            return Dropped()
        in_stream = call.streaming and fault.after_tokens is not None
        if fault.kind in {"throttle", "error"} and not in_stream:
            return Whole(_error(fault, dialect))
        call = replace(call, prose=fault.kind == "prose")
        return _spoilt(await operation.answer(call), fault, dialect)


def _error(fault: Fault, dialect: Dialect) -> Reply:
    if fault.kind == "throttle":
        return dialect.throttled(fault.status, fault.retry_after)
    return dialect.failed(fault.status or 500, fault.retry_after)


def _whole(reply: Reply | StreamReply) -> ASGIApp:
    return Whole(reply) if isinstance(reply, Reply) else Streamed(reply)


def _spoilt(reply: Reply | StreamReply, fault: Fault, dialect: Dialect) -> ASGIApp:
    if isinstance(reply, StreamReply):
        return Streamed(replace(reply, frames=_spoilt_frames(reply.frames, fault, dialect)))
    # A refusal stays what it is: a fault only spoils a good answer.
    if fault.kind == "cut":
        return Truncated(reply, 0 if fault.at == "headers" else len(reply.body) // 2)
    if fault.kind == "garbage":
        broken = reply.body[: len(reply.body) // 2] + b"<garbage"
        return Whole(replace(reply, body=broken))
    return Whole(reply)


async def _spoilt_frames(frames: AsyncGenerator[Frame], fault: Fault, dialect: Dialect) -> AsyncGenerator[Frame]:
    """Pass frames on until the fault strikes: after its tokens, or at the end of a shorter answer."""
    sent = 0
    async with aclosing(frames):
        async for frame in frames:
            if _strikes(fault, frame, sent):
                if fault.kind in {"cut", "cut_stream"}:
                    raise HangUpError
                yield dialect.damaged(frame) if fault.kind == "garbage" else dialect.error_frame(_error(fault, dialect))
                return
            sent += frame.tokens
            yield frame


def _strikes(fault: Fault, frame: Frame, sent: int) -> bool:
    """Whether a stream's fault strikes before ``frame``, when ``sent`` tokens of the answer are out."""
    if fault.kind in {"latency", "prose"}:
        return False
    if fault.kind == "cut" and fault.at == "headers":
        return True
    # One token gets through unless the fault says otherwise: the reader is then surely in mid-stream.
    allowed = 1 if fault.after_tokens is None else fault.after_tokens
    return frame.closing or (frame.tokens > 0 and sent >= allowed)


async def _left(receive: Receive, seconds: float) -> bool:
    """Wait ``seconds``, or less when the client leaves; whether it left."""

    async def leaving() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    try:
        await asyncio.wait_for(leaving(), seconds)
    except TimeoutError:
        return False
    return True
