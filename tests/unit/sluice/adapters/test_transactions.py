"""Why a transaction did not take place, in the domain's words."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from sluice.adapters.dynamodb import ConditionFailedError, Put, Table, translate
from sluice.domain.errors import ConfigurationError, SluiceError, StateConflictError, StateError

FAILED = {"Code": "ConditionalCheckFailed", "Item": {"pk": {"S": "KEY#1"}, "version": {"N": "2"}}}
NONE = {"Code": "None"}


def cancelled(*reasons: dict[str, Any]) -> SluiceError:
    response: Any = {
        "Error": {"Code": "TransactionCanceledException", "Message": "cancelled"},
        "CancellationReasons": list(reasons),
    }
    return translate(ClientError(response, "TransactWriteItems"))


def test_a_condition_that_failed_says_what_is_there_instead() -> None:
    error = cancelled(NONE, FAILED, {"Code": "ConditionalCheckFailed"})
    assert isinstance(error, ConditionFailedError)
    assert error.item == {"pk": "KEY#1", "version": 2}


def test_a_condition_on_what_is_not_there_says_so() -> None:
    error = cancelled({"Code": "ConditionalCheckFailed"}, NONE)
    assert isinstance(error, ConditionFailedError)
    assert error.item is None


def test_another_transaction_under_way_is_a_conflict() -> None:
    error = cancelled(NONE, {"Code": "TransactionConflict"})
    assert isinstance(error, StateConflictError)
    assert not isinstance(error, ConditionFailedError)


@pytest.mark.parametrize("code", ["ThrottlingError", "ProvisionedThroughputExceeded"])
def test_a_throttle_can_be_tried_again(code: str) -> None:
    error = cancelled({"Code": code}, NONE)
    assert isinstance(error, StateError)
    assert (error.code, error.retryable) == ("state_throttled", True)


def test_anything_else_needs_an_operator_and_quotes_no_value() -> None:
    error = cancelled({"Code": "ValidationError", "Message": "a-secret"}, NONE)
    assert isinstance(error, ConfigurationError)
    assert "ValidationError" in error.message
    assert "a-secret" not in error.message


class Client:
    """Remembers what was asked of DynamoDB."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def transact_write_items(self, **arguments: Any) -> None:
        self.asked.append(arguments)


def test_all_writes_go_in_one_call_each_with_its_condition() -> None:
    client: Any = Client()
    Table(client, "table").transact(
        Put({"pk": "a", "gone": None}), Put({"pk": "b"}, "version < :version", {":version": 3})
    )
    [asked] = client.asked
    first, second = (write["Put"] for write in asked["TransactItems"])
    assert first == {"TableName": "table", "Item": {"pk": {"S": "a"}}}
    assert second["ConditionExpression"] == "version < :version"
    assert second["ExpressionAttributeValues"] == {":version": {"N": "3"}}
    assert second["ReturnValuesOnConditionCheckFailure"] == "ALL_OLD"
