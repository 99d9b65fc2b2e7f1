"""Embeddings in OpenAI's format: https://platform.openai.com/docs/api-reference/embeddings/create."""

import base64
import struct
from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from sluice.domain.inference import EmbeddingRequest as DomainRequest
from sluice.domain.inference import EmbeddingResult
from sluice.wire.chat import ModelName
from sluice.wire.parsing import parse

MAX_INPUTS = 2048
Text = Annotated[str, Meta(min_length=1)]
Encoding = Literal["float", "base64"]


class EmbeddingRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The body of ``POST /embeddings``. Lists of token numbers are not served: tokens mean something else per model."""

    model: ModelName
    input: Text | Annotated[list[Text], Meta(min_length=1, max_length=MAX_INPUTS)]
    encoding_format: Encoding | None = None
    dimensions: Annotated[int, Meta(ge=1)] | None = None
    user: str | None = None

    def to_domain(self) -> DomainRequest:
        """What is asked of the model."""
        inputs = (self.input,) if isinstance(self.input, str) else tuple(self.input)
        return DomainRequest(model=self.model, inputs=inputs, dimensions=self.dimensions, user=self.user)

    def encoding(self, headers: Mapping[str, str]) -> Encoding:
        """What the vectors are sent as.

        The ``openai`` package for Python asks for base64 whenever its caller named no format, takes numbers as well,
        and with strict validation takes nothing else. It cannot be told from a caller of it who really wants base64,
        so it gets numbers. ``headers`` have lower-case names.
        """
        if headers.get("x-stainless-lang") == "python":
            return "float"
        return self.encoding_format or "float"


def parse_embedding_request(body: bytes) -> EmbeddingRequest:
    """The body of an embedding request.

    :raises InvalidRequestError: naming the field.
    """
    return parse(body, EmbeddingRequest)


class Embedding(msgspec.Struct, frozen=True, kw_only=True):
    """One vector: numbers, or little-endian 32-bit floats in base64, as the ``openai`` client asks for by itself."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: tuple[float, ...] | str


class EmbeddingUsage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens as the provider counted them."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingResponse(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to ``POST /embeddings``. ``model`` is the target that answered."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage

    @classmethod
    def of(cls, result: EmbeddingResult, *, model: str, encoding: Encoding | None) -> "EmbeddingResponse":
        """``result`` as OpenAI would answer it."""
        return cls(
            data=[
                Embedding(index=index, embedding=_base64(vector) if encoding == "base64" else vector)
                for index, vector in enumerate(result.vectors)
            ],
            model=model,
            usage=EmbeddingUsage(prompt_tokens=result.usage.input_tokens, total_tokens=result.usage.total_tokens),
        )


def _base64(vector: tuple[float, ...]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
