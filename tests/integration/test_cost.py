"""What a request costs, as the ledger, the header and an independent computation have it.

The computation here shares no code with the product. It starts from the usage block that the model server sends for
the same request, in the words of its protocol, and from the rates as they stand in the table.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
import urllib3

from tests.integration.support import Platform, eventually

CHAT = "extractive-v1"
SHORT = "The museum opens at nine. Admission is twelve euros."
# More than the 400 tokens from which on the priced targets have other rates.
LONG = " ".join(f"Room {number} of the museum shows the paintings of that year." for number in range(60))
QUESTION = "What does admission cost?"
CLASSES: dict[str, dict[str, int]] = {
    "none": {},
    "cache read": {"cache_read": 5},
    "cache write": {"cache_write": 7},
    "cache write, one hour": {"cache_write": 7, "cache_write_1h": 4},
    "reasoning": {"reasoning": 11},
    "all": {"cache_read": 5, "cache_write": 7, "cache_write_1h": 3, "reasoning": 11},
    "more than there is": {"cache_read": 1_000_000, "cache_write": 10, "reasoning": 1},
}
SCHEMA = {
    "type": "object",
    "properties": {"price": {"type": "string"}, "currency": {"type": "string"}},
    "required": ["price", "currency"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "admission", "schema": SCHEMA, "strict": True}}


class Provider:
    """The model server, asked directly."""

    def __init__(self, platform: Platform) -> None:
        self.url = platform.env["SLUICE_MODELS_URL"]
        self._http = urllib3.PoolManager(retries=False, timeout=30)

    def put(self, path: str, spec: object) -> None:
        """Set something on its control plane."""
        answer = self._http.request("PUT", self.url + path, body=json.dumps(spec).encode())
        assert answer.status == 200, answer.data

    def delete(self, path: str) -> None:
        """Unset it."""
        assert self._http.request("DELETE", self.url + path).status == 200

    def usage(self, protocol: str, system: str) -> dict[str, Any]:
        """The usage block of the question after ``system``, as the protocol words it."""
        if protocol == "bedrock":
            path, headers = f"/model/{CHAT}/converse", {}
            body: dict[str, Any] = {
                "system": [{"text": system}],
                "messages": [{"role": "user", "content": [{"text": QUESTION}]}],
            }
        else:
            path, headers = "/openai/v1/chat/completions", {"authorization": "Bearer local-models-key"}
            body = {"model": CHAT, "messages": conversation(system)}
        answer = self._http.request(
            "POST",
            self.url + path,
            body=json.dumps(body).encode(),
            headers={"content-type": "application/json", **headers},
        )
        assert answer.status == 200, answer.data
        return dict(json.loads(answer.data)["usage"])


@pytest.fixture
def provider(healthy: Platform) -> Iterator[Provider]:
    provider = Provider(healthy)
    yield provider
    provider.delete(f"/token-classes/{CHAT}")


def conversation(system: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": system}, {"role": "user", "content": QUESTION}]


def ask(platform: Platform, path: str, body: dict[str, Any]) -> tuple[int, dict[str, str], str, str]:
    """Status, headers and body of a request, and its id."""
    request_id = f"cost-{time.time_ns()}"
    answer = urllib3.PoolManager(retries=False, timeout=60).request(
        "POST",
        platform.url + path,
        body=json.dumps(body).encode(),
        headers={
            "content-type": "application/json",
            "authorization": f"Bearer {platform.key}",
            "x-request-id": request_id,
        },
    )
    headers = {name.lower(): value for name, value in answer.headers.items()}
    return answer.status, headers, answer.data.decode(), request_id


def ledger(platform: Platform, request_id: str) -> dict[str, Any]:
    """The log entry of a request as plain values, numbers exact."""
    table = platform.aws("dynamodb")

    def find() -> dict[str, Any] | None:
        pages = table.get_paginator("scan").paginate(TableName=platform.env["SLUICE_TABLE"], ConsistentRead=True)
        entries = (item for page in pages for item in page["Items"] if item["pk"]["S"].startswith("REQ#"))
        found = next((item for item in entries if item["request_id"]["S"] == request_id), None)
        return {name: plain(value) for name, value in found.items()} if found else None

    return eventually(find, within_s=5, what=f"a log entry of {request_id}")


def plain(attribute: dict[str, Any]) -> Any:
    [(kind, value)] = attribute.items()
    match kind:
        case "N":
            return Decimal(value)
        case "M":
            return {name: plain(one) for name, one in value.items()}
        case "L":
            return [plain(one) for one in value]
        case _:
            return value


def price_of(platform: Platform, target: str) -> dict[str, Any]:
    """The target's price as the table has it, every rate a decimal."""
    item = platform.aws("dynamodb").get_item(
        TableName=platform.env["SLUICE_TABLE"], Key={"pk": {"S": "ROUTES"}, "sk": {"S": f"TARGET#{target}"}}
    )["Item"]
    return {name: value if name == "version" else exact(value) for name, value in plain(item["price"]).items()}


