"""What is sent to Bedrock and what the local models answer, held against botocore's own model of the service."""

from __future__ import annotations

import json
from typing import Any

import boto3
import msgspec
import pytest
import urllib3
from botocore.session import Session
from botocore.validate import ParamValidator

from local.models import eventstream
from sluice.adapters import bedrock_converse
from sluice.adapters.bedrock import Bedrock
from sluice.domain.inference import (
    ChatRequest,
    Message,
    NamedTool,
    Operation,
    ReasoningDelta,
    ResponseFormat,
    TextDelta,
    ToolCall,
)
from sluice.domain.routing import Guardrail, Target
from tests.contract.local_models.support import CHAT, Server
from tests.contract.providers.test_chat_features import CALLING, ORDERS, PERSON, QUESTION, STORY, WEATHER
from tests.contract.providers.test_openai_compatible import answering, http

SERVICE = Session().get_service_model("bedrock-runtime")
TARGET = Target(
    name="bedrock/extractive-v1",
    provider="bedrock",
    model=CHAT,
    operations=(Operation.CHAT,),
    max_output_tokens=500,
    guardrail=Guardrail(id="abc123", version="1"),
)
CALL = ToolCall(id="call_1", name="get_weather", arguments='{"city":"Paris"}')
HISTORY = (
    QUESTION,
    Message("assistant", "", (CALL,)),
    Message("tool", '{"temperature": 18}', tool_call_id="call_1"),
    Message("tool", "", tool_call_id="call_2"),
    Message("user", "And?"),
)
SCHEMA = ResponseFormat(type="json_schema", name="person", description="d", schema=PERSON, strict=True)
REQUESTS = {
    "text": ChatRequest(model="auto", messages=(QUESTION,)),
    "instructions alone": ChatRequest(model="auto", messages=(Message("system", "Go."),)),
    "every setting": ChatRequest(
        model="auto",
        messages=(Message("system", "Be brief."), Message("system", " "), QUESTION, QUESTION),
        max_tokens=5,
        temperature=1.0,
        top_p=0.5,
        stop=("a", "b"),
        seed=7,
        user="u",
        metadata={"team": "blue", "~": "x"},
    ),
    "tools": CALLING,
    "a tool that has to be called": msgspec.structs.replace(CALLING, tool_choice="required"),
    "a named tool": msgspec.structs.replace(CALLING, tool_choice=NamedTool("get_weather")),
    "tool results": msgspec.structs.replace(CALLING, messages=HISTORY),
    "tool results without tools": ChatRequest(model="auto", messages=HISTORY),
    "a strict tool": msgspec.structs.replace(CALLING, tools=(msgspec.structs.replace(ORDERS, strict=True),)),
    "a schema": ChatRequest(model="auto", messages=(STORY,), response_format=SCHEMA),
    "any JSON": ChatRequest(model="auto", messages=(STORY,), response_format=ResponseFormat(type="json_object")),
}


def problems(value: Any, shape: Any) -> str:
    report: str = ParamValidator().validate(value, shape).generate_report()
    return report


@pytest.mark.parametrize("operation", ["Converse", "ConverseStream"])
@pytest.mark.parametrize("name", REQUESTS)
def test_what_is_sent_has_the_shape_of_the_service(operation: str, name: str) -> None:
    arguments = bedrock_converse.arguments(TARGET, REQUESTS[name])
    shape: Any = SERVICE.operation_model(operation).input_shape
    assert problems(arguments, shape) == ""
    # The validator does not mind what it does not know, and would miss a misspelt name.
    assert set(arguments) <= set(shape.members)
    for member in ("inferenceConfig", "toolConfig", "outputConfig", "guardrailConfig"):
        assert set(arguments.get(member, {})) <= set(shape.members[member].members)


def test_turns_alternate_and_results_come_first() -> None:
    turns = bedrock_converse.arguments(TARGET, REQUESTS["tool results"])["messages"]
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user"]
    assert [next(iter(block)) for block in turns[2]["content"]] == ["toolResult", "toolResult", "text"]
    assert turns[1]["content"] == [
        {"toolUse": {"toolUseId": "call_1", "name": "get_weather", "input": {"city": "Paris"}}}
    ]


def test_a_schema_is_passed_on_as_it_is() -> None:
    arguments = bedrock_converse.arguments(TARGET, REQUESTS["a schema"])
    sent = arguments["outputConfig"]["textFormat"]["structure"]["jsonSchema"]
    assert (json.loads(sent["schema"]), sent["name"]) == (PERSON, "person")


@pytest.mark.parametrize("tools", [(), (WEATHER,)])
def test_the_local_models_answer_in_the_shape_of_the_service(model_server: Server, tools: tuple[Any, ...]) -> None:
    model_server.call("DELETE", "/faults")
    target = msgspec.structs.replace(TARGET, guardrail=None)
    request = ChatRequest(model="auto", messages=(QUESTION,), tools=tools)
    body = bedrock_converse.arguments(target, request)
    del body["modelId"]
    answer = urllib3.request("POST", f"{model_server.url}/model/{CHAT}/converse", json=body)
    assert answer.status == 200
    assert problems(answer.json(), SERVICE.operation_model("Converse").output_shape) == ""


def test_reasoning_is_output_with_and_without_its_text() -> None:
    deltas = [
        {"reasoningContent": {"text": "Hm."}},
        {"reasoningContent": {"redactedContent": "aGlkZGVu"}},
        {"reasoningContent": {"signature": "c2lnbmVk"}},
        {"text": "Hello"},
    ]
    usage = {"usage": {"inputTokens": 5, "outputTokens": 9, "totalTokens": 14}, "metrics": {"latencyMs": 5}}
    body = b"".join(
        eventstream.event(name, json.dumps(payload).encode())
        for name, payload in [
            ("messageStart", {"role": "assistant"}),
            *(("contentBlockDelta", {"contentBlockIndex": 0, "delta": delta}) for delta in deltas),
            ("messageStop", {"stopReason": "end_turn"}),
            ("metadata", usage),
        ]
    )
    with answering(http(body, "200 OK", f"Content-Type: {eventstream.MEDIA_TYPE}")) as url:
        client = boto3.client("bedrock-runtime", endpoint_url=url, region_name="us-east-1")
        adapter = Bedrock(lambda _timeout_s: client, longest_timeout_s=20)
        *pieces, _end = adapter.stream(TARGET, REQUESTS["text"], timeout_s=5)
    assert pieces == [ReasoningDelta("Hm."), ReasoningDelta(""), ReasoningDelta(""), TextDelta("Hello")]
