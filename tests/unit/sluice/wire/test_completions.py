import json
from typing import Any

import msgspec
import pytest
from openai.types import Completion

from sluice.domain.errors import InvalidRequestError
from sluice.domain.inference import ChatResult, FinishReason, Message, StreamEnd, TextDelta, Usage
from sluice.wire.completions import CompletionResponse, parse_completion_request, with_echo

CANARY = "canary-that-must-not-be-quoted"
MINIMAL: dict[str, Any] = {"model": "auto", "prompt": "Once upon a time"}
USAGE = Usage(input_tokens=4, output_tokens=2)


def parse(**changes: object) -> Any:
    return parse_completion_request(json.dumps({**MINIMAL, **changes}).encode())


@pytest.mark.parametrize("prompt", ["Once", ["Once"]])
def test_a_prompt_is_what_a_user_says(prompt: object) -> None:
    request = parse(prompt=prompt, max_tokens=5, stop=["a", "b"], seed=1, user="u").to_domain()
    assert request.messages == (Message("user", "Once"),)
    assert (request.max_tokens, request.stop, request.seed, request.user) == (5, ("a", "b"), 1, "u")


@pytest.mark.parametrize(
    "neutral",
    [
        {"echo": False},
        {"suffix": ""},
        {"suffix": None},
        {"best_of": 0},
        {"best_of": 1},
        {"n": 1},
        {"logprobs": None},
        {"logit_bias": {"50256": 0}},
        {"presence_penalty": 0},
        {"a_field_of_next_year": 1},
    ],
)
def test_neutral_values_and_unknown_fields_do_no_harm(neutral: dict[str, object]) -> None:
    assert parse(**neutral).to_domain() == parse().to_domain()


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ["a", CANARY]}, "prompt"),
        ({"prompt": [1, 2, 3]}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"model": 5}, "model"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"n": 2}, "n"),
        ({"best_of": 3}, "best_of"),
        ({"suffix": CANARY}, "suffix"),
        ({"logprobs": 0}, "logprobs"),
        ({"logprobs": 5}, "logprobs"),
        ({"logit_bias": {"5": -100}}, "logit_bias"),
        ({"echo": "yes"}, "echo"),
        ({"stream": "yes"}, "stream"),
        ({"temperature": 3}, "temperature"),
    ],
)
def test_what_is_wrong_is_named_and_never_quoted(changes: dict[str, object], param: str) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        parse(**changes).to_domain()
    assert (raised.value.param or "").partition("[")[0] == param
    assert CANARY not in raised.value.message


@pytest.mark.parametrize(
    ("reason", "expected"),
    [(FinishReason.STOP, "stop"), (FinishReason.LENGTH, "length"), (FinishReason.CONTENT_FILTER, "content_filter")],
)
def test_the_answer_is_what_the_openai_client_expects(reason: FinishReason, expected: str) -> None:
    result = ChatResult(text=" there was", finish_reason=reason, usage=USAGE)
    body = msgspec.json.encode(CompletionResponse.of(result, model="bedrock/one", created=1, echoed="Once"))
    completion = Completion.model_validate(json.loads(body), strict=True)
    assert (completion.object, completion.model, completion.id[:5]) == ("text_completion", "bedrock/one", "cmpl-")
    assert (completion.choices[0].text, completion.choices[0].finish_reason) == ("Once there was", expected)


def test_an_echo_comes_first_and_only_when_asked_for() -> None:
    end = StreamEnd(finish_reason=FinishReason.STOP, usage=USAGE)
    assert list(with_echo(parse(echo=True).echoed, [end])) == [TextDelta("Once upon a time"), end]
    assert list(with_echo(parse().echoed, [end])) == [end]
