"""Updates of numbers, as DynamoDB takes them."""

from __future__ import annotations

from decimal import Decimal

from sluice.adapters.dynamodb_counters import Change


def test_a_change_sets_adds_and_removes() -> None:
    change = Change()
    change.add("a", 5)
    change.put("b", Decimal("1.5"))
    change.remove({"d", "c"})

    assert change.expression == "SET b = :v1 ADD a :v0 REMOVE c, d"
    assert change.values == {":v0": 5, ":v1": Decimal("1.5")}
    assert change.condition is None


def test_what_is_changed_is_not_removed() -> None:
    change = Change()
    change.remove({"a", "b", "c"})
    change.add("a", 5)
    change.put("b", 0)

    assert change.expression == "SET b = :v1 ADD a :v0 REMOVE c"


def test_adding_nothing_changes_nothing() -> None:
    change = Change()
    change.add("a", 0)

    assert (change.expression, change.values) == ("", {})


def test_conditions_take_what_is_missing_for_zero() -> None:
    change = Change()
    change.at_most("a", 5)
    change.at_most("b", -5)
    change.exactly("c", 0)
    change.exactly("d", 1)
    change.above_zero("e")
    change.there("f")

    assert (change.condition or "").split(" AND ") == [
        "(attribute_not_exists(a) OR a <= :v0)",
        "b <= :v1",
        "(attribute_not_exists(c) OR c = :v2)",
        "d = :v3",
        "e > :v4",
        "attribute_exists(f)",
    ]
