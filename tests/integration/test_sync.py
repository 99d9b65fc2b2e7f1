"""Sync mode through the public API, as an OpenAI client and a plain HTTP client see it."""

from __future__ import annotations

import base64
import datetime as dt
import struct
import time
from decimal import Decimal
from typing import TYPE_CHECKING

import openai
import pytest

from tests.integration.support import Platform, eventually

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionMessageParam

CONTEXT = "The museum opens at nine. Admission is twelve euros. The cafe serves lunch until three."
CHAT_MODELS = ["auto", "fast", "cheap", "bedrock/extractive-v1", "openai/extractive-v1"]
EMBEDDING_MODELS = ["embed", "bedrock/wordllama-256", "openai/wordllama-256"]


def ask(question: str) -> list[ChatCompletionMessageParam]:
    """A conversation whose answer is in its context."""
    return [{"role": "system", "content": CONTEXT}, {"role": "user", "content": question}]


def routes(platform: Platform, *kinds: str) -> list[dict[str, dict[str, str]]]:
    """The aliases and targets that Terraform wrote."""
    return [item for item in platform.items("ROUTES") if item["sk"]["S"].startswith(kinds)]


def request_log(platform: Platform, request_id: str) -> dict[str, dict[str, str]]:
    """The log entry of a request, wherever its shard is."""
    table = platform.aws("dynamodb")

    def find() -> dict[str, dict[str, str]] | None:
        pages = table.get_paginator("scan").paginate(TableName=platform.env["SLUICE_TABLE"], ConsistentRead=True)
        entries = (item for page in pages for item in page["Items"] if item["pk"]["S"].startswith("REQ#"))
        return next((item for item in entries if item["request_id"]["S"] == request_id), None)

    return eventually(find, within_s=5, what=f"a log entry of {request_id}")


@pytest.mark.parametrize("model", CHAT_MODELS)
def test_the_official_client_gets_an_answer_drawn_from_its_context(platform: Platform, model: str) -> None:
    answer = platform.openai().chat.completions.create(model=model, messages=ask("What does admission cost?"))
    assert "twelve euros" in (answer.choices[0].message.content or "")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 10


@pytest.mark.parametrize("model", EMBEDDING_MODELS)
def test_the_official_client_gets_embeddings_that_mean_something(platform: Platform, model: str) -> None:
    texts = ["a dog runs in the park", "a puppy is running outside", "quarterly tax accounting rules"]
    answer = platform.openai().embeddings.create(model=model, input=texts, encoding_format="float")
    dog, puppy, tax = (entry.embedding for entry in answer.data)

    def cosine(a: list[float], b: list[float]) -> float:
        norm = sum(x * x for x in a) ** 0.5 * sum(x * x for x in b) ** 0.5
        return float(sum(x * y for x, y in zip(a, b, strict=True)) / norm)

    assert cosine(dog, puppy) > cosine(dog, tax) + 0.2


def test_embeddings_come_as_the_client_can_take_them(platform: Platform) -> None:
    """The Python client asks for base64 unless told otherwise, but takes only numbers when it is strict."""
    strict = platform.openai().embeddings.create(model="embed", input="hello").data[0].embedding
    answer = platform.call("POST", "/embeddings", {"model": "embed", "input": "hello", "encoding_format": "base64"})
    packed = base64.b64decode(answer.body["data"][0]["embedding"])
    assert struct.unpack(f"<{len(strict)}f", packed) == pytest.approx(strict, abs=1e-6)


def test_models_lists_every_alias_and_target_and_each_can_be_fetched(platform: Platform) -> None:
    client = platform.openai()
    listed = {model.id for model in client.models.list().data}
    assert listed == {item["sk"]["S"].partition("#")[2] for item in routes(platform, "ALIAS#", "TARGET#")}
    assert {*CHAT_MODELS, *EMBEDDING_MODELS} <= listed
    assert client.models.retrieve("auto").id == "auto"
    # The client percent-encodes the slash of a target's name.
    assert client.models.retrieve("bedrock/extractive-v1").id == "bedrock/extractive-v1"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nobody/nothing")


def test_a_wrong_key_is_an_authentication_error(platform: Platform) -> None:
    with pytest.raises(openai.AuthenticationError) as caught:
        platform.openai(key="sk-sluice-wrong").models.list()
    assert caught.value.code == "invalid_api_key"
    assert caught.value.request_id


def test_no_key_at_all_is_an_authentication_error(platform: Platform) -> None:
    answer = platform.call("GET", "/models", key="")
    assert (answer.status, answer.body["error"]["code"]) == (401, "invalid_api_key")


def test_the_key_may_come_as_x_api_key(platform: Platform) -> None:
    answer = platform.call("GET", "/models", key="", headers={"x-api-key": platform.key})
    assert answer.status == 200


