from collections.abc import Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import boto3
import msgspec
import pytest
from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    ReadTimeoutError,
)
from botocore.stub import Stubber

from sluice.adapters.dynamodb import (
    ConditionFailedError,
    Table,
    from_item,
    size_of,
    to_attribute,
    to_item,
    to_struct,
    to_values,
    translate,
)
from sluice.domain import errors

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

VALUES: dict[str, Any] = {
    "text": "ü",
    "empty": "",
    "whole": 5,
    "exact": Decimal("0.1234567890123456789"),
    "yes": True,
    "list": ["a", 1, ["b"]],
    "map": {"a": {"b": "c"}},
    "bytes": b"\x00",
}


class Thing(msgspec.Struct):
    name: str
    price: Decimal | None = None
    parts: tuple[str, ...] = ()


@pytest.fixture
def client() -> "DynamoDBClient":
    return boto3.client("dynamodb", region_name="us-east-1")


@pytest.fixture
def stub(client: "DynamoDBClient") -> Iterator[Stubber]:
    with Stubber(client) as stub:
        yield stub
        stub.assert_no_pending_responses()


def test_values_survive_the_way_there_and_back() -> None:
    assert from_item(to_item(VALUES)) == VALUES


def test_the_typed_form_is_boto3s_own() -> None:
    serializer, deserializer = TypeSerializer(), TypeDeserializer()
    assert {name: serializer.serialize(value) for name, value in VALUES.items()} == to_item(VALUES)
    assert deserializer.deserialize(to_attribute(VALUES["map"])) == VALUES["map"]


def test_what_is_absent_is_left_out_of_an_item() -> None:
    assert to_item({"a": None, "b": "x"}) == {"b": {"S": "x"}}


def test_a_float_is_refused_rather_than_rounded() -> None:
    with pytest.raises(TypeError, match="float"):
        to_attribute(0.1)


@pytest.mark.parametrize(
    ("value", "least", "most"),
    [
        ("ü", 2, 2),
        ("", 0, 0),
        (b"\x00" * 7, 7, 7),
        (True, 1, 1),
        # About a byte for every two significant digits, and one more.
        (5, 2, 3),
        (1_700_000_000, 2, 8),
        (-1_700_000_123, 6, 9),
        (Decimal("0.1234567890123456789"), 11, 14),
        ({"a": "b"}, 5, 6),
        (["a", "b"], 5, 7),
        (None, 0, 0),
    ],
)
def test_the_size_of_an_item_is_told_exactly_or_a_little_too_large(value: object, least: int, most: int) -> None:
    alone = size_of({"a": value})
    name = 0 if value is None else 1
    assert name + least <= alone <= name + most
    assert size_of({"a": value, "pk": "xyz"}) == alone + 5


def test_the_size_of_a_float_is_not_guessed() -> None:
    with pytest.raises(TypeError, match="float"):
        size_of({"a": 0.1})


def test_a_struct_survives_the_way_there_and_back() -> None:
    thing = Thing(name="x", price=Decimal("1.50"), parts=("a", "b"))
    assert to_struct(from_item(to_item({"pk": "P", **to_values(thing)})), Thing) == thing


@pytest.mark.parametrize("price", [{"S": "1.50"}, {"N": "1.50"}])
def test_a_decimal_may_be_a_number_or_a_text(price: dict[str, str]) -> None:
    assert to_struct(from_item({"name": {"S": "x"}, "price": price}), Thing).price == Decimal("1.50")


def test_a_malformed_item_is_named_by_its_keys_and_not_quoted() -> None:
    with pytest.raises(errors.ConfigurationError, match="ROUTES / TARGET#x") as raised:
        to_struct({"pk": "ROUTES", "sk": "TARGET#x", "name": "n", "parts": "canary"}, Thing)
    assert "canary" not in raised.value.message


@pytest.mark.parametrize(
    ("code", "kind", "retryable"),
    [
        ("ConditionalCheckFailedException", ConditionFailedError, False),
        ("TransactionConflictException", errors.StateConflictError, False),
        ("AccessDeniedException", errors.ConfigurationError, False),
        ("ResourceNotFoundException", errors.ConfigurationError, False),
        ("ValidationException", errors.ConfigurationError, False),
        ("ExpiredTokenException", errors.ConfigurationError, False),
        ("ThrottlingException", errors.StateError, True),
        ("ProvisionedThroughputExceededException", errors.StateError, True),
        ("RequestLimitExceeded", errors.StateError, True),
        ("InternalServerError", errors.StateError, True),
        ("SomethingNew", errors.StateError, True),
    ],
)
def test_every_refusal_has_its_error(code: str, kind: type[errors.SluiceError], retryable: bool) -> None:
    error = translate(ClientError({"Error": {"Code": code, "Message": "canary"}}, "PutItem"))
    assert type(error) is kind
    assert error.retryable is retryable
    assert "canary" not in error.message


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (EndpointConnectionError(endpoint_url="https://canary"), errors.StateError),
        (ReadTimeoutError(endpoint_url="https://canary"), errors.StateError),
        (NoCredentialsError(), errors.ConfigurationError),
    ],
)
def test_an_unreachable_table_is_told_from_a_wrong_deployment(
    raised: BotoCoreError, kind: type[errors.SluiceError]
) -> None:
    error = translate(raised)
    assert type(error) is kind
    assert "canary" not in error.message


def test_a_query_reads_every_page(stub: Stubber, client: "DynamoDBClient") -> None:
    asked = {
        "TableName": "t",
        "KeyConditionExpression": "pk = :pk AND begins_with(sk, :prefix)",
        "ExpressionAttributeValues": {":pk": {"S": "P"}, ":prefix": {"S": "STEP#"}},
        "ConsistentRead": False,
    }
    key = {"pk": {"S": "P"}, "sk": {"S": "STEP#1"}}
    stub.add_response("query", {"Items": [{"n": {"N": "1"}}], "LastEvaluatedKey": key}, asked)
    stub.add_response("query", {"Items": [{"n": {"N": "2"}}]}, {**asked, "ExclusiveStartKey": key})
    assert Table(client, "t").query("P", prefix="STEP#") == [{"n": 1}, {"n": 2}]


def test_an_absent_item_is_none(stub: Stubber, client: "DynamoDBClient") -> None:
    asked = {"TableName": "t", "Key": {"pk": {"S": "P"}, "sk": {"S": "S"}}, "ConsistentRead": False}
    stub.add_response("get_item", {}, asked)
    assert Table(client, "t").get("P", "S") is None


def test_a_failed_condition_is_a_conflict(stub: Stubber, client: "DynamoDBClient") -> None:
    stub.add_client_error("put_item", "ConditionalCheckFailedException")
    with pytest.raises(errors.StateConflictError):
        Table(client, "t").put({"pk": "P", "sk": "S"}, condition="attribute_not_exists(pk)")


def test_an_item_is_deleted_on_a_condition(stub: Stubber, client: "DynamoDBClient") -> None:
    sent = {
        "TableName": "table",
        "Key": {"pk": {"S": "a"}, "sk": {"S": "b"}},
        "ConditionExpression": "owner = :me",
        "ExpressionAttributeValues": {":me": {"S": "me"}},
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }
    stub.add_response("delete_item", {}, sent)
    stub.add_client_error("delete_item", "ConditionalCheckFailedException", expected_params=sent)
    table = Table(client, "table")
    table.delete("a", "b", condition="owner = :me", values={":me": "me"})
    with pytest.raises(ConditionFailedError):
        table.delete("a", "b", condition="owner = :me", values={":me": "me"})
