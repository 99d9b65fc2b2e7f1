"""Tokens of special price, in the usage blocks of both protocols."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.contract.local_models.support import CHAT, Server, user

PROMPT = "The ferry leaves at seven. Bicycles travel free of charge. When does the ferry leave?"


@pytest.fixture(autouse=True)
def no_classes(server: Server) -> Iterator[None]:
    yield
    server.call("DELETE", f"/token-classes/{CHAT}")


def bedrock(server: Server) -> dict[str, Any]:
    return dict(server.bedrock.converse(modelId=CHAT, messages=user(PROMPT))["usage"])


def openai(server: Server) -> dict[str, Any]:
    answer = server.openai().chat.completions.create(model=CHAT, messages=[{"role": "user", "content": PROMPT}])
    assert answer.usage is not None
    return answer.usage.to_dict()


def test_bedrock_counts_cached_tokens_apart_from_its_input(server: Server) -> None:
    plain = bedrock(server)
    server.call(
        "PUT", f"/token-classes/{CHAT}", {"cache_read": 5, "cache_write": 4, "cache_write_1h": 1, "reasoning": 7}
    )
    sorted_ = bedrock(server)
    assert sorted_["inputTokens"] == plain["inputTokens"] - 9
    assert (sorted_["cacheReadInputTokens"], sorted_["cacheWriteInputTokens"]) == (5, 4)
    assert {part["ttl"]: part["inputTokens"] for part in sorted_["cacheDetails"]} == {"1h": 1, "5m": 3}
    assert sorted_["outputTokens"] == plain["outputTokens"] + 7
    assert sorted_["totalTokens"] == plain["totalTokens"] + 7


def test_openai_counts_them_as_parts_of_the_whole(server: Server) -> None:
    plain = openai(server)
    server.call("PUT", f"/token-classes/{CHAT}", {"cache_read": 5, "cache_write": 4, "reasoning": 7})
    sorted_ = openai(server)
    assert sorted_["prompt_tokens"] == plain["prompt_tokens"]
    assert sorted_["prompt_tokens_details"]["cached_tokens"] == 5
    assert sorted_["prompt_tokens_details"]["cache_write_tokens"] == 4
    assert sorted_["completion_tokens"] == plain["completion_tokens"] + 7
    assert sorted_["completion_tokens_details"]["reasoning_tokens"] == 7


def test_no_more_of_the_prompt_is_cached_than_there_is(server: Server) -> None:
    whole = openai(server)["prompt_tokens"]
    server.call("PUT", f"/token-classes/{CHAT}", {"cache_read": whole + 5, "cache_write": 5})
    usage = bedrock(server)
    assert (usage["inputTokens"], usage["cacheReadInputTokens"], usage["cacheWriteInputTokens"]) == (0, whole, 0)


def test_deleting_them_makes_every_token_an_ordinary_one(server: Server) -> None:
    server.call("PUT", f"/token-classes/{CHAT}", {"cache_read": 5})
    server.call("DELETE", f"/token-classes/{CHAT}")
    assert "cacheReadInputTokens" not in bedrock(server)
    assert server.call("GET", f"/token-classes/{CHAT}").json["cache_read"] == 0


@pytest.mark.parametrize("spec", [{"cache_read": -1}, {"cached": 1}, {"reasoning": "many"}])
def test_a_wrong_specification_is_refused(server: Server, spec: dict[str, Any]) -> None:
    assert server.call("PUT", f"/token-classes/{CHAT}", spec).status == 400


def test_only_the_chat_model_has_them(server: Server) -> None:
    assert server.call("PUT", "/token-classes/wordllama-256", {"cache_read": 1}).status == 400
