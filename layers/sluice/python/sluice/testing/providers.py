"""A model provider that answers what a test tells it to."""

from collections.abc import Callable

from sluice.domain.errors import ProviderError
from sluice.domain.inference import (
    ChatRequest,
    ChatResult,
    EmbeddingRequest,
    EmbeddingResult,
    FinishReason,
    Usage,
)
from sluice.domain.routing import Target
from sluice.testing.clock import FakeClock

Raiser = Callable[[Target], ProviderError]


class FakeProvider:
    """Implements :class:`~sluice.domain.ports.ModelProvider`.

    Each call takes the next of ``failures`` (``None`` stands for a success) and, with a ``clock``, ``takes_s`` seconds,
    though never more than it is given. ``calls`` holds the target and timeout of every call.
    """

    def __init__(self, *failures: Raiser | None, clock: FakeClock | None = None, takes_s: float = 0.0) -> None:
        self._failures = list(failures)
        self._clock = clock
        self._takes_s = takes_s
        self.calls: list[tuple[str, float]] = []
        self.requests: list[ChatRequest | EmbeddingRequest] = []

    def chat(self, target: Target, request: ChatRequest, *, timeout_s: float) -> ChatResult:
        self._call(target, request, timeout_s)
        return ChatResult(
            text=f"answer of {target.name}",
            finish_reason=FinishReason.STOP,
            usage=Usage(input_tokens=10, output_tokens=5),
        )

    def embed(self, target: Target, request: EmbeddingRequest, *, timeout_s: float) -> EmbeddingResult:
        self._call(target, request, timeout_s)
        vectors = tuple((float(index), 0.5) for index, _ in enumerate(request.inputs))
        return EmbeddingResult(vectors=vectors, usage=Usage(input_tokens=3 * len(request.inputs)))

    def _call(self, target: Target, request: ChatRequest | EmbeddingRequest, timeout_s: float) -> None:
        self.calls.append((target.name, timeout_s))
        self.requests.append(request)
        if self._clock:
            self._clock.advance(min(self._takes_s, timeout_s))
        failure = self._failures.pop(0) if self._failures else None
        if failure is not None:
            raise failure(target)
