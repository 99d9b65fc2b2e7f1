"""Legacy completions in OpenAI's format: https://platform.openai.com/docs/api-reference/completions/create.

A completion is a conversation of one user message: the models behind Sluice are chat models.
"""

import secrets
from collections.abc import Generator, Iterable
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from sluice.domain.inference import ChatDelta, ChatRequest, ChatResult, FinishReason, Message, TextDelta
from sluice.wire.chat import (
    CompletionUsage,
    ModelName,
    Penalty,
    Stop,
    StreamOptions,
    Temperature,
    Tokens,
    TopP,
    refuse_bias,
    stop_texts,
)
from sluice.wire.parsing import parse, unsupported

Prompt = Annotated[str, Meta(min_length=1)]
Reason = Literal["stop", "length", "content_filter"]
_REASONS: Final[dict[FinishReason, Reason]] = {
    FinishReason.LENGTH: "length",
    FinishReason.CONTENT_FILTER: "content_filter",
}


class CompletionRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The body of ``POST /completions``. Fields not named here are ignored.

    One prompt, as a string or as a list of one: lists of several and lists of token numbers are not served.
    """

    model: ModelName
    prompt: Prompt | Annotated[list[Prompt], Meta(min_length=1, max_length=1)]
    max_tokens: Tokens | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    stop: Stop | None = None
    seed: int | None = None
    n: Literal[1] | None = None
    best_of: Literal[0, 1] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    user: str | None = None
    echo: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    suffix: str | None = None
    logprobs: Any = None
    logit_bias: dict[str, float] | None = None

    @property
    def include_usage(self) -> bool:
        """Whether a stream has to end with the tokens."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    @property
    def echoed(self) -> str:
        """What stands before the answer: the prompt when ``echo`` asks for it."""
        return self._text() if self.echo else ""

    def to_domain(self) -> ChatRequest:
        """What is asked of the model.

        :raises InvalidRequestError: a field asks for something that is not served.
        """
        if self.suffix:
            raise unsupported("suffix", "Leave it out: chat models continue a text, they do not fill it in.")
        # Zero asks for the log probabilities of the chosen tokens, false and null for none.
        if self.logprobs is not None and self.logprobs is not False:
            raise unsupported("logprobs")
        refuse_bias(self.logit_bias)
        return ChatRequest(
            model=self.model,
            messages=(Message("user", self._text()),),
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            stop=stop_texts(self.stop),
            seed=self.seed,
            presence_penalty=self.presence_penalty or None,
            frequency_penalty=self.frequency_penalty or None,
            user=self.user,
        )

    def _text(self) -> str:
        return self.prompt if isinstance(self.prompt, str) else self.prompt[0]


def parse_completion_request(body: bytes) -> CompletionRequest:
    """The body of a completion request.

    :raises InvalidRequestError: naming the field.
    """
    return parse(body, CompletionRequest)


class CompletionChoice(msgspec.Struct, frozen=True, kw_only=True):
    """The only choice, as ``n`` is always 1."""

    text: str
    index: int = 0
    logprobs: None = None
    finish_reason: Reason


class CompletionResponse(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to ``POST /completions``. ``model`` is the target that answered."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: CompletionUsage

    @classmethod
    def of(cls, result: ChatResult, *, model: str, created: int, echoed: str = "") -> "CompletionResponse":
        """``result`` as OpenAI would answer it, after the prompt if that is to be ``echoed``."""
        choice = CompletionChoice(text=echoed + result.said, finish_reason=finish_reason(result.finish_reason))
        return cls(
            id=new_completion_id(),
            created=created,
            model=model,
            choices=[choice],
            usage=CompletionUsage.of(result.usage),
        )


class CompletionChunkChoice(msgspec.Struct, frozen=True, kw_only=True):
    """What a chunk adds to the text; ``finish_reason`` is null until the end."""

    text: str
    index: int = 0
    logprobs: None = None
    finish_reason: Reason | None = None


class CompletionChunk(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a streamed completion."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChunkChoice]
    usage: CompletionUsage | UnsetType | None = UNSET


def finish_reason(reason: FinishReason) -> Reason:
    """``reason`` in the words of this route, which knows no tools."""
    return _REASONS.get(reason, "stop")


def with_echo(echoed: str, deltas: Iterable[ChatDelta]) -> Generator[ChatDelta, None, None]:
    """``deltas`` after the prompt, if that is to be ``echoed``."""
    if echoed:
        yield TextDelta(echoed)
    yield from deltas


def new_completion_id() -> str:
    """An id of OpenAI's form."""
    return f"cmpl-{secrets.token_hex(16)}"
