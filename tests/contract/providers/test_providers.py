"""What every provider adapter does, whatever protocol it speaks."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec
import pytest

from sluice.domain import errors
from sluice.domain.inference import ChatRequest, EmbeddingRequest, FinishReason, Message
from tests.contract.local_models.support import CHAT
from tests.contract.providers.conftest import Provider

CANARY = "canary-that-must-not-be-told"
CONTEXT = "The museum opens at nine. Admission is twelve euros. The cafe serves lunch until three."
ASK = ChatRequest(model="auto", messages=(Message("system", CONTEXT), Message("user", "What does admission cost?")))
TEXTS = EmbeddingRequest(
    model="embed", inputs=("a dog runs in the park", "a puppy is running outside", "quarterly tax accounting rules")
)


def ask(provider: Provider, request: ChatRequest = ASK, *, timeout_s: float = 10) -> str:
    return provider.adapter.chat(provider.chat, request, timeout_s=timeout_s).text


def failure(provider: Provider, request: ChatRequest = ASK, *, timeout_s: float = 10) -> errors.ProviderError:
    with pytest.raises(errors.ProviderError) as raised:
        ask(provider, request, timeout_s=timeout_s)
    assert raised.value.target == provider.chat.name
    assert provider.server.url not in raised.value.message
    assert "local-models-key" not in raised.value.message
    return raised.value


def test_a_question_is_answered_from_its_context(provider: Provider) -> None:
    result = provider.adapter.chat(provider.chat, ASK, timeout_s=10)
    assert "twelve euros" in result.text
    assert result.finish_reason is FinishReason.STOP
    assert result.usage.input_tokens > 10
    assert result.usage.output_tokens > 0


def test_a_whole_conversation_with_every_setting_is_accepted(provider: Provider) -> None:
    request = ChatRequest(
        model="auto",
        messages=(
            Message("system", CONTEXT),
            Message("user", "Hello."),
            Message("assistant", "Good day."),
            Message("user", "When does it open?"),
            Message("user", "The museum, I mean."),
        ),
        max_tokens=50,
        temperature=0.3,
        top_p=0.9,
        stop=("###",),
    )
    assert "nine" in ask(provider, request)


def test_an_answer_that_is_cut_short_says_so(provider: Provider) -> None:
    request = msgspec.structs.replace(ASK, max_tokens=2)
    assert provider.adapter.chat(provider.chat, request, timeout_s=10).finish_reason is FinishReason.LENGTH


def test_vectors_mean_something_and_keep_the_order_of_the_texts(provider: Provider) -> None:
    result = provider.adapter.embed(provider.embeddings, TEXTS, timeout_s=10)
    dog, puppy, tax = result.vectors
    assert {len(vector) for vector in result.vectors} == {256}
    assert dot(dog, puppy) > dot(dog, tax)
    assert result.usage.input_tokens > 9


def dot(one: tuple[float, ...], two: tuple[float, ...]) -> float:
    return sum(a * b for a, b in zip(one, two, strict=True))


def test_many_texts_are_embedded_within_one_deadline(provider: Provider) -> None:
    inputs = tuple(f"text number {number}" for number in range(60))
    many = provider.adapter.embed(provider.embeddings, EmbeddingRequest(model="embed", inputs=inputs), timeout_s=20)
    one = provider.adapter.embed(
        provider.embeddings, EmbeddingRequest(model="embed", inputs=(inputs[41],)), timeout_s=10
    )
    assert len(many.vectors) == 60
    assert many.vectors[41] == pytest.approx(one.vectors[0])


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ({"kind": "throttle"}, errors.ProviderThrottledError),
        ({"kind": "error", "status": 400}, errors.ProviderRejectedError),
        ({"kind": "error", "status": 403}, errors.ProviderAuthError),
        ({"kind": "error", "status": 404}, errors.ProviderAuthError),
        ({"kind": "error", "status": 408}, errors.ProviderTimeoutError),
        ({"kind": "error", "status": 500}, errors.ProviderUnavailableError),
        ({"kind": "error", "status": 502}, errors.ProviderUnavailableError),
        ({"kind": "error", "status": 503}, errors.ProviderOverloadedError),
        ({"kind": "garbage"}, errors.ProviderProtocolError),
        ({"kind": "cut", "at": "start"}, errors.ProviderUnavailableError),
    ],
    ids=str,
)
@pytest.mark.parametrize("operation", ["chat", "embed"])
def test_every_fault_has_its_error(
    provider: Provider, fault: dict[str, object], kind: type[errors.ProviderError], operation: str
) -> None:
    provider.fault(**fault)
    calls: dict[str, Callable[[], object]] = {
        "chat": lambda: provider.adapter.chat(provider.chat, ASK, timeout_s=10),
        "embed": lambda: provider.adapter.embed(provider.embeddings, TEXTS, timeout_s=10),
    }
    with pytest.raises(errors.ProviderError) as raised:
        calls[operation]()
    assert type(raised.value) is kind
    assert provider.server.url not in raised.value.message


@pytest.mark.parametrize("at", ["headers", "body"])
def test_an_answer_that_ends_too_early_may_be_asked_for_again(provider: Provider, at: str) -> None:
    """botocore does not compare a body with its announced length, so to it a cut one is a malformed one."""
    provider.fault(kind="cut", at=at)
    expected = errors.ProviderProtocolError if "bedrock" in provider.chat.name else errors.ProviderUnavailableError
    error = failure(provider)
    assert type(error) is expected
    assert error.retryable


def test_an_attempt_is_one_call(provider: Provider) -> None:
    """The retries are Sluice's own: a library that retried too would multiply them."""
    provider.fault(kind="error", status=503)
    failure(provider)
    assert provider.server.calls(CHAT) == 1


def test_retry_after_is_passed_on(provider: Provider) -> None:
    provider.fault(kind="throttle", retry_after=7)
    assert failure(provider).retry_after_s == 7


@pytest.mark.parametrize("timeout_s", [0.4, 1.5])
def test_a_provider_that_hangs_is_given_up_in_time(provider: Provider, timeout_s: float) -> None:
    provider.fault(kind="hang", seconds=8)
    began = time.monotonic()
    assert type(failure(provider, timeout_s=timeout_s)) is errors.ProviderTimeoutError
    assert time.monotonic() - began < timeout_s + 0.4


def test_a_batch_of_texts_is_given_up_in_time(provider: Provider) -> None:
    provider.fault(kind="latency", seconds=1)
    inputs = tuple(f"text {number}" for number in range(40))
    began = time.monotonic()
    with pytest.raises(errors.ProviderTimeoutError):
        provider.adapter.embed(provider.embeddings, EmbeddingRequest(model="embed", inputs=inputs), timeout_s=0.8)
    assert time.monotonic() - began < 1.6


def test_a_slow_answer_within_the_time_is_an_answer(provider: Provider) -> None:
    provider.fault(kind="latency", seconds=0.3)
    assert "twelve euros" in ask(provider, timeout_s=5)


def test_a_prompt_that_does_not_fit_is_told_apart(provider: Provider) -> None:
    request = ChatRequest(model="auto", messages=(Message("user", f"{CANARY} word " * 60_000),))
    error = failure(provider, request)
    assert type(error) is errors.ContextTooLongError
    assert CANARY not in error.message


def test_a_model_that_is_not_there_is_for_the_operator(provider: Provider) -> None:
    provider.chat = msgspec.structs.replace(provider.chat, model="nonsense")
    error = failure(provider)
    assert (type(error), error.code) == (errors.ProviderAuthError, "provider_model_not_found")
