"""Streamed answers as a whole: what the pieces add up to."""

from collections.abc import Iterable

from sluice.domain.inference import (
    ChatDelta,
    ChatRequest,
    ChatResult,
    ReasoningDelta,
    RefusalDelta,
    StreamEnd,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
)

CHARACTERS_PER_TOKEN = 4
"""What English text comes to, and the measure for estimates where a provider does not count."""


class Collector:
    """Adds up the pieces of one answer, whether it comes to its end or not."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._refusal: list[str] = []
        self._reasoning_characters = 0
        self._calls: dict[int, tuple[str, str, list[str]]] = {}
        self.end: StreamEnd | None = None

    def add(self, delta: ChatDelta) -> None:
        """Take in the next piece."""
        if isinstance(delta, TextDelta):
            self._text.append(delta.text)
        elif isinstance(delta, RefusalDelta):
            self._refusal.append(delta.text)
        elif isinstance(delta, ReasoningDelta):
            self._reasoning_characters += len(delta.text)
        elif isinstance(delta, ToolCallDelta):
            _, _, arguments = self._calls.setdefault(delta.index, (delta.id or "", delta.name or "", []))
            arguments.append(delta.arguments)
        else:
            self.end = delta

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self._text)

    @property
    def refusal(self) -> str | None:
        """The refusal so far, ``None`` where there is none."""
        return "".join(self._refusal) or None

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The tool calls so far, in their order."""
        return tuple(
            ToolCall(id=call_id, name=name, arguments="".join(arguments))
            for _, (call_id, name, arguments) in sorted(self._calls.items())
        )

    def usage(self, request: ChatRequest) -> Usage:
        """The tokens of this answer to ``request``: the provider's count, else an estimate that says so."""
        if self.end is not None and self.end.usage is not None:
            return self.end.usage
        called = sum(len(call.name) + len(call.arguments) for call in self.tool_calls)
        written = len(self.text) + len(self.refusal or "") + called + self._reasoning_characters
        return Usage(
            input_tokens=estimated_tokens(_texts(request)),
            output_tokens=tokens_of(written),
            reasoning_tokens=tokens_of(self._reasoning_characters),
            estimated=True,
        )

    def result(self, request: ChatRequest) -> ChatResult:
        """The answer that the pieces add up to.

        :raises ValueError: the end has not come yet.
        """
        if self.end is None:
            raise ValueError("The stream has not come to its end.")
        return ChatResult(
            text=self.text,
            finish_reason=self.end.finish_reason,
            usage=self.usage(request),
            tool_calls=self.tool_calls,
            refusal=self.refusal,
        )


def tokens_of(characters: int) -> int:
    """An estimate of the tokens in so many characters; none only for none."""
    return -(-characters // CHARACTERS_PER_TOKEN)


def estimated_tokens(texts: Iterable[str]) -> int:
    """An estimate of the tokens in all ``texts``."""
    return tokens_of(sum(len(text) for text in texts))


def _texts(request: ChatRequest) -> Iterable[str]:
    for message in request.messages:
        yield message.content
        yield from (call.arguments for call in message.tool_calls)
