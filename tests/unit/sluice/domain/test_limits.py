import pytest

from sluice.domain.errors import InvalidRequestError
from sluice.domain.inference import ChatRequest, Message, Operation
from sluice.domain.limits import bounded, check_output, generous
from sluice.domain.routing import Target


def target(name: str, most: int | None) -> Target:
    return Target(name=name, provider="bedrock", model="m", operations=(Operation.CHAT,), max_output_tokens=most)


def request(max_tokens: int | None) -> ChatRequest:
    return ChatRequest(model="auto", messages=(Message("user", "hi"),), max_tokens=max_tokens)


SMALL, LARGE, OPEN = target("a/small", 100), target("a/large", 1000), target("a/open", None)


@pytest.mark.parametrize(("asked", "most"), [(None, 10), (10, 10), (10, None), (None, None)])
def test_what_is_within_the_deployments_limit_passes(asked: int | None, most: int | None) -> None:
    check_output(request(asked), most=most)


def test_more_than_the_deployment_allows_is_refused_by_name_and_number() -> None:
    with pytest.raises(InvalidRequestError, match="at most 10 tokens") as refused:
        check_output(request(11), most=10)
    assert (refused.value.param, refused.value.code) == ("max_tokens", "max_tokens_too_large")


def test_only_targets_that_can_write_as_much_are_asked() -> None:
    assert generous((SMALL, LARGE, OPEN), max_tokens=101) == (LARGE, OPEN)
    assert generous((SMALL, LARGE), max_tokens=100) == (SMALL, LARGE)
    assert generous((SMALL,), max_tokens=None) == (SMALL,)


def test_more_than_any_target_can_write_is_refused_with_the_most_that_one_can() -> None:
    with pytest.raises(InvalidRequestError, match="at most 1000 tokens"):
        generous((SMALL, LARGE), max_tokens=1001)


@pytest.mark.parametrize(
    ("asked", "to", "most", "sent"),
    [
        (50, SMALL, 200, 50),
        (None, SMALL, 200, 100),
        (None, LARGE, 200, 200),
        (None, OPEN, 200, 200),
        (None, LARGE, None, 1000),
        (None, OPEN, None, None),
    ],
)
def test_an_answer_is_bounded_wherever_there_is_a_limit(
    asked: int | None, to: Target, most: int | None, sent: int | None
) -> None:
    assert bounded(request(asked), to, most=most).max_tokens == sent
