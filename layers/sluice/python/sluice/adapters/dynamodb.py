"""The one DynamoDB table: plain Python values in, plain Python values out, conditions where they are needed."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from sluice.adapters import aws
from sluice.domain.errors import ConfigurationError, SluiceError, StateConflictError, StateError

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef

ABSENT: Final = "attribute_not_exists(pk)"
PRESENT: Final = "attribute_exists(pk)"
# https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html
LARGEST_BATCH: Final = 100
BATCH_ATTEMPTS: Final = 3

Item = Mapping[str, object]
T = TypeVar("T")


_CONFLICTS: Final = frozenset({"TransactionConflictException"})
_THROTTLES: Final = frozenset({"ProvisionedThroughputExceededException", "RequestLimitExceeded", "ThrottlingException"})


class ConditionFailedError(StateConflictError):
    """The condition of a write did not hold. ``item`` is what is there instead, ``None`` when nothing is."""

    def __init__(self, *, item: dict[str, Any] | None) -> None:
        super().__init__("The table holds another state than this change needs.")
        self.item = item


def translate(error: ClientError | BotoCoreError) -> SluiceError:
    """The domain's word for what DynamoDB or botocore raised."""
    code = aws.code_of(error)
    if code == "ConditionalCheckFailedException" and isinstance(error, ClientError):
        found = cast("dict[str, Any]", error.response).get("Item")
        return ConditionFailedError(item=from_item(found) if found else None)
    if code in _CONFLICTS:
        return StateConflictError("The table holds another state than this change needs.")
    if code in _THROTTLES:
        return StateError("The table is throttling. Try again.", code="state_throttled")
    if code == "ValidationException":
        # A key or an index that the table does not have: the code and the deployed table do not fit each other.
        return ConfigurationError("The table refused a call of Sluice's own: ValidationException.")
    return aws.translate(error, "The table")


@contextmanager
def translated() -> Iterator[None]:
    """Raise what DynamoDB or botocore raises inside the block as the domain's errors."""
    try:
        yield
    except (ClientError, BotoCoreError) as exc:
        raise translate(exc) from exc


def to_attribute(value: object) -> Any:  # noqa: PLR0911 - one line per type
    """A value in DynamoDB's typed form.

    :raises TypeError: a float, which would lose digits on the way, or anything else that has no exact form.
    """
    match value:
        case None:
            return {"NULL": True}
        case bool():
            return {"BOOL": value}
        case str():
            return {"S": str(value)}
        case int() | Decimal():
            return {"N": str(value)}
        case bytes():
            return {"B": value}
        case Mapping():
            return {"M": to_item(value)}
        case Sequence():
            return {"L": [to_attribute(element) for element in value]}
        case _:
            raise TypeError(f"DynamoDB has no exact form for a {type(value).__name__}.")


def from_attribute(attribute: Mapping[str, Any]) -> object:
    """The plain value of a typed one; a number becomes an ``int`` when it is whole, else a ``Decimal``."""
    [(kind, value)] = attribute.items()
    match kind:
        case "N":
            number = Decimal(value)
            return int(number) if number == number.to_integral_value() else number
        case "M":
            return from_item(value)
        case "L":
            return [from_attribute(element) for element in value]
        case "NULL":
            return None
        case _:
            return value


def to_item(values: Item) -> "dict[str, AttributeValueTypeDef]":
    """An item in DynamoDB's typed form; values of ``None`` are left out."""
    return {name: to_attribute(value) for name, value in values.items() if value is not None}


def from_item(item: Mapping[str, Any]) -> dict[str, Any]:
    """The plain values of an item."""
    return {name: from_attribute(attribute) for name, attribute in item.items()}


def to_values(struct: msgspec.Struct) -> dict[str, Any]:
    """A struct's fields as plain values that :func:`to_item` takes; decimals stay exact."""
    values: dict[str, Any] = msgspec.to_builtins(struct, builtin_types=(Decimal,))
    return values


def to_struct(values: Item, kind: type[T]) -> T:
    """Plain values as a ``kind``; attributes it does not know are ignored.

    :raises ConfigurationError: they do not fit, naming the item.
    """
    try:
        # Not strict, so that a decimal may come as a number or, from Terraform, as a string.
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as exc:
        place = f"{values.get('pk')} / {values.get('sk')}"
        raise ConfigurationError(f"The item {place} is malformed: {_without_values(exc)}.") from exc


