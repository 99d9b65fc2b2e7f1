import pytest

from sluice.domain.errors import InvalidRequestError, NotFoundError, PermissionDeniedError
from sluice.domain.inference import Operation
from sluice.testing.routes import FakeRoutes, alias, target

CHAT = (Operation.CHAT,)
ROUTES = FakeRoutes(
    target("a/chat", operations=CHAT),
    target("b/chat", operations=CHAT),
    target("a/embed", operations=(Operation.EMBED,)),
    alias("auto", "a/chat", "b/chat"),
).load()


def test_an_alias_stands_for_its_targets_in_order() -> None:
    assert [found.name for found in ROUTES.resolve("auto", Operation.CHAT)] == ["a/chat", "b/chat"]


def test_a_target_can_be_named_itself() -> None:
    assert [found.name for found in ROUTES.resolve("b/chat", Operation.CHAT)] == ["b/chat"]


def test_an_unknown_model_is_not_found() -> None:
    with pytest.raises(NotFoundError) as raised:
        ROUTES.resolve("nonsense", Operation.CHAT)
    assert (raised.value.code, raised.value.param) == ("model_not_found", "model")


def test_a_model_that_the_key_may_not_use_is_refused() -> None:
    with pytest.raises(PermissionDeniedError):
        ROUTES.resolve("b/chat", Operation.CHAT, ("auto",))


def test_a_key_that_may_use_an_alias_reaches_the_targets_behind_it() -> None:
    assert len(ROUTES.resolve("auto", Operation.CHAT, ("auto",))) == 2


def test_a_model_that_cannot_do_it_is_an_invalid_request() -> None:
    with pytest.raises(InvalidRequestError) as raised:
        ROUTES.resolve("a/embed", Operation.CHAT)
    assert raised.value.code == "unsupported_operation"
