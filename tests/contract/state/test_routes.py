"""Routes as Terraform writes them: numbers as numbers, prices as texts, read through a real table."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from sluice.adapters.dynamodb import Table
from sluice.adapters.dynamodb_routes import DynamoDBRoutes
from sluice.domain.errors import ConfigurationError
from sluice.domain.inference import Operation
from tests.contract.state.conftest import Aws

PRICE: dict[str, Any] = {
    "M": {"version": {"S": "2026-01"}, "input_per_mtok": {"S": "0.035"}, "output_per_mtok": {"S": "0"}}
}


def put(aws: Aws, table: Table, sort_key: str, **attributes: dict[str, Any]) -> None:
    item = {"pk": {"S": "ROUTES"}, "sk": {"S": sort_key}, **attributes}
    aws.client("dynamodb").put_item(TableName=table._name, Item=item)


def test_what_terraform_writes_is_understood(aws: Aws) -> None:
    table, _ = aws.table()
    put(
        aws,
        table,
        "TARGET#openai/one",
        name={"S": "openai/one"},
        provider={"S": "openai_compatible"},
        model={"S": "one"},
        operations={"L": [{"S": "chat"}]},
        base_url={"S": "https://provider.example/v1"},
        secret_field={"S": "openai"},
        context_length={"N": "8192"},
        max_output_tokens={"NULL": True},
        price=PRICE,
        created={"N": "1700000000"},
    )
    put(
        aws,
        table,
        "ALIAS#auto",
        name={"S": "auto"},
        operation={"S": "chat"},
        strategy={"S": "priority"},
        targets={"L": [{"M": {"target": {"S": "openai/one"}}}]},
    )
    [target] = DynamoDBRoutes(table).load().resolve("auto", Operation.CHAT)
    assert (target.base_url, target.secret_field) == ("https://provider.example/v1", "openai")
    assert (target.context_length, target.max_output_tokens, target.created) == (8192, None, 1_700_000_000)
    assert target.price is not None
    assert target.price.input_per_mtok == Decimal("0.035")


def test_a_malformed_item_is_named(aws: Aws) -> None:
    table, _ = aws.table()
    put(aws, table, "TARGET#half", name={"S": "half"})
    with pytest.raises(ConfigurationError, match="TARGET#half"):
        DynamoDBRoutes(table).load()


def test_no_routes_are_an_empty_table(aws: Aws) -> None:
    assert not DynamoDBRoutes(aws.table()[0]).load().targets