def _without_values(error: msgspec.ValidationError) -> str:
    text = str(error)
    return text if not text.startswith("Invalid enum value") else "a value is not one of the accepted ones"


class Table:
    """The table, by partition and sort key. What a method raises is told by :func:`translate`."""

    def __init__(self, client: "DynamoDBClient", name: str) -> None:
        self._client = client
        self._name = name

    def get(self, pk: str, sk: str, *, consistent: bool = False) -> dict[str, Any] | None:
        """The item, or ``None``. ``consistent`` costs twice as much and sees every finished write."""
        with translated():
            answer = self._client.get_item(
                TableName=self._name, Key={"pk": {"S": pk}, "sk": {"S": sk}}, ConsistentRead=consistent
            )
        item = answer.get("Item")
        return from_item(item) if item else None

    def get_many(self, keys: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
        """The items under these keys, in any order; as cheap and as old (a moment at most) as an eventual read.

        :raises StateError: the table answered only in part, several times over.
        """
        found: list[dict[str, Any]] = []
        for start in range(0, len(keys), LARGEST_BATCH):
            found += self._get_batch(keys[start : start + LARGEST_BATCH])
        return found

    def _get_batch(self, keys: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
        asked: Any = {self._name: {"Keys": [{"pk": {"S": pk}, "sk": {"S": sk}} for pk, sk in keys]}}
        found: list[dict[str, Any]] = []
        with translated():
            for _ in range(BATCH_ATTEMPTS):
                answer = self._client.batch_get_item(RequestItems=asked)
                found += [from_item(item) for item in answer["Responses"].get(self._name, [])]
                asked = answer.get("UnprocessedKeys")
                if not asked:
                    return found
        raise StateError("The table is throttling. Try again.", code="state_throttled")

    def put(self, item: Item, *, condition: str | None = None, values: Item | None = None) -> None:
        """Write a whole item. ``values`` are those of the ``condition``, with their colons.

        :raises ConditionFailedError: the condition does not hold.
        """
        with translated():
            self._client.put_item(TableName=self._name, Item=to_item(item), **_conditional(condition, values))

    def update(
        self,
        pk: str,
        sk: str,
        expression: str,
        *,
        condition: str = PRESENT,
        values: Item | None = None,
        names: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Change an item in one write, by default only one that is there; the item as it is then.

        :raises ConditionFailedError: the condition does not hold.
        """
        optional: dict[str, Any] = {"ExpressionAttributeNames": dict(names)} if names else {}
        with translated():
            answer = self._client.update_item(
                TableName=self._name,
                Key={"pk": {"S": pk}, "sk": {"S": sk}},
                UpdateExpression=expression,
                ReturnValues="ALL_NEW",
                **_conditional(condition, values),
                **optional,
            )
        return from_item(answer.get("Attributes", {}))

    def query(self, pk: str, *, prefix: str | None = None, consistent: bool = False) -> list[dict[str, Any]]:
        """Every item of a partition, in order of the sort key; with ``prefix`` those whose sort key starts so."""
        condition, values = "pk = :pk", {":pk": pk}
        if prefix is not None:
            condition, values = f"{condition} AND begins_with(sk, :prefix)", values | {":prefix": prefix}
        return self._query(condition, values, ConsistentRead=consistent)

    def query_index(self, index: str, pk: str, sk: str) -> list[dict[str, Any]]:
        """The items under exactly these keys of an index (attributes ``<index>pk`` and ``<index>sk``).

        An index follows the table with a short delay.
        """
        return self._query(f"{index}pk = :pk AND {index}sk = :sk", {":pk": pk, ":sk": sk}, IndexName=index)

    def _query(self, condition: str, values: Item, **options: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        with translated():
            pages = self._client.get_paginator("query").paginate(
                TableName=self._name,
                KeyConditionExpression=condition,
                ExpressionAttributeValues=to_item(values),
                **options,
            )
            for page in pages:
                found.extend(from_item(item) for item in page["Items"])
        return found


def _conditional(condition: str | None, values: Item | None) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    if condition:
        arguments["ConditionExpression"] = condition
        # Why it failed comes with the failure, which saves a read.
        arguments["ReturnValuesOnConditionCheckFailure"] = "ALL_OLD"
    if values:
        # Not to_item: a `None` here is a NULL to write or compare with, not an attribute to leave out.
        arguments["ExpressionAttributeValues"] = {name: to_attribute(value) for name, value in values.items()}
    return arguments
