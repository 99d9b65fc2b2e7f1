import msgspec
import pytest

from sluice.domain.errors import InvalidRequestError, NotFoundError, PermissionDeniedError, SluiceError
from sluice.domain.inference import Operation
from sluice.domain.routing import Alias, AliasTarget, Preferences, RouteTable, Strategy
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


EU = msgspec.structs.replace(target("a/eu", operations=CHAT), region="eu-central-1")
US = msgspec.structs.replace(target("a/us", operations=CHAT), region="us-east-1")
PLACED = FakeRoutes(
    EU,
    US,
    target("a/anywhere", operations=CHAT),
    target("a/embed", operations=(Operation.EMBED,)),
    alias("auto", "a/eu", "a/us", "a/anywhere"),
    msgspec.structs.replace(alias("european", "a/eu", "a/us"), regions=("eu",)),
).load()


def names(
    model: str, preferences: dict[str, str] | None = None, *, allowed: tuple[str, ...] | None = None
) -> list[str]:
    route = PLACED.route(model, Operation.CHAT, allowed, Preferences(**(preferences or {})))
    return [found.name for found in route.targets]


def test_a_header_picks_one_target() -> None:
    assert names("auto", {"target": "a/us"}) == ["a/us"]
    assert names("a/eu", {"target": "a/us"}) == ["a/us"]


def test_a_picked_target_has_to_be_one_that_the_key_may_use() -> None:
    assert names("auto", {"target": "a/us"}, allowed=("auto",)) == ["a/us"]
    assert names("a/eu", {"target": "a/us"}, allowed=("a/eu", "a/us")) == ["a/us"]
    with pytest.raises(PermissionDeniedError) as raised:
        names("a/eu", {"target": "a/us"}, allowed=("a/eu",))
    assert raised.value.param == "x-sluice-target"
    with pytest.raises(PermissionDeniedError):
        names("auto", {"target": "a/eu"}, allowed=("a/eu",))


@pytest.mark.parametrize(
    ("preferences", "kind", "param", "code"),
    [
        ({"target": "a/nothing"}, NotFoundError, "x-sluice-target", "target_not_found"),
        ({"target": "auto"}, NotFoundError, "x-sluice-target", "target_not_found"),
        ({"target": "a/embed"}, InvalidRequestError, "x-sluice-target", "unsupported_operation"),
        ({"strategy": "best"}, InvalidRequestError, "x-sluice-strategy", "invalid_strategy"),
        ({"region": "moon-1"}, InvalidRequestError, "x-sluice-region", "no_target_in_region"),
    ],
)
def test_a_header_that_makes_no_sense_is_named(
    preferences: dict[str, str], kind: type[SluiceError], param: str, code: str
) -> None:
    with pytest.raises(kind) as raised:
        names("auto", preferences)
    assert (raised.value.param, raised.value.code) == (param, code)


@pytest.mark.parametrize("strategy", Strategy)
def test_every_strategy_can_be_asked_for(strategy: Strategy) -> None:
    assert PLACED.route("auto", Operation.CHAT, None, Preferences(strategy=strategy.value)).strategy is strategy


@pytest.mark.parametrize("region", ["eu", "eu-central", "eu-central-1"])
def test_a_region_may_be_named_in_part(region: str) -> None:
    assert names("auto", {"region": region}) == ["a/eu"]


@pytest.mark.parametrize("region", ["e", "eu-central-12", "eu-"])
def test_but_not_by_half_a_word(region: str) -> None:
    with pytest.raises(InvalidRequestError):
        names("auto", {"region": region})


def test_an_alias_is_held_to_its_regions_whatever_the_headers_say() -> None:
    assert names("european") == ["a/eu"]
    for preferences in ({"target": "a/us"}, {"region": "us-east-1"}):
        with pytest.raises(InvalidRequestError):
            names("european", preferences)


def test_weights_stay_with_their_targets() -> None:
    weighted = Alias(
        name="auto",
        operation=Operation.CHAT,
        targets=tuple(AliasTarget(target=name, weight=weight) for name, weight in (("a/eu", 3), ("a/us", 2))),
    )
    route = RouteTable(targets=PLACED.targets, aliases={"auto": weighted}).route("auto", Operation.CHAT)
    assert route.weights == (3, 2)
    assert route.kept(frozenset({"a/us"})).weights == (2,)
