"""What lies between a provider and who reads its stream."""

import threading
import time
from collections.abc import Generator

import pytest

from sluice.domain.errors import (
    AnswerNotTakenError,
    AnswerUnfinishedError,
    ProviderProtocolError,
    ProviderTimeoutError,
)
from sluice.domain.inference import ChatDelta, FinishReason, ReasoningDelta, StreamEnd, TextDelta, ToolCallDelta
from sluice.services.streams import LARGEST_BUFFER, PIECE_OVERHEAD, ProviderStream
from sluice.testing.clock import FakeClock
from sluice.testing.routes import target

END = StreamEnd(finish_reason=FinishReason.STOP)


class Provider:
    """Says ``pieces``, as fast as they are taken, then keeps silent until ``released`` and ends."""

    def __init__(self, *pieces: ChatDelta) -> None:
        self.pieces = pieces
        self.released = threading.Event()
        self.said = 0
        self.closed = threading.Event()

    def __call__(self) -> Generator[ChatDelta, None, None]:
        try:
            for piece in self.pieces:
                self.said += 1
                yield piece
            self.released.wait(20)
            yield END
        finally:
            self.closed.set()


def settled(provider: Provider) -> int:
    """How much it has said once it says no more."""
    said = -1
    while said != provider.said:
        said = provider.said
        time.sleep(0.05)
    return said


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.is_alive()}


@pytest.mark.parametrize(
    ("piece", "room"),
    [
        (TextDelta("x" * 900), LARGEST_BUFFER // 1_000),
        (TextDelta("x"), LARGEST_BUFFER // (PIECE_OVERHEAD + 1)),
        (ToolCallDelta(index=0, arguments="x" * 900), LARGEST_BUFFER // 1_000),
        (ReasoningDelta("x" * 900), LARGEST_BUFFER // 1_000),
        # More than all of the buffer: one at a time.
        (TextDelta("x" * LARGEST_BUFFER), 1),
    ],
)
def test_a_provider_waits_for_its_reader(piece: ChatDelta, room: int) -> None:
    provider = Provider(*[piece] * 2_000)
    stream = ProviderStream.begun(target("a/one"), provider, timeout_s=5)
    # One in the reader's hand, one in the provider's own.
    assert settled(provider) == room + 2
    provider.released.set()
    pieces = [stream.next(timeout_s=5) for _ in range(2_001)]
    assert pieces == [*[piece] * 2_000, END]


def test_a_provider_that_waits_for_a_reader_who_has_gone_is_closed() -> None:
    provider = Provider(*[TextDelta("x" * 900)] * 2_000)
    stream = ProviderStream.begun(target("a/abandoned"), provider, timeout_s=5)
    settled(provider)
    assert "stream a/abandoned" in threads()
    stream.abandon()
    assert provider.closed.wait(5)
    deadline = time.monotonic() + 5
    while "stream a/abandoned" in threads():
        assert time.monotonic() < deadline, "its thread goes on"
        time.sleep(0.01)


def test_what_is_there_is_given_even_when_time_is_up() -> None:
    provider = Provider(TextDelta("a"), TextDelta("b"))
    stream = ProviderStream(target("a/one"), provider, silence_s=5, clock=FakeClock())
    settled(provider)
    assert [stream.next(timeout_s=0), stream.next(timeout_s=0)] == [TextDelta("a"), TextDelta("b")]
    with pytest.raises(ProviderTimeoutError):
        stream.next(timeout_s=0)
    provider.released.set()


@pytest.mark.parametrize(("reader_s", "expected"), [(5.0, AnswerNotTakenError), (0.0, AnswerUnfinishedError)])
def test_who_took_the_time_is_to_blame(reader_s: float, expected: type[Exception]) -> None:
    clock = FakeClock()
    provider = Provider(TextDelta("a"), TextDelta("b"))
    stream = ProviderStream(target("a/one"), provider, silence_s=5, clock=clock)
    for _ in range(2):
        stream.next(timeout_s=5)
        clock.advance(reader_s)
    with pytest.raises(expected):
        stream.next(timeout_s=0)
    assert stream.held_s == 2 * reader_s
    provider.released.set()


@pytest.mark.parametrize(("silent_s", "expected"), [(4.9, AnswerUnfinishedError), (5.0, ProviderTimeoutError)])
def test_who_has_just_said_something_is_still_at_work(silent_s: float, expected: type[Exception]) -> None:
    clock = FakeClock()
    provider = Provider(TextDelta("a"))
    stream = ProviderStream(target("a/one"), provider, silence_s=5, clock=clock)
    stream.next(timeout_s=5)
    # It is the provider that is waited for, whose silence the reader does not prolong.
    stream.waited_s = 60.0
    clock.advance(silent_s)
    with pytest.raises(ProviderTimeoutError) as raised:
        stream.next(timeout_s=0)
    assert type(raised.value) is expected
    provider.released.set()


def test_the_wait_for_the_first_piece_is_nobodys() -> None:
    provider = Provider(TextDelta("a"))
    stream = ProviderStream.begun(target("a/one"), provider, timeout_s=5)
    assert (stream.waited_s, stream.held_s) == (0.0, 0.0)
    time.sleep(0.05)
    stream.next(timeout_s=5)
    # It came before it was handed over, so its reader has held nothing up.
    assert stream.held_s == 0.0
    provider.released.set()


def test_a_stream_without_its_end_has_broken_off() -> None:
    stream = ProviderStream(target("a/one"), lambda: (piece for piece in [TextDelta("a")]), silence_s=5)
    stream.next(timeout_s=5)
    with pytest.raises(ProviderProtocolError):
        stream.next(timeout_s=5)
