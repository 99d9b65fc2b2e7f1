"""Streamed answers on their way through: read in a thread of their own, so that every wait for them can end in time."""

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Generator
from typing import Final

import msgspec

from sluice.domain.errors import ProviderProtocolError, ProviderTimeoutError
from sluice.domain.inference import ChatDelta, StreamEnd
from sluice.domain.routing import Target
from sluice.telemetry import tracing

Open = Callable[[], Generator[ChatDelta, None, None]]


class _Failed(msgspec.Struct, frozen=True):
    error: BaseException


class _Over(msgspec.Struct, frozen=True):
    """Nothing more will come."""


_OVER: Final = _Over()


class ProviderStream:
    """A provider's stream whose first output has come: from here on no other target can take over.

    ``waited_s`` is how long its reader has waited for it.
    """

    def __init__(self, target: Target, open_stream: Open, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._target = target
        self._clock = clock
        self._deltas: queue.SimpleQueue[ChatDelta | _Failed | _Over] = queue.SimpleQueue()
        self._abandoned = threading.Event()
        self._first: ChatDelta | None = None
        self.waited_s = 0.0
        pump = tracing.carried(self._pump)
        threading.Thread(target=pump, args=(open_stream,), name=f"stream {target.name}", daemon=True).start()

    @classmethod
    def begun(cls, target: Target, open_stream: Open, *, timeout_s: float) -> "ProviderStream":
        """The stream, once its first piece is there.

        :raises ProviderError: it failed, or kept silent for ``timeout_s`` seconds, before there was any output.
        """
        stream = cls(target, open_stream)
        try:
            stream._first = stream.next(timeout_s=timeout_s)
        except BaseException:
            stream.abandon()
            raise
        # That wait was part of the attempt; what is counted here is what comes after.
        stream.waited_s = 0.0
        return stream

    def next(self, *, timeout_s: float) -> ChatDelta:
        """The next piece; the last one is a :class:`~sluice.domain.inference.StreamEnd`.

        :raises ProviderError: it failed, or kept silent for ``timeout_s`` seconds.
        """
        if self._first is not None:
            first, self._first = self._first, None
            return first
        began = self._clock()
        try:
            piece = self._deltas.get(timeout=max(timeout_s, 0.0))
        except queue.Empty:
            raise ProviderTimeoutError("The model provider did not answer in time.", target=self._target.name) from None
        finally:
            self.waited_s += self._clock() - began
        if isinstance(piece, _Failed):
            raise piece.error
        if isinstance(piece, _Over):
            raise ProviderProtocolError("The model provider's answer broke off.", target=self._target.name)
        return piece

    def abandon(self) -> None:
        """Nobody reads on. The connection is closed as soon as the provider says anything more, or times out."""
        self._abandoned.set()

    def _pump(self, open_stream: Open) -> None:
        try:
            with contextlib.closing(open_stream()) as deltas:
                for delta in deltas:
                    if self._abandoned.is_set():
                        return
                    self._deltas.put(delta)
                    if isinstance(delta, StreamEnd):
                        return
            self._deltas.put(_OVER)
        except BaseException as error:  # noqa: BLE001 - it belongs to whoever reads the stream
            self._deltas.put(_Failed(error))
