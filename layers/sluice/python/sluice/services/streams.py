"""Streamed answers on their way through: read in a thread of their own, so that every wait for them can end in time.

Between that thread and the reader lies a buffer that is bounded: while it is full nothing more is read from the
provider, whose own writes then wait in turn. A slow reader slows the provider down, and costs no memory.
"""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from typing import Final

import msgspec

from sluice.domain.errors import (
    AnswerNotTakenError,
    AnswerUnfinishedError,
    ProviderError,
    ProviderProtocolError,
    ProviderTimeoutError,
)
from sluice.domain.inference import ChatDelta, ReasoningDelta, RefusalDelta, StreamEnd, TextDelta, ToolCallDelta
from sluice.domain.routing import Target
from sluice.telemetry import tracing

Open = Callable[[], Generator[ChatDelta, None, None]]

LARGEST_BUFFER: Final = 64 * 1024
"""What may lie between provider and reader, in characters; a piece that is larger by itself passes alone."""
PIECE_OVERHEAD: Final = 100
"""What a piece counts besides its characters, so that many tiny ones are bounded as well."""


class _Failed(msgspec.Struct, frozen=True):
    error: BaseException


class _Over(msgspec.Struct, frozen=True):
    """Nothing more will come."""


_OVER: Final = _Over()


class _Buffer:
    """Hands pieces from one thread to another, within :data:`LARGEST_BUFFER`."""

    def __init__(self) -> None:
        self._pieces: deque[ChatDelta | _Failed | _Over] = deque()
        self._size = 0
        self._closed = False
        self._changed = threading.Condition()

    def put(self, piece: ChatDelta | _Failed | _Over) -> bool:
        """Add a piece once there is room for it. Whether anybody will take it: not after :meth:`close`."""
        size = _size(piece)
        with self._changed:
            self._changed.wait_for(lambda: self._closed or not self._size or self._size + size <= LARGEST_BUFFER)
            if self._closed:
                return False
            self._pieces.append(piece)
            self._size += size
            self._changed.notify_all()
            return True

    def get(self, *, timeout_s: float) -> ChatDelta | _Failed | _Over | None:
        """The next piece, ``None`` when there is none within ``timeout_s`` seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: bool(self._pieces), timeout=timeout_s):
                return None
            piece = self._pieces.popleft()
            self._size -= _size(piece)
            self._changed.notify_all()
            return piece

    def close(self) -> None:
        """Drop what is in there and take nothing more."""
        with self._changed:
            self._closed = True
            self._pieces.clear()
            self._changed.notify_all()


def _size(piece: ChatDelta | _Failed | _Over) -> int:
    if isinstance(piece, TextDelta | RefusalDelta | ReasoningDelta):
        return PIECE_OVERHEAD + len(piece.text)
    if isinstance(piece, ToolCallDelta):
        return PIECE_OVERHEAD + len(piece.arguments)
    # What ends a stream always fits in.
    return 0


class ProviderStream:
    """A provider's stream whose first output has come: from here on no other target can take over.

    ``waited_s`` is how long its reader has waited for it, ``held_s`` how long it has waited for its reader.
    ``silence_s`` is for how many seconds it may say nothing and still be at work.
    """

    def __init__(
        self, target: Target, open_stream: Open, *, silence_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._target = target
        self._silence_s = silence_s
        self._clock = clock
        self._said_at: float | None = None
        self._buffer = _Buffer()
        self._first: ChatDelta | None = None
        self._began_after_s = 0.0
        self._handed_over_at: float | None = None
        self.waited_s = 0.0
        self.held_s = 0.0
        pump = tracing.carried(self._pump)
        threading.Thread(target=pump, args=(open_stream,), name=f"stream {target.name}", daemon=True).start()

    @classmethod
    def begun(cls, target: Target, open_stream: Open, *, timeout_s: float) -> "ProviderStream":
        """The stream, once its first piece is there.

        :raises ProviderError: it failed, or kept silent for ``timeout_s`` seconds, before there was any output.
        """
        stream = cls(target, open_stream, silence_s=timeout_s)
        try:
            stream._first = stream.next(timeout_s=timeout_s)
        except BaseException:
            stream.abandon()
            raise
        # That wait was part of the attempt; what is counted here is what comes after.
        stream._began_after_s, stream.waited_s = stream.waited_s, 0.0
        stream._handed_over_at = None
        return stream

    def next(self, *, timeout_s: float) -> ChatDelta:
        """The next piece; the last one is a :class:`~sluice.domain.inference.StreamEnd`.

        :raises AnswerUnfinishedError: nothing came for ``timeout_s`` seconds, and it is still at work.
        :raises ProviderError: it failed, or has kept silent for too long.
        :raises AnswerNotTakenError: time is up, and the reader took more of it than the provider.
        """
        if self._first is not None:
            first, self._first = self._first, None
            self._handed_over_at = self._clock()
            return first
        began = self._clock()
        if self._handed_over_at is not None:
            self.held_s += began - self._handed_over_at
        piece = self._buffer.get(timeout_s=max(timeout_s, 0.0))
        self._handed_over_at = self._clock()
        self.waited_s += self._handed_over_at - began
        if piece is None:
            raise self._late()
        if isinstance(piece, _Failed):
            raise piece.error
        if isinstance(piece, _Over):
            raise ProviderProtocolError("The model provider's answer broke off.", target=self._target.name)
        return piece

    def abandon(self) -> None:
        """Nobody reads on. The connection is closed as soon as the provider says anything more, or times out."""
        self._buffer.close()

    def _late(self) -> ProviderError | AnswerNotTakenError:
        if self.held_s > self._began_after_s + self.waited_s:
            # A reader that dawdles must not get the provider into trouble with the circuit breaker.
            return AnswerNotTakenError("The answer was read so slowly that the time for it was over.")
        if self._said_at is not None and self._clock() - self._said_at < self._silence_s:
            return AnswerUnfinishedError(
                "The model was still answering when the time for it was over.", target=self._target.name
            )
        return ProviderTimeoutError("The model provider did not answer in time.", target=self._target.name)

    def _pump(self, open_stream: Open) -> None:
        try:
            with contextlib.closing(open_stream()) as deltas:
                for delta in deltas:
                    self._said_at = self._clock()
                    if not self._buffer.put(delta) or isinstance(delta, StreamEnd):
                        return
            self._buffer.put(_OVER)
        except BaseException as error:  # noqa: BLE001 - it belongs to whoever reads the stream
            self._buffer.put(_Failed(error))
