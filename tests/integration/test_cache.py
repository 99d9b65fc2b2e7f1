"""Answers from the cache: for the same key and question only, at no cost, and under the model that gave them."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest

from tests.integration.governance import Key, micro, settled
from tests.integration.support import Answer, Platform, eventually
from tests.integration.test_idempotency import provider_calls

MODEL = "extractive-v1"
ON = {"x-sluice-cache": "on"}


def question(**fields: object) -> dict[str, Any]:
    """A chat that nobody has asked before."""
    text = f"The {uuid.uuid4().hex} lamp is green. Which colour has the lamp?"
    return {"model": "cached", "messages": [{"role": "user", "content": text}], **fields}


def ask(key: Key, body: dict[str, Any], headers: dict[str, str] | None = None) -> Answer:
    answer = key.served("POST", "/chat/completions", body, headers=headers)
    assert answer.status == 200, answer.body
    return answer


def statuses(key: Key, body: dict[str, Any], *headers: dict[str, str]) -> list[str]:
    return [ask(key, body, each).headers["x-sluice-cache"] for each in headers]


def test_a_hit_is_the_same_answer_at_no_cost(healthy: Platform) -> None:
    key, body = Key.new(healthy, rpm=1000, tpm=100_000, total_budget_usd="1"), question()
    before = provider_calls(healthy, MODEL)
    first = ask(key, body)
    spent = settled(key, within_s=5)
    hit = ask(key, body)
    assert provider_calls(healthy, MODEL) - before == 1
    assert first.headers["x-sluice-cache"] == "miss"
    assert hit.headers["x-sluice-cache"] == "hit"
    assert 0 <= int(hit.headers["age"]) <= 60
    assert hit.headers["x-sluice-cost-usd"] == "0"
    assert hit.headers["x-sluice-target"] == first.headers["x-sluice-target"]
    assert hit.body["choices"] == first.body["choices"]
    assert hit.body["model"] == first.body["model"]

    usage = settled(key, within_s=5)
    assert usage["cost_usd"] == spent["cost_usd"] != "0"
    assert usage["requests"] == spent["requests"] + 1
    assert (usage["input_tokens"], usage["output_tokens"]) == (spent["input_tokens"], spent["output_tokens"])
    assert micro(usage["cost_usd"]) == key.logged_cost()
    assert sorted(entry.get("cached", {}).get("BOOL", False) for entry in key.log()) == [False, True]


def test_a_hit_counts_as_a_request_of_the_minute(healthy: Platform) -> None:
    key, body = Key.new(healthy, rpm=1000, tpm=100_000), question()
    answers = [ask(key, body) for _ in range(3)]
    left = [int(answer.headers["x-ratelimit-remaining-requests"]) for answer in answers]
    resets = [answer.headers["x-ratelimit-reset-requests"] for answer in answers]
    if len({len(reset) for reset in resets}) == 1 and resets == sorted(resets, reverse=True):  # all in one minute
        assert left == [999, 998, 997]


def test_nothing_is_cached_unless_asked_for(healthy: Platform) -> None:
    key, body = Key.new(healthy), question(model="auto")
    assert statuses(key, body, {}, {}) == ["bypass", "bypass"]
    assert statuses(key, body, ON, ON, {}) == ["miss", "hit", "bypass"]


def test_a_request_can_ask_anew_or_not_at_all(healthy: Platform) -> None:
    key, body = Key.new(healthy), question()
    before = provider_calls(healthy, MODEL)
    asked = statuses(key, body, {}, {"x-sluice-cache": "off"}, {"x-sluice-cache": "refresh"}, {})
    assert asked == ["miss", "bypass", "refresh", "hit"]
    assert provider_calls(healthy, MODEL) - before == 3


def test_an_answer_is_forgotten_when_its_time_is_over(healthy: Platform) -> None:
    key, body = Key.new(healthy), question(model="auto")
    brief = {**ON, "x-sluice-cache-ttl": "3"}
    assert statuses(key, body, brief) == ["miss"]
    eventually(lambda: "miss" in statuses(key, body, brief) or None, within_s=15, what="the answer is forgotten")


@pytest.mark.parametrize(
    ("name", "value"), [("x-sluice-cache", "always"), ("x-sluice-cache-ttl", "0"), ("x-sluice-cache-ttl", "1h")]
)
def test_a_header_without_a_meaning_is_refused(healthy: Platform, name: str, value: str) -> None:
    refused = Key.new(healthy).served("POST", "/chat/completions", question(), headers={name: value})
    assert refused.status == 400
    assert refused.body["error"]["param"] == name


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 0.3},
        {"max_completion_tokens": 40},
        {"stop": ["x"]},
        {"seed": 7},
        {"response_format": {"type": "json_object"}},
    ],
    ids=str,
)
def test_another_question_is_asked(healthy: Platform, change: dict[str, Any]) -> None:
    key, body = Key.new(healthy), question()
    assert statuses(key, body, {}) == ["miss"]
    answer = key.served("POST", "/chat/completions", {**body, **change})
    assert answer.headers["x-sluice-cache"] == "miss"


def test_labels_make_no_other_question(healthy: Platform) -> None:
    key, body = Key.new(healthy), question()
    assert statuses(key, body, {}) == ["miss"]
    assert statuses(key, {**body, "user": "u1", "metadata": {"team": "a"}}, {}) == ["hit"]


def test_two_keys_never_share_an_answer(healthy: Platform) -> None:
    body = question()
    one, other = Key.new(healthy), Key.new(healthy)
    assert statuses(one, body, {}, {}) == ["miss", "hit"]
    assert statuses(other, body, {}) == ["miss"]


def test_a_stream_comes_back_as_a_stream(healthy: Platform) -> None:
    key, body = Key.new(healthy), question(stream=True, stream_options={"include_usage": True})
    before = provider_calls(healthy, MODEL)
    first, hit = ask(key, body), ask(key, body)
    assert provider_calls(healthy, MODEL) - before == 1
    assert hit.headers["x-sluice-cache"] == "hit"
    assert hit.headers["content-type"].startswith("text/event-stream")
    assert hit.raw.rstrip().endswith(b"data: [DONE]")
    assert text_of(first) == text_of(hit) != ""


def text_of(stream: Answer) -> str:
    """What a stream says, all of its chunks together."""
    events = [line.removeprefix("data: ") for line in stream.raw.decode().splitlines() if line.startswith("data: {")]
    choices = [choice for event in events for choice in json.loads(event)["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def test_a_stream_that_broke_off_is_not_kept(healthy: Platform) -> None:
    key, body = Key.new(healthy), question(stream=True)
    healthy.fault(MODEL, kind="cut_stream", after_tokens=1)
    ask(key, body)
    healthy.heal()
    assert statuses(key, body, {}, {}) == ["miss", "hit"]


def test_an_answer_belongs_to_the_model_that_gave_it(healthy: Platform) -> None:
    """The first target fails: what the second one says is not what the first would have said."""
    key, body = Key.new(healthy), question()
    healthy.fault(MODEL, kind="error", status=500, protocol="bedrock")
    second = ask(key, body)
    assert (second.headers["x-sluice-target"], second.headers["x-sluice-cache"]) == ("openai/extractive-v1", "miss")
    healthy.heal()
    first = ask(key, body)
    assert (first.headers["x-sluice-target"], first.headers["x-sluice-cache"]) == ("bedrock/extractive-v1", "miss")
    of_the_second = ask(key, {**body, "model": "openai/extractive-v1"}, ON)
    assert (of_the_second.headers["x-sluice-target"], of_the_second.headers["x-sluice-cache"]) == (
        "openai/extractive-v1",
        "hit",
    )


def test_a_large_answer_comes_from_the_bucket(healthy: Platform) -> None:
    key = Key.new(healthy)
    body = {"model": "embed", "input": [f"{uuid.uuid4().hex} number {number}" for number in range(40)]}
    answers = [key.served("POST", "/embeddings", body, headers=ON) for _ in range(2)]
    assert [answer.headers["x-sluice-cache"] for answer in answers] == ["miss", "hit"]
    assert answers[0].body["data"] == answers[1].body["data"]
    bucket = {"Bucket": healthy.env["SLUICE_BUCKET"], "Prefix": f"responses/{key.id}/"}
    assert healthy.aws("s3").list_objects_v2(**bucket)["KeyCount"] == 1


def test_a_hit_is_given_when_every_target_is_down(healthy: Platform) -> None:
    key, body = Key.new(healthy), question()
    ask(key, body)
    healthy.fault(MODEL, kind="error", status=500)
    assert statuses(key, body, {}) == ["hit"]


def test_a_cached_answer_costs_a_spent_key_nothing(healthy: Platform) -> None:
    """There is money for a few answers, and for as many hits as anybody likes."""
    priced = question(model="openai/extractive-v1", max_completion_tokens=16)
    probe = ask(Key.new(healthy), priced)
    budget = micro(probe.headers["x-sluice-cost-usd"]) * 6
    key = Key.new(healthy, total_budget_usd=f"{budget / 1_000_000:f}")
    ask(key, priced, ON)
    others = (question(model=priced["model"], max_completion_tokens=16) for _ in range(20))
    assert any(key.served("POST", "/chat/completions", other).status == 429 for other in others)
    assert statuses(key, priced, ON, ON) == ["hit", "hit"]