def test_an_unknown_model_is_not_found(platform: Platform) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        platform.openai().chat.completions.create(model="gpt-nothing", messages=ask("Hello?"))
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": [{"role": "user", "content": "hi"}]}, "model"),
        ({"model": "auto"}, "messages"),
        ({"model": "auto", "messages": "hi"}, "messages"),
        ({"model": "auto", "messages": []}, "messages"),
        ({"model": "auto", "messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"model": "auto", "messages": [{"role": "robot", "content": "hi"}]}, "messages[0].role"),
        ({"model": "auto", "messages": [{"role": "user", "content": "hi"}], "temperature": "hot"}, "temperature"),
        ({"model": "auto", "messages": [{"role": "user", "content": "hi"}], "temperature": 3}, "temperature"),
        ({"model": "auto", "messages": [{"role": "user", "content": "hi"}], "stream": "yes"}, "stream"),
    ],
)
def test_a_malformed_body_is_refused_by_the_name_of_the_field(
    platform: Platform, body: dict[str, object], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        platform.openai().post("/chat/completions", body=body, cast_to=object)
    assert caught.value.param == param
    assert caught.value.type == "invalid_request_error"


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff\xfe", b'"text"'])
def test_a_body_that_is_no_json_object_is_refused(platform: Platform, body: bytes) -> None:
    answer = platform.call("POST", "/chat/completions", body)
    assert answer.status == 400
    assert answer.body["error"]["type"] == "invalid_request_error"


def test_an_unknown_route_has_the_same_error_shape(platform: Platform) -> None:
    answer = platform.call("GET", "/nothing/here")
    assert answer.status in {403, 404}
    assert set(answer.body["error"]) == {"message", "type", "param", "code"}
    assert answer.headers["x-request-id"]


def test_an_embedding_model_cannot_chat(platform: Platform) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        platform.openai().chat.completions.create(model="embed", messages=ask("Hello?"))
    assert caught.value.param == "model"


def test_health_needs_no_key(platform: Platform) -> None:
    answer = platform.call("GET", "/health", key="")
    assert (answer.status, answer.body["status"]) == (200, "ok")


def test_the_callers_request_id_comes_back_and_a_bad_one_is_replaced(platform: Platform) -> None:
    assert (
        platform.call("GET", "/models", headers={"x-request-id": "my-request-0001"}).headers["x-request-id"]
        == "my-request-0001"
    )
    replaced = platform.call("GET", "/models", headers={"x-request-id": "no spaces allowed"}).headers["x-request-id"]
    assert replaced
    assert " " not in replaced


def test_a_request_is_logged_with_its_tokens_and_its_exact_cost(platform: Platform) -> None:
    request_id = f"ledger-{time.time_ns()}"
    body = {"model": "openai/extractive-v1", "messages": ask("When does it open?")}
    answer = platform.call("POST", "/chat/completions", body, headers={"x-request-id": request_id})
    usage = answer.body["usage"]
    entry = request_log(platform, request_id)
    assert (int(entry["input_tokens"]["N"]), int(entry["output_tokens"]["N"])) == (
        usage["prompt_tokens"],
        usage["completion_tokens"],
    )
    target = next(item for item in platform.items("ROUTES") if item["sk"]["S"] == "TARGET#openai/extractive-v1")
    price = target["price"]["M"]
    expected = usage["prompt_tokens"] * Decimal(price["input_per_mtok"]["S"]) + usage["completion_tokens"] * Decimal(
        price["output_per_mtok"]["S"]
    )
    assert Decimal(entry["cost_micro_usd"]["N"]) == expected > 0
    assert entry["price_version"]["S"] == price["version"]["S"]
    assert entry["status"]["S"] == "completed"
    day = dt.datetime.now(dt.UTC).strftime("%Y%m%d")
    assert entry["pk"]["S"].split("#")[2] == day
    assert "museum" not in str(entry)


def test_a_failing_target_is_passed_over_before_the_caller_notices(healthy: Platform) -> None:
    healthy.fault("extractive-v1", kind="error", status=500, protocol="bedrock")
    request_id = f"failover-{time.time_ns()}"
    body = {"model": "auto", "messages": ask("What does admission cost?")}
    answer = healthy.call("POST", "/chat/completions", body, headers={"x-request-id": request_id})
    assert answer.status == 200
    assert "twelve euros" in answer.body["choices"][0]["message"]["content"]
    entry = request_log(healthy, request_id)
    assert (entry["target"]["S"], int(entry["fallbacks"]["N"])) == ("openai/extractive-v1", 1)


@pytest.mark.parametrize(
    ("fault", "status", "outcome"),
    [
        ({"kind": "throttle", "retry_after": 1}, 429, "throttled"),
        ({"kind": "error", "status": 500}, 502, "failed"),
        ({"kind": "garbage"}, 502, "failed"),
        ({"kind": "cut"}, 502, "failed"),
    ],
)
@pytest.mark.parametrize("model", ["bedrock/extractive-v1", "openai/extractive-v1"])
def test_a_provider_that_fails_is_told_as_it_is_and_logged(
    healthy: Platform, model: str, fault: dict[str, object], status: int, outcome: str
) -> None:
    healthy.fault("extractive-v1", **fault)
    request_id = f"fault-{time.time_ns()}"
    body = {"model": model, "messages": ask("Anything?")}
    answer = healthy.call("POST", "/chat/completions", body, headers={"x-request-id": request_id})
    assert answer.status == status, answer.body
    assert set(answer.body["error"]) == {"message", "type", "param", "code"}
    entry = request_log(healthy, request_id)
    assert (entry["status"]["S"], int(entry["http_status"]["N"])) == (outcome, status)
    assert "cost_micro_usd" not in entry
