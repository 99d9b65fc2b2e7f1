"""The stand-in for Bedrock Guardrails: denied topics by meaning, denied words by letter, both ways."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.contract.local_models.support import CHAT, Server, drained, user

FINANCE: dict[str, Any] = {
    "version": "1",
    "denied_topics": [
        {
            "name": "Financial advice",
            "examples": [
                "Which stocks should I buy?",
                "Where should I invest my savings?",
                "Is this fund a good investment?",
            ],
        }
    ],
    "denied_words": ["Voldemort", "platform nine"],
    "blocked_input": "I may not talk about that.",
    "blocked_output": "I have to keep that to myself.",
}
CONFIG = {"guardrailIdentifier": "finance", "guardrailVersion": "1"}
CONTEXT = "The ferry leaves at seven. Bicycles travel free of charge."


@pytest.fixture(autouse=True)
def guardrail(server: Server) -> Iterator[None]:
    server.call("DELETE", "/guardrails")
    assert server.call("PUT", "/guardrails/finance", FINANCE).status == 200
    yield
    server.call("DELETE", "/guardrails")


def converse(server: Server, text: str, **more: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {"modelId": CHAT, "messages": user(text), "guardrailConfig": CONFIG, **more}
    return dict(server.bedrock.converse(**arguments))


def text_of(answer: dict[str, Any]) -> str:
    return str(answer["output"]["message"]["content"][0]["text"])


@pytest.mark.parametrize(
    "text",
    [
        "Should I buy Tesla stock now?",
        "What shares should I put my money into?",
        "Where should I invest the savings of my parents?",
        "Tell me about VOLDEMORT.",
        "When does the train leave from Platform Nine?",
    ],
)
def test_what_is_denied_on_the_way_in_never_reaches_the_model_and_costs_nothing(server: Server, text: str) -> None:
    answer = converse(server, text)
    assert answer["stopReason"] == "guardrail_intervened"
    assert text_of(answer) == "I may not talk about that."
    assert (answer["usage"]["inputTokens"], answer["usage"]["outputTokens"]) == (0, 0)


@pytest.mark.parametrize(
    "text", ["Do bicycles cost anything?", "When does the ferry leave?", "Where should I go on holiday?"]
)
def test_everything_else_is_answered_as_without_a_guardrail(server: Server, text: str) -> None:
    asked = f"{CONTEXT} {text}"
    guarded = converse(server, asked)
    bare = server.bedrock.converse(modelId=CHAT, messages=user(asked))
    assert guarded["stopReason"] == "end_turn"
    assert guarded["output"] == bare["output"]
    assert guarded["usage"] == bare["usage"]


def test_what_is_denied_on_the_way_out_is_paid_for_and_not_shown(server: Server) -> None:
    system: Any = [{"text": "The name of the stranger is Voldemort."}]
    answer = converse(server, "What is the name of the stranger?", system=system)
    assert answer["stopReason"] == "guardrail_intervened"
    assert text_of(answer) == "I have to keep that to myself."
    assert answer["usage"]["outputTokens"] > 0


def test_a_stream_is_held_back_until_it_is_cleared(server: Server) -> None:
    arguments: dict[str, Any] = {
        "modelId": CHAT,
        "system": [{"text": "The name of the stranger is Voldemort."}],
        "messages": user("What is the name of the stranger?"),
        "guardrailConfig": CONFIG,
    }
    events: list[dict[str, Any]] = [
        dict(event) for event in drained(server.bedrock.converse_stream(**arguments)["stream"])
    ]
    text = "".join(e["contentBlockDelta"]["delta"]["text"] for e in events if "contentBlockDelta" in e)
    assert text == "I have to keep that to myself."
    assert next(e["messageStop"]["stopReason"] for e in events if "messageStop" in e) == "guardrail_intervened"


def test_an_arn_names_a_guardrail_too(server: Server) -> None:
    config = {**CONFIG, "guardrailIdentifier": "arn:aws:bedrock:us-east-1:123456789012:guardrail/finance"}
    assert converse(server, "Should I buy stocks?", guardrailConfig=config)["stopReason"] == "guardrail_intervened"


@pytest.mark.parametrize(
    "config", [{**CONFIG, "guardrailVersion": "2"}, {**CONFIG, "guardrailIdentifier": "other"}], ids=["version", "id"]
)
def test_a_guardrail_that_does_not_exist_is_refused_as_bedrock_does(server: Server, config: dict[str, str]) -> None:
    with pytest.raises(ClientError) as refused:
        converse(server, "Hello.", guardrailConfig=config)
    assert refused.value.response["Error"]["Code"] == "ValidationException"
    assert "guardrail identifier or version" in refused.value.response["Error"]["Message"]


@pytest.mark.parametrize(
    "spec", [{"version": ""}, {"denied_topics": [{"name": "x", "examples": []}]}, {"words": ["x"]}, []]
)
def test_a_wrong_specification_is_refused(server: Server, spec: Any) -> None:
    answer = server.call("PUT", "/guardrails/other", spec)
    assert answer.status == 400
    assert "not a guardrail" in answer.json["error"]


def test_they_can_be_listed_and_deleted(server: Server) -> None:
    assert [one["id"] for one in server.call("GET", "/guardrails").json["guardrails"]] == ["finance"]
    assert server.call("DELETE", "/guardrails/finance").json == {"deleted": 1}
    assert server.call("GET", "/guardrails").json == {"guardrails": []}
