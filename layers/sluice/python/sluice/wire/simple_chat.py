"""``POST /chat``: one prompt in, one response out, for callers who need no more."""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from sluice.domain.inference import ChatRequest, ChatResult, Message
from sluice.wire.chat import CompletionUsage, ModelName, Stop, Temperature, Tokens, TopP, stop_texts
from sluice.wire.parsing import parse

DEFAULT_MODEL: Final = "auto"
Text = Annotated[str, Meta(min_length=1)]


class ChatParameters(msgspec.Struct, frozen=True, kw_only=True):
    """How to answer. ``system`` is what the model is told before the prompt. Fields not named here are ignored."""

    system: Text | None = None
    max_tokens: Tokens | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    stop: Stop | None = None


class SimpleChatRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The body of ``POST /chat``. Fields not named here are ignored."""

    prompt: Text
    model: ModelName = DEFAULT_MODEL
    parameters: ChatParameters | None = None

    def to_domain(self) -> ChatRequest:
        """What is asked of the model."""
        parameters = self.parameters or ChatParameters()
        system = (Message("system", parameters.system),) if parameters.system else ()
        return ChatRequest(
            model=self.model,
            messages=(*system, Message("user", self.prompt)),
            max_tokens=parameters.max_tokens,
            temperature=parameters.temperature,
            top_p=parameters.top_p,
            stop=stop_texts(parameters.stop),
        )


def parse_simple_chat(body: bytes) -> ChatRequest:
    """The body of a chat request, checked and free of the wire format.

    :raises InvalidRequestError: naming the field.
    """
    return parse(body, SimpleChatRequest).to_domain()


class SimpleChatResponse(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to ``POST /chat``. ``model`` is the target that answered."""

    response: str
    model: str
    usage: CompletionUsage

    @classmethod
    def of(cls, result: ChatResult, *, model: str) -> "SimpleChatResponse":
        """``result`` without anything that a caller of this route has no use for."""
        return cls(response=result.said, model=model, usage=CompletionUsage.of(result.usage))
