"""POST /v1/chat and /v1/classify through the public API."""

from __future__ import annotations

import pytest

from tests.integration.support import Platform

CONTEXT = "The museum opens at nine. Admission is twelve euros. The cafe serves lunch until three."
TEXTS = {
    "I was charged twice on my credit card and want a refund": "billing",
    "The app crashes with an error message when I open it": "technical",
    "I would like a quote for fifty more licences": "sales",
}


@pytest.mark.parametrize("model", ["auto", "fast", "bedrock/extractive-v1", "openai/extractive-v1", None])
def test_a_prompt_gets_a_response(platform: Platform, model: str | None) -> None:
    body = {"prompt": "What does admission cost?", "parameters": {"system": CONTEXT, "max_tokens": 60}}
    answer = platform.call("POST", "/chat", body if model is None else {**body, "model": model})
    assert answer.status == 200, answer.body
    assert set(answer.body) == {"response", "model", "usage"}
    assert "twelve euros" in answer.body["response"]
    assert answer.body["model"] == answer.headers["x-sluice-target"]
    usage = answer.body["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 10
    assert answer.headers["x-sluice-attempts"] == "1"
    assert float(answer.headers["x-sluice-cost-usd"]) > 0


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "prompt"),
        ({"prompt": 5}, "prompt"),
        ({"prompt": "hi", "parameters": {"temperature": 9}}, "parameters.temperature"),
    ],
)
def test_a_wrong_chat_is_a_400_that_names_the_field(platform: Platform, body: object, param: str) -> None:
    answer = platform.call("POST", "/chat", body)
    assert (answer.status, answer.body["error"]["param"]) == (400, param)


@pytest.mark.parametrize("model", ["classify", "bedrock/wordllama-256", "openai/wordllama-256"])
def test_texts_get_the_label_that_is_nearest_in_meaning(platform: Platform, model: str) -> None:
    labels = ["billing", "technical", "sales"]
    answer = platform.call("POST", "/classify", {"input": list(TEXTS), "labels": labels, "model": model})
    assert answer.status == 200, answer.body
    for found in answer.body["results"]:
        assert list(found["scores"]) == labels
        assert sum(found["scores"].values()) == pytest.approx(1.0)
        assert found["score"] == max(found["scores"].values()) == found["scores"][found["label"]]
    assert answer.body["results"][0]["label"] == "billing"
    assert answer.body["usage"]["prompt_tokens"] > 0


@pytest.mark.parametrize("model", ["classify", "ask-label"])
def test_a_named_set_of_intents_brings_its_labels(platform: Platform, model: str) -> None:
    text = "I was charged twice on my invoice and want a refund of the payment"
    answer = platform.call("POST", "/classify", {"input": text, "intents": "support", "model": model})
    assert answer.status == 200, answer.body
    assert set(answer.body["scores"]) == {"account", "billing", "complaint", "sales", "technical"}
    assert sum(answer.body["scores"].values()) == pytest.approx(1.0)
    assert answer.body["score"] == answer.body["scores"][answer.body["label"]]
    if model == "classify":
        assert answer.body["label"] == "billing"
    else:
        assert answer.body["score"] == 1.0


@pytest.mark.parametrize("model", ["bedrock/extractive-v1", "openai/extractive-v1"])
def test_a_chat_model_is_asked_for_exactly_one_label(platform: Platform, model: str) -> None:
    body = {"input": ["My dog barks at cats", "Interest rates rose again"], "labels": ["animals", "finance"]}
    answer = platform.call("POST", "/classify", {**body, "model": model})
    assert answer.status == 200, answer.body
    assert [found["label"] for found in answer.body["results"]] == ["animals", "finance"]
    assert [found["scores"] for found in answer.body["results"]] == [
        {"animals": 1.0, "finance": 0.0},
        {"animals": 0.0, "finance": 1.0},
    ]
    assert answer.body["usage"]["completion_tokens"] >= 2


def test_the_next_target_classifies_when_the_first_cannot(healthy: Platform) -> None:
    healthy.fault("wordllama-256", kind="error", status=500)
    body = {"input": "My dog barks at cats", "labels": ["animals", "finance"]}
    answer = healthy.call("POST", "/classify", body)
    assert (answer.status, answer.body["label"]) == (200, "animals")
    assert answer.body["model"] == "openai/extractive-v1"
    assert answer.headers["x-sluice-fallbacks"] == "1"


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"labels": ["a", "b"]}, 400, "input"),
        ({"input": "x"}, 400, "labels"),
        ({"input": "x", "labels": ["a"]}, 400, "labels"),
        ({"input": "x", "labels": ["a", "A"]}, 400, "labels[1]"),
        ({"input": "x", "labels": ["a", "b"], "intents": "support"}, 400, "intents"),
        ({"input": "x", "intents": "nothing"}, 404, "intents"),
        ({"input": "x", "labels": ["a", "b"], "model": "auto"}, 200, None),
        ({"input": "x", "labels": ["a", "b"], "model": "score"}, 400, "model"),
    ],
    ids=str,
)
def test_a_wrong_classification_names_the_field(
    platform: Platform, body: object, status: int, param: str | None
) -> None:
    answer = platform.call("POST", "/classify", body)
    assert answer.status == status, answer.body
    if param is not None:
        assert answer.body["error"]["param"] == param


@pytest.mark.parametrize("path", ["/chat", "/classify"])
def test_a_key_is_needed(platform: Platform, path: str) -> None:
    assert platform.call("POST", path, {}, key="").status == 401
