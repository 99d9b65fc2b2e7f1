import json
from decimal import Decimal
from typing import Any

import pytest

from sluice.adapters.dynamodb_routes import DynamoDBRoutes
from sluice.domain.errors import ConfigurationError, StateError
from sluice.domain.inference import Operation
from sluice.testing.clock import FakeClock

TARGET = {
    "pk": "ROUTES",
    "sk": "TARGET#bedrock/one",
    "name": "bedrock/one",
    "provider": "bedrock",
    "model": "one-v1",
    "operations": ["chat"],
    "created": 1_700_000_000,
    "price": {"version": "2026-01", "input_per_mtok": "0.035", "output_per_mtok": "0.14"},
}
ALIAS = {
    "pk": "ROUTES",
    "sk": "ALIAS#auto",
    "name": "auto",
    "operation": "chat",
    "strategy": "priority",
    "targets": [{"target": "bedrock/one"}],
}


class FakeTable:
    def __init__(self, *items: dict[str, Any]) -> None:
        self.items = list(items)
        self.reads = 0
        self.failing: Exception | None = None

    def query(self, pk: str) -> list[dict[str, Any]]:
        assert pk == "ROUTES"
        self.reads += 1
        if self.failing:
            raise self.failing
        return self.items


class World:
    def __init__(self, *items: dict[str, Any]) -> None:
        self.clock = FakeClock()
        self.table = FakeTable(*items)
        self.routes = DynamoDBRoutes(self.table, self.clock)  # type: ignore[arg-type]


def test_items_become_targets_and_aliases() -> None:
    table = World(TARGET, ALIAS).routes.load()
    target = table.targets["bedrock/one"]
    assert (target.model, target.operations, target.created) == ("one-v1", (Operation.CHAT,), 1_700_000_000)
    assert target.price is not None
    assert target.price.input_per_mtok == Decimal("0.035")
    assert [entry.target for entry in table.aliases["auto"].targets] == ["bedrock/one"]


def test_a_target_may_take_its_limit_by_another_name() -> None:
    named = World({**TARGET, "max_tokens_field": "max_completion_tokens"}).routes.load().targets["bedrock/one"]
    assert named.max_tokens_field == "max_completion_tokens"
    assert World(TARGET).routes.load().targets["bedrock/one"].max_tokens_field == "max_tokens"


def test_the_routes_are_read_once_a_minute() -> None:
    world = World(TARGET)
    world.routes.load()
    world.clock.advance(59)
    world.routes.load()
    assert world.table.reads == 1
    world.table.items.append(ALIAS)
    world.clock.advance(2)
    assert "auto" in world.routes.load().aliases


@pytest.mark.parametrize("failure", [StateError("The table is throttling."), ConfigurationError("AccessDenied.")])
def test_what_was_good_goes_on_serving_when_it_cannot_be_read_again(
    failure: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(TARGET)
    world.routes.load()
    world.clock.advance(61)
    world.table.failing = failure
    assert "bedrock/one" in world.routes.load().targets
    line = json.loads(capsys.readouterr().out)
    assert (line["event"], line["level"]) == ("routes_not_refreshed", "error")
    world.routes.load()
    assert world.table.reads == 2  # not on every request
    world.clock.advance(6)
    world.table.failing = None
    world.table.items = [TARGET, ALIAS]
    assert "auto" in world.routes.load().aliases


def test_new_routes_that_are_malformed_do_not_replace_good_ones() -> None:
    world = World(TARGET, ALIAS)
    world.routes.load()
    world.table.items = [ALIAS]
    world.clock.advance(61)
    assert "bedrock/one" in world.routes.load().targets


def test_a_first_read_that_fails_is_not_hidden() -> None:
    world = World(TARGET)
    world.table.failing = StateError("The table is throttling.")
    with pytest.raises(StateError):
        world.routes.load()


@pytest.mark.parametrize(
    ("items", "named"),
    [
        ([{**TARGET, "model": None}], "TARGET#bedrock/one"),
        ([{**TARGET, "provider": "unheard-of"}], "TARGET#bedrock/one"),
        ([{**TARGET, "operations": ["sing"]}], "TARGET#bedrock/one"),
        ([{**TARGET, "price": {"version": "v", "input_per_mtok": "cheap"}}], "TARGET#bedrock/one"),
        ([{**TARGET, "provider": "openai_compatible"}], "TARGET#bedrock/one"),
        ([{**TARGET, "max_tokens_field": "max_output_tokens"}], "TARGET#bedrock/one"),
        ([TARGET, {**ALIAS, "targets": []}], "ALIAS#auto"),
        ([TARGET, {**ALIAS, "targets": [{"target": "gone"}]}], "ALIAS#auto"),
        ([TARGET, {**ALIAS, "strategy": "dice"}], "ALIAS#auto"),
        ([{"pk": "ROUTES", "sk": "OTHER#x"}], "OTHER#x"),
    ],
)
def test_a_malformed_item_is_named(items: list[dict[str, Any]], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        World(*items).routes.load()
