import base64
import json
import struct
from typing import Any

import msgspec
import pytest
from openai.types import CreateEmbeddingResponse

from sluice.domain.errors import InvalidRequestError
from sluice.domain.inference import EmbeddingResult, Usage
from sluice.wire.embeddings import EmbeddingResponse, parse_embedding_request

RESULT = EmbeddingResult(vectors=((0.5, -0.25), (1.0, 0.0)), usage=Usage(input_tokens=7))


def parse(**fields: object) -> Any:
    return parse_embedding_request(json.dumps({"model": "embed", **fields}).encode())


@pytest.mark.parametrize(("given", "inputs"), [("one", ("one",)), (["one", "two"], ("one", "two"))])
def test_one_text_or_many(given: object, inputs: tuple[str, ...]) -> None:
    assert parse(input=given).to_domain().inputs == inputs


def test_dimensions_and_encoding_arrive() -> None:
    request = parse(input="x", dimensions=128, encoding_format="base64")
    assert (request.to_domain().dimensions, request.encoding_format) == (128, "base64")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "input"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": [1, 2]}, "input[0]"),
        ({"input": [[1, 2]]}, "input[0]"),
        ({"input": ["x"] * 2049}, "input"),
        ({"input": None}, "input"),
        ({"input": "x", "encoding_format": "int8"}, "encoding_format"),
        ({"input": "x", "dimensions": 0}, "dimensions"),
        ({"input": "x", "model": 1}, "model"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, object], param: str) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        parse(**fields)
    assert raised.value.param == param


def test_floats_are_what_the_openai_client_expects() -> None:
    body = msgspec.json.encode(EmbeddingResponse.of(RESULT, model="bedrock/embed", encoding="float"))
    response = CreateEmbeddingResponse.model_validate(json.loads(body), strict=True)
    assert [item.index for item in response.data] == [0, 1]
    assert response.data[0].embedding == [0.5, -0.25]
    assert (response.usage.prompt_tokens, response.usage.total_tokens) == (7, 7)


def test_base64_holds_little_endian_floats() -> None:
    answer = EmbeddingResponse.of(RESULT, model="bedrock/embed", encoding="base64")
    encoded = answer.data[0].embedding
    assert isinstance(encoded, str)
    assert struct.unpack("<2f", base64.b64decode(encoded)) == (0.5, -0.25)


def test_the_python_client_gets_numbers_as_its_strict_mode_takes_nothing_else() -> None:
    request = parse(input="x", encoding_format="base64")
    assert request.encoding({"x-stainless-lang": "python"}) == "float"
    assert request.encoding({"x-stainless-lang": "js"}) == "base64"
    assert request.encoding({}) == "base64"
    assert parse(input="x").encoding({}) == "float"
