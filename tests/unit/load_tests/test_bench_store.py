"""The benchmark's table in memory decides as DynamoDB does, and counts what DynamoDB bills."""

from __future__ import annotations

from typing import Any

import pytest

from load_tests.bench import expressions
from load_tests.bench.expressions import ExpressionError
from load_tests.bench.store import Refusal, Store, item_bytes

ITEM: dict[str, Any] = {
    "n": {"N": "5"},
    "s": {"S": "text"},
    "m": {"M": {"inner": {"N": "1"}, "deep": {"M": {"x": {"S": "y"}}}}},
    "l": {"L": [{"N": "1"}, {"S": "b"}]},
}
VALUES = {":five": {"N": "5.0"}, ":six": {"N": "6"}, ":text": {"S": "text"}, ":te": {"S": "te"}, ":b": {"S": "b"}}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("n = :five", True),
        ("n <> :five", False),
        ("n < :six AND s = :text", True),
        ("n > :six OR s = :text", True),
        ("NOT (n > :six OR s = :text)", False),
        ("n BETWEEN :five AND :six", True),
        ("s IN (:b, :text)", True),
        ("attribute_exists(m.inner) AND attribute_not_exists(m.none)", True),
        ("attribute_exists(none.inner)", False),
        ("begins_with(s, :te)", True),
        ("contains(l, :b)", True),
        ("contains(s, :te)", True),
        ("size(s) < :five", True),
        ("m.#deep.x = :b", False),
        ("l[1] = :b", True),
        # Of different types: neither equal nor ordered.
        ("n = :text", False),
        ("n < :text", False),
        ("n <> :text", True),
        # What is not there compares with nothing.
        ("none = :text", False),
        ("none <> :text", False),
        ("a = :text or s = :text", True),
    ],
)
def test_a_condition(text: str, holds: bool) -> None:
    assert expressions.condition(text, (("#deep", "deep"),))(ITEM, VALUES) is holds


@pytest.mark.parametrize("text", ["n =", "n ? :five", "n = :five n", "(n = :five", "#unknown = :five", ""])
def test_what_is_no_condition_is_refused(text: str) -> None:
    with pytest.raises(ExpressionError):
        expressions.condition(text)(ITEM, VALUES)


def test_an_update_changes_a_copy() -> None:
    change = expressions.update("SET n = n - :five, m.inner = if_not_exists(m.inner, :six) + :six REMOVE s ADD c :six")
    after = change(ITEM, VALUES)
    assert after["n"] == {"N": "0.0"}
    assert after["m"]["M"]["inner"] == {"N": "7"}
    assert "s" not in after
    assert after["c"] == {"N": "6"}
    assert ITEM["m"]["M"]["inner"] == {"N": "1"}


def test_operands_are_those_before_the_update() -> None:
    after = expressions.update("SET n = :six, o = n, l = list_append(l, l)")(ITEM, VALUES)
    assert (after["n"], after["o"], len(after["l"]["L"])) == ({"N": "6"}, {"N": "5"}, 4)


@pytest.mark.parametrize("text", ["SET n = none + :five", "SET none.x = :five", "SET n = none", "PUT n :five"])
def test_an_update_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(ExpressionError):
        expressions.update(text)(ITEM, VALUES)


def key(sk: str = "s") -> dict[str, Any]:
    return {"pk": {"S": "p"}, "sk": {"S": sk}}


def test_a_condition_that_does_not_hold_shows_the_item() -> None:
    store = Store()
    put = {"Item": {**key(), "n": {"N": "1"}}, "ConditionExpression": "attribute_not_exists(pk)"}
    store.answer("PutItem", put)
    with pytest.raises(Refusal) as refused:
        store.answer("PutItem", put | {"ReturnValuesOnConditionCheckFailure": "ALL_OLD"})
    assert refused.value.body["__type"].endswith("#ConditionalCheckFailedException")
    assert refused.value.body["Item"] == put["Item"]
    # A table for replays lets it pass.
    store.strict = False
    assert store.answer("PutItem", put) == {}


def test_a_transaction_is_all_or_nothing() -> None:
    store = Store()
    store.answer("PutItem", {"Item": key("there")})
    parts = [
        {"Put": {"Item": key("new")}},
        {
            "Update": {
                "Key": key("there"),
                "UpdateExpression": "ADD n :n",
                "ExpressionAttributeValues": {":n": {"N": "1"}},
            }
        },
    ]
    guard = {"ConditionCheck": {"Key": key("there"), "ConditionExpression": "attribute_not_exists(pk)"}}
    with pytest.raises(Refusal) as refused:
        store.answer("TransactWriteItems", {"TransactItems": [*parts, guard]})
    assert [reason["Code"] for reason in refused.value.body["CancellationReasons"]] == [
        "None",
        "None",
        "ConditionalCheckFailed",
    ]
    assert store.answer("GetItem", {"Key": key("new")}) == {}
    store.counting = True
    store.answer("TransactWriteItems", {"TransactItems": parts})
    assert store.answer("GetItem", {"Key": key("there")})["Item"]["n"] == {"N": "1"}
    assert store.units.write == 4


def test_a_query_is_sorted_and_cut() -> None:
    store = Store()
    for sk in ("b1", "a1", "a2"):
        store.answer("PutItem", {"Item": key(sk)})
    asked = {
        "KeyConditionExpression": "pk = :pk AND begins_with(sk, :a)",
        "ExpressionAttributeValues": {":pk": {"S": "p"}, ":a": {"S": "a"}},
    }
    assert [item["sk"]["S"] for item in store.answer("Query", asked)["Items"]] == ["a1", "a2"]
    newest = store.answer("Query", {**asked, "ScanIndexForward": False, "Limit": 1})["Items"]
    assert [item["sk"]["S"] for item in newest] == ["a2"]


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ({"S": "äb"}, 3),
        ({"N": "123.45"}, 4),
        ({"N": "-7"}, 3),
        ({"BOOL": True}, 1),
        ({"B": "AAEC"}, 3),
        ({"L": [{"S": "ab"}, {"BOOL": True}]}, 3 + 3 + 2),
        ({"M": {"k": {"S": "ab"}}}, 3 + 1 + 1 + 2),
    ],
)
def test_the_size_of_an_item_is_the_one_that_is_billed(value: dict[str, Any], size: int) -> None:
    assert item_bytes({"name": value}) == 4 + size


def test_units_are_counted_by_the_kilobyte_of_the_larger_image() -> None:
    store = Store(counting=True)
    large = {**key(), "text": {"S": "x" * 2000}}
    store.answer("PutItem", {"Item": large})
    assert store.units.write == 2
    # Made smaller, it still costs what it was.
    store.answer("PutItem", {"Item": key()})
    assert store.units.write == 4
    store.answer("GetItem", {"Key": key(), "ConsistentRead": True})
    store.answer("GetItem", {"Key": key()})
    assert store.units.read == 1.5
