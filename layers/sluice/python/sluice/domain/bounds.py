"""How many tokens a request can come to at most, before anybody has counted them.

Input
-----
Every tokenizer in use spells text in pieces of at least one byte of its UTF-8, so a text has at most as many tokens as
bytes. What a provider adds around the texts is covered by allowances that are generous: roles and separators are a
handful of tokens a message; a model's own preamble, which the templates of some open models put before every
conversation, is some dozens; the prompt with which Anthropic's models are told of tools is up to 530
(https://docs.anthropic.com/en/docs/tool-use-pricing-and-tokens).

Output
------
What the caller, the target or the deployment allows, whichever is least (:mod:`sluice.domain.limits`). Where none of
them says anything and a key's limits have to hold all the same, :data:`UNSAID_OUTPUT_TOKENS` is both held and sent.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from sluice.domain.inference import ChatRequest, EmbeddingRequest, Message

UNSAID_OUTPUT_TOKENS: Final = 16_384
# A cut answer shorter than this is of use to nobody: rather none.
LEAST_OUTPUT_TOKENS: Final = 64

PER_CALL: Final = 128
PER_TEXT: Final = 8
PER_TOOL: Final = 32
FOR_TOOLS: Final = 1_024
FOR_A_FORM: Final = 1_024


class Bound(msgspec.Struct, frozen=True, kw_only=True):
    """The most that a request comes to at one target: all of its calls together.

    ``divisible`` says whether it can make do with less output than that.
    """

    calls: int = 1
    input_tokens: int = 0
    output_tokens: int = 0
    divisible: bool = False

    @property
    def least_output_tokens(self) -> int:
        """The least output that is worth a call."""
        return min(self.output_tokens, LEAST_OUTPUT_TOKENS) if self.divisible else self.output_tokens


def of_chat(request: ChatRequest) -> Bound:
    """What a chat comes to as it is sent: its ``max_tokens`` are those that the provider will be told.

    An answer in a form is worth nothing when it is cut, so that one is not ``divisible``.
    """
    output = UNSAID_OUTPUT_TOKENS if request.max_tokens is None else request.max_tokens
    return Bound(input_tokens=_chat_tokens(request), output_tokens=output, divisible=request.response_format is None)


def of_embedding(request: EmbeddingRequest) -> Bound:
    """What embedding all inputs comes to."""
    return Bound(input_tokens=tokens_in(request.inputs))


def tokens_in(texts: Iterable[str]) -> int:
    """The most tokens that these texts have, each with what a provider puts around it."""
    return sum(PER_TEXT + _bytes_of(text) for text in texts)


def _chat_tokens(request: ChatRequest) -> int:
    said = sum(_message_tokens(message) for message in request.messages)
    offered = sum(
        PER_TOOL + tokens_in((tool.name, tool.description or "")) + len(msgspec.json.encode(tool.parameters))
        for tool in request.tools
    )
    # Tools of the history are told of even where none is offered any more.
    called = request.tools or any(message.tool_calls for message in request.messages)
    return PER_CALL + said + offered + (FOR_TOOLS if called else 0) + _form_tokens(request)


def _message_tokens(message: Message) -> int:
    calls = sum(PER_TOOL + tokens_in((call.id, call.name, call.arguments)) for call in message.tool_calls)
    answered = tokens_in((message.tool_call_id,)) if message.tool_call_id else 0
    return tokens_in((message.content,)) + answered + calls


def _form_tokens(request: ChatRequest) -> int:
    form = request.response_format
    if form is None:
        return 0
    return FOR_A_FORM + tokens_in((form.name, form.description or "")) + len(msgspec.json.encode(form.schema))


def _bytes_of(text: str) -> int:
    # Half of a surrogate pair, which JSON can spell, is no UTF-8 but three bytes all the same.
    return len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))
