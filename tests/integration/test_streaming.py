"""The streaming function behind its URL, with the same keys, routes and ledger as the API.

The local cloud hands over what a function streamed only when it is whole: that it leaves piece by piece is shown in
``tests/contract/streaming``. What is shown here is that it is deployed, allowed to do its work, and asked for keys.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import openai
import pytest
import urllib3

from tests.integration.support import Platform
from tests.integration.test_sync import ask, request_log

QUESTION: list[Any] = ask("What does admission cost?")
TARGET = "openai/extractive-v1"


@pytest.fixture
def client(platform: Platform) -> Iterator[openai.OpenAI]:
    """OpenAI's client, told the URL as Terraform puts it out."""
    url = platform.env["SLUICE_STREAM_URL"]
    with openai.OpenAI(
        base_url=url, api_key=platform.key, max_retries=0, _strict_response_validation=True
    ) as connected:
        yield connected


def answer_of(stream: Any) -> str:
    return "".join(choice.delta.content or "" for chunk in stream for choice in chunk.choices)


@pytest.mark.parametrize("model", ["auto", "bedrock/extractive-v1", TARGET])
def test_the_official_client_streams_from_it(client: openai.OpenAI, model: str) -> None:
    with client.chat.completions.create(model=model, messages=QUESTION, stream=True) as stream:
        assert "twelve euros" in answer_of(stream)


def test_what_is_not_streamed_is_answered_as_by_the_api(platform: Platform, client: openai.OpenAI) -> None:
    by_url = client.chat.completions.create(model=TARGET, messages=QUESTION)
    by_api = platform.openai().chat.completions.create(model=TARGET, messages=QUESTION)
    assert by_url.choices == by_api.choices
    assert by_url.usage == by_api.usage


def test_both_ways_are_settled_alike(platform: Platform, client: openai.OpenAI) -> None:
    costs = []
    for connected in (client, platform.openai()):
        request_id = f"settled-{uuid.uuid4().hex}"
        headers = {"x-request-id": request_id}
        with connected.chat.completions.create(
            model=TARGET, messages=QUESTION, stream=True, extra_headers=headers
        ) as stream:
            assert answer_of(stream)
        entry = request_log(platform, request_id)
        assert (entry["status"]["S"], entry["target"]["S"]) == ("completed", TARGET)
        costs.append((entry["key_id"], entry["output_tokens"], entry["cost_micro_usd"]))
    assert costs[0] == costs[1]
    assert Decimal(costs[0][2]["N"]) > 0


def test_a_stream_that_the_provider_cuts_is_settled(platform: Platform, client: openai.OpenAI) -> None:
    platform.fault("extractive-v1", kind="cut_stream", after_tokens=2, protocol="openai", times=1)
    request_id = f"cut-{uuid.uuid4().hex}"
    try:
        with (
            client.chat.completions.create(
                model=TARGET, messages=QUESTION, stream=True, extra_headers={"x-request-id": request_id}
            ) as stream,
            pytest.raises(openai.APIError, match="not available"),
        ):
            answer_of(stream)
    finally:
        platform.heal()
    entry = request_log(platform, request_id)
    assert entry["status"]["S"] == "failed"
    assert entry["usage_estimated"]["BOOL"]
    assert Decimal(entry["cost_micro_usd"]["N"]) > 0


def test_a_wrong_key_opens_nothing(platform: Platform, client: openai.OpenAI) -> None:
    stranger = client.with_options(api_key="sk-sluice-wrong")
    with pytest.raises(openai.AuthenticationError) as caught:
        stranger.chat.completions.create(model="auto", messages=QUESTION, stream=True)
    assert caught.value.code == "invalid_api_key"


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/chat/completions"), ("GET", "/models"), ("POST", "/embeddings")]
)
def test_the_other_routes_are_the_apis(platform: Platform, method: str, path: str) -> None:
    answer = urllib3.request(
        method,
        platform.env["SLUICE_STREAM_URL"] + path,
        headers={"authorization": f"Bearer {platform.key}"},
        retries=False,
    )
    assert (answer.status, json.loads(answer.data)["error"]["code"]) == (404, "unknown_url")


def test_everybody_may_invoke_it_by_its_url_and_only_so(platform: Platform) -> None:
    function = platform.function_name("chat_stream")
    policy = json.loads(platform.aws("lambda").get_policy(FunctionName=function, Qualifier="live")["Policy"])
    granted = {
        statement["Action"]: statement["Condition"]
        for statement in policy["Statement"]
        if statement["Principal"] == "*"
    }
    assert granted == {
        "lambda:InvokeFunctionUrl": {"StringEquals": {"lambda:FunctionUrlAuthType": "NONE"}},
        "lambda:InvokeFunction": {"Bool": {"lambda:InvokedViaFunctionUrl": "true"}},
    }