def exact(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: exact(one) for name, one in value.items()}
    return [exact(one) for one in value] if isinstance(value, list) else Decimal(value)


def classes_of(usage: dict[str, Any]) -> dict[str, int]:
    """Tokens by class, out of either protocol's usage block."""
    if "inputTokens" in usage:
        read, written = usage.get("cacheReadInputTokens", 0), usage.get("cacheWriteInputTokens", 0)
        hour = sum(part["inputTokens"] for part in usage.get("cacheDetails", []) if part["ttl"] == "1h")
        return {
            "plain": usage["inputTokens"],
            "read": read,
            "written": written - hour,
            "hour": hour,
            "output": usage["outputTokens"],
            # Converse says nothing of reasoning: it is output like any other.
            "reasoning": 0,
        }
    details, spent = usage["prompt_tokens_details"], usage["completion_tokens_details"]
    read, written = details["cached_tokens"], details["cache_write_tokens"]
    return {
        "plain": usage["prompt_tokens"] - read - written,
        "read": read,
        "written": written,
        "hour": 0,
        "output": usage["completion_tokens"] - spent["reasoning_tokens"],
        "reasoning": spent["reasoning_tokens"],
    }


def cost(tokens: dict[str, int], price: dict[str, Any]) -> Decimal:
    """Micro-dollars."""
    prompt = tokens["plain"] + tokens["read"] + tokens["written"] + tokens["hour"]
    rates = price
    for tier in price.get("tiers", []):
        if prompt > tier["above_input_tokens"]:
            rates = tier
    rate_in, rate_out = rates["input_per_mtok"], rates["output_per_mtok"]
    rate_write = rates.get("cache_write_per_mtok", rate_in)
    total: Decimal = (
        tokens["plain"] * rate_in
        + tokens["read"] * rates.get("cache_read_per_mtok", rate_in)
        + tokens["written"] * rate_write
        + tokens["hour"] * rates.get("cache_write_1h_per_mtok", rate_write)
        + tokens["output"] * rate_out
        + tokens["reasoning"] * rates.get("reasoning_per_mtok", rate_out)
        + price.get("per_request_usd", Decimal(0)) * 1_000_000
    )
    return total


