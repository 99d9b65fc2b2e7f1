"""A model provider that answers what a test tells it to."""

import threading
from collections.abc import Callable, Generator, Mapping

from sluice.domain.errors import ProviderError
from sluice.domain.inference import (
    ChatDelta,
    ChatRequest,
    ChatResult,
    EmbeddingRequest,
    EmbeddingResult,
    FinishReason,
    ReasoningDelta,
    RefusalDelta,
    StreamEnd,
    TextDelta,
    Usage,
)
from sluice.domain.ports import ModelProvider
from sluice.domain.routing import Target
from sluice.testing.clock import FakeClock

Raiser = Callable[[Target], ProviderError]
USAGE = Usage(input_tokens=10, output_tokens=5)


class FakeProvider(ModelProvider):
    """Implements :class:`~sluice.domain.ports.ModelProvider`.

    Each call takes the next of ``failures`` (``None`` stands for a success) and, with a ``clock``, ``takes_s`` seconds,
    though never more than it is given. ``calls`` holds the target and timeout of every call. A stream says its
    ``reasoning``, then one word after the other; ``breaks`` is what it raises after the first ``breaks_after`` of
    these, instead of its end, and ``pause`` an event that it waits for after the first. With a ``refusal`` it says that
    and no word. A call of a target in ``stuck`` waits until that event is set.
    """

    def __init__(self, *failures: Raiser | None, clock: FakeClock | None = None, takes_s: float = 0.0) -> None:
        self._failures = list(failures)
        self._clock = clock
        self._takes_s = takes_s
        self.calls: list[tuple[str, float]] = []
        self.requests: list[ChatRequest | EmbeddingRequest] = []
        self.breaks: Raiser | None = None
        self.breaks_after = 0
        self.pause: threading.Event | None = None
        self.reasoning: tuple[str, ...] = ()
        self.refusal: str | None = None
        self.usage: Usage | None = USAGE
        self.closed: list[str] = []
        self.stuck: Mapping[str, threading.Event] = {}

    def chat(self, target: Target, request: ChatRequest, *, timeout_s: float) -> ChatResult:
        self._call(target, request, timeout_s)
        text = "" if self.refusal else f"answer of {target.name}"
        return ChatResult(text=text, finish_reason=FinishReason.STOP, usage=USAGE, refusal=self.refusal)

    def stream(self, target: Target, request: ChatRequest, *, timeout_s: float) -> Generator[ChatDelta, None, None]:
        try:
            self._call(target, request, timeout_s)
            for said, piece in enumerate(self._pieces(target)):
                if said == 1 and self.pause is not None:
                    self.pause.wait(timeout=10)
                if self.breaks is not None and said == self.breaks_after:
                    raise self.breaks(target)
                yield piece
            yield StreamEnd(finish_reason=FinishReason.STOP, usage=self.usage)
        finally:
            self.closed.append(target.name)

    def embed(self, target: Target, request: EmbeddingRequest, *, timeout_s: float) -> EmbeddingResult:
        self._call(target, request, timeout_s)
        vectors = tuple((float(index), 0.5) for index, _ in enumerate(request.inputs))
        return EmbeddingResult(vectors=vectors, usage=Usage(input_tokens=3 * len(request.inputs)))

    def _pieces(self, target: Target) -> list[ChatDelta]:
        reasoning = map(ReasoningDelta, self.reasoning)
        if self.refusal is not None:
            return [*reasoning, RefusalDelta(self.refusal)]
        return [*reasoning, *map(TextDelta, ("answer", " of ", target.name))]

    def _call(self, target: Target, request: ChatRequest | EmbeddingRequest, timeout_s: float) -> None:
        self.calls.append((target.name, timeout_s))
        self.requests.append(request)
        if self._clock:
            self._clock.advance(min(self._takes_s, timeout_s))
        if target.name in self.stuck:
            self.stuck[target.name].wait(timeout=10)
        failure = self._failures.pop(0) if self._failures else None
        if failure is not None:
            raise failure(target)