@pytest.mark.parametrize("classes", CLASSES.values(), ids=CLASSES.keys())
@pytest.mark.parametrize("protocol", ["bedrock", "openai"])
@pytest.mark.parametrize("system", [SHORT, LONG], ids=["short", "long"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_the_ledger_has_the_price_of_every_class_of_tokens(
    healthy: Platform, provider: Provider, classes: dict[str, int], protocol: str, system: str, stream: bool
) -> None:
    provider.put(f"/token-classes/{CHAT}", classes)
    usage = provider.usage(protocol, system)
    tokens = classes_of(usage)
    target = f"{protocol}/extractive-v1-priced"
    body = {"model": target, "messages": conversation(system), "stream": stream}
    status, headers, _, request_id = ask(healthy, "/chat/completions", body)
    assert status == 200
    entry = ledger(healthy, request_id)
    expected = cost(tokens, price_of(healthy, target))
    assert entry["cost_micro_usd"] == expected
    assert Decimal(headers["x-sluice-cost-usd"]) * 1_000_000 == expected
    assert entry["price_version"] == "2026-11-20"
    assert entry["input_tokens"] == tokens["plain"] + tokens["read"] + tokens["written"] + tokens["hour"]
    assert entry["output_tokens"] == tokens["output"] + tokens["reasoning"]
    stored = [entry.get(name, 0) for name in ("cache_read_tokens", "cache_write_tokens", "cache_write_1h_tokens")]
    assert stored == [tokens["read"], tokens["written"] + tokens["hour"], tokens["hour"]]
    assert entry.get("reasoning_tokens", 0) == tokens["reasoning"]
    assert "usage_estimated" not in entry


def test_the_long_prompt_really_is_in_another_tier(healthy: Platform, provider: Provider) -> None:
    assert provider.usage("openai", SHORT)["prompt_tokens"] < 400 < provider.usage("openai", LONG)["prompt_tokens"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/completions", {"model": "bedrock/extractive-v1", "prompt": f"{SHORT} {QUESTION}"}),
        ("/chat", {"model": "openai/extractive-v1", "prompt": f"{SHORT} {QUESTION}"}),
        ("/embeddings", {"model": "embed", "input": [SHORT, QUESTION]}),
        ("/classify", {"model": "bedrock/wordllama-256", "input": SHORT, "labels": ["culture", "sport"]}),
    ],
    ids=["completions", "chat", "embeddings", "classify"],
)
def test_every_other_route_is_billed_by_the_same_rates(
    healthy: Platform, provider: Provider, path: str, body: dict[str, Any]
) -> None:
    status, headers, _, request_id = ask(healthy, path, body)
    assert status == 200
    entry = ledger(healthy, request_id)
    price = price_of(healthy, entry["target"])
    calls = entry.get("charges", [entry])
    expected = sum(
        Decimal(call["input_tokens"]) * price["input_per_mtok"]
        + Decimal(call["output_tokens"]) * price["output_per_mtok"]
        for call in calls
    )
    assert entry["input_tokens"] > 0
    assert entry["cost_micro_usd"] == expected
    assert Decimal(headers["x-sluice-cost-usd"]) * 1_000_000 == expected


def test_an_unknown_price_is_an_unknown_cost_and_not_a_free_one(healthy: Platform) -> None:
    body = {"model": "openai/extractive-v1-small", "messages": conversation(SHORT)}
    status, headers, _, request_id = ask(healthy, "/chat/completions", body)
    entry = ledger(healthy, request_id)
    assert status == 200
    assert entry["input_tokens"] > 0
    assert not {"cost_micro_usd", "price_version"} & entry.keys()
    assert "x-sluice-cost-usd" not in headers


def test_a_price_of_zero_is_known(healthy: Platform) -> None:
    _, headers, _, request_id = ask(healthy, "/score", {"model": "in-process/lead-scorer", "features": [0.5] * 50})
    assert ledger(healthy, request_id)["cost_micro_usd"] == 0
    assert headers["x-sluice-cost-usd"] == "0"


@pytest.mark.parametrize("protocol", ["bedrock", "openai"])
def test_a_stream_that_is_cut_is_billed_by_an_estimate_that_says_so(healthy: Platform, protocol: str) -> None:
    healthy.fault(CHAT, kind="cut_stream", after_tokens=2, times=1)
    target = f"{protocol}/extractive-v1-priced"
    _, headers, text, request_id = ask(
        healthy, "/chat/completions", {"model": target, "messages": conversation(SHORT), "stream": True}
    )
    assert '"error"' in text
    entry = ledger(healthy, request_id)
    assert (entry["status"], entry["usage_estimated"]) == ("failed", True)
    price = price_of(healthy, target)
    expected = (
        entry["input_tokens"] * price["input_per_mtok"]
        + entry["output_tokens"] * price["output_per_mtok"]
        + price["per_request_usd"] * 1_000_000
    )
    assert entry["cost_micro_usd"] == expected
    assert Decimal(headers["x-sluice-cost-usd"]) * 1_000_000 == expected
    assert abs(entry["input_tokens"] - len(SHORT + QUESTION) // 4) < 10


@pytest.mark.parametrize("protocol", ["bedrock", "openai"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_an_answer_that_does_not_fit_is_repaired_once_and_both_answers_are_billed(
    healthy: Platform, provider: Provider, protocol: str, stream: bool
) -> None:
    provider.put(f"/token-classes/{CHAT}", CLASSES["all"])
    healthy.fault(CHAT, kind="prose", times=1)
    target = f"{protocol}/extractive-v1-priced"
    body = {"model": target, "messages": conversation(SHORT), "response_format": FORMAT, "stream": stream}
    status, headers, text, request_id = ask(healthy, "/chat/completions", body)
    assert status == 200
    assert set(json.loads(content(text, stream=stream))) == {"price", "currency"}
    assert headers["x-sluice-attempts"] == "2"
    assert_both_billed(healthy, request_id, headers, target)


def test_an_answer_that_does_not_fit_a_second_time_is_refused_and_both_are_billed(healthy: Platform) -> None:
    healthy.fault(CHAT, kind="prose")
    target = "openai/extractive-v1-priced"
    body = {"model": target, "messages": conversation(SHORT), "response_format": FORMAT}
    status, headers, text, request_id = ask(healthy, "/chat/completions", body)
    error = json.loads(text)["error"]
    assert (status, error["code"], error["param"]) == (502, "invalid_model_output", "response_format")
    assert headers["x-should-retry"] == "false"
    entry = assert_both_billed(healthy, request_id, headers, target)
    assert (entry["status"], entry["error_code"]) == ("failed", "invalid_model_output")


def assert_both_billed(platform: Platform, request_id: str, headers: dict[str, str], target: str) -> dict[str, Any]:
    entry = ledger(platform, request_id)
    price = price_of(platform, target)
    assert len(entry["charges"]) == 2
    costs = []
    for call in entry["charges"]:
        hour, read, thought = (
            call.get(name, 0) for name in ("cache_write_1h_tokens", "cache_read_tokens", "reasoning_tokens")
        )
        written = call.get("cache_write_tokens", 0)
        tokens = {
            "plain": call["input_tokens"] - read - written,
            "read": read,
            "written": written - hour,
            "hour": hour,
            "output": call["output_tokens"] - thought,
            "reasoning": thought,
        }
        assert call["cost_micro_usd"] == cost(tokens, price)
        costs.append(call["cost_micro_usd"])
    assert entry["charges"][1]["input_tokens"] > entry["charges"][0]["input_tokens"]
    assert entry["cost_micro_usd"] == sum(costs)
    assert Decimal(headers["x-sluice-cost-usd"]) * 1_000_000 == sum(costs)
    for name in ("input_tokens", "output_tokens"):
        assert entry[name] == sum(call[name] for call in entry["charges"])
    return entry


def content(text: str, *, stream: bool) -> str:
    """The answer's text out of a document or out of server-sent events."""
    if not stream:
        return str(json.loads(text)["choices"][0]["message"]["content"])
    events = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: {")]
    return "".join(
        choice["delta"].get("content") or "" for event in events for choice in json.loads(event).get("choices", [])
    )


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "objekt"}, "not a valid JSON Schema"),
        ({"$ref": "https://example.com/schema.json"}, "part of itself"),
        ({"description": "x" * 70_000}, "64 KiB"),
    ],
)
def test_a_schema_that_cannot_be_checked_is_refused_before_any_model_is_asked(
    healthy: Platform, schema: dict[str, Any], words: str
) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    status, _, text, _ = ask(
        healthy, "/chat/completions", {"model": "auto", "messages": conversation(SHORT), "response_format": form}
    )
    error = json.loads(text)["error"]
    assert (status, error["code"], error["param"]) == (400, "invalid_json_schema", "response_format")
    assert words in error["message"]


def test_a_guardrail_that_steps_in_ends_the_answer_as_filtered_and_costs_no_tokens(healthy: Platform) -> None:
    target = "bedrock/extractive-v1-guarded"
    messages = [{"role": "user", "content": "Which stocks should I buy now?"}]
    for stream in (False, True):
        body = {"model": target, "messages": messages, "stream": stream}
        status, _, text, request_id = ask(healthy, "/chat/completions", body)
        assert status == 200
        assert '"finish_reason":"content_filter"' in text
        assert content(text, stream=stream) == "Sorry, the model cannot answer this question."
        entry = ledger(healthy, request_id)
        assert (entry["input_tokens"], entry["output_tokens"], entry["cost_micro_usd"]) == (0, 0, 0)


def test_a_guardrail_lets_everything_else_pass(healthy: Platform) -> None:
    answer = healthy.openai().chat.completions.create(
        model="bedrock/extractive-v1-guarded", messages=[{"role": "user", "content": f"{SHORT} {QUESTION}"}]
    )
    assert "twelve euros" in (answer.choices[0].message.content or "")
    assert answer.choices[0].finish_reason == "stop"


def test_a_body_that_is_too_large_is_refused_with_the_limit(healthy: Platform) -> None:
    body = {"model": "auto", "messages": [{"role": "user", "content": "x" * 3_000_000}]}
    status, _, text, _ = ask(healthy, "/chat/completions", body)
    assert (status, json.loads(text)["error"]["code"]) == (413, "request_too_large")


@pytest.mark.parametrize(("model", "asked"), [("openai/extractive-v1-small", 17), ("auto", 1_000_000)])
def test_more_output_than_can_be_had_is_refused_with_the_limit(healthy: Platform, model: str, asked: int) -> None:
    body = {"model": model, "messages": conversation(SHORT), "max_completion_tokens": asked}
    status, _, text, _ = ask(healthy, "/chat/completions", body)
    error = json.loads(text)["error"]
    assert (status, error["code"]) == (400, "max_tokens_too_large")
    assert error["param"] in {"max_tokens", "max_completion_tokens"}


def test_who_names_no_limit_gets_the_targets_own(healthy: Platform) -> None:
    body = {"model": "openai/extractive-v1-small", "messages": [{"role": "user", "content": f"Summarise: {LONG}"}]}
    _, _, text, _ = ask(healthy, "/chat/completions", body)
    answer = json.loads(text)
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] <= 16
