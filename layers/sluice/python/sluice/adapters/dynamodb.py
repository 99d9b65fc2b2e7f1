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
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef, TransactWriteItemTypeDef

ABSENT: Final = "attribute_not_exists(pk)"
PRESENT: Final = "attribute_exists(pk)"
# https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html
LARGEST_BATCH: Final = 100
BATCH_ATTEMPTS: Final = 3

Item = Mapping[str, object]
T = TypeVar("T")


_CONFLICTS: Final = frozenset({"TransactionConflictException"})
_THROTTLES: Final = frozenset({"ProvisionedThroughputExceededException", "RequestLimitExceeded", "ThrottlingException"})
_CANCELLING_THROTTLES: Final = frozenset({"ProvisionedThroughputExceeded", "ThrottlingError"})


class Put(msgspec.Struct, frozen=True):
    """One write of a transaction: a whole item, if the ``condition`` (with its ``values`` and ``names``) holds."""

    item: Item
    condition: str | None = None
    values: Item | None = None
    names: Mapping[str, str] | None = None

    def request(self, table: str) -> "TransactWriteItemTypeDef":
        """The write as DynamoDB takes it."""
        put: Any = {
            "TableName": table,
            "Item": to_item(self.item),
            **_conditional(self.condition, self.values),
            **_named(self.names),
        }
        return {"Put": put}


class Update(msgspec.Struct, frozen=True):
    """One write of a transaction: a change of an item by an ``expression``, if the ``condition`` holds.

    ``values`` are those of both, with their colons, ``names`` those with a ``#``. An item that is not there is made.
    """

    pk: str
    sk: str
    expression: str
    values: Item
    condition: str | None = None
    names: Mapping[str, str] | None = None

    def request(self, table: str) -> "TransactWriteItemTypeDef":
        """The write as DynamoDB takes it."""
        update: Any = {
            "TableName": table,
            "Key": {"pk": {"S": self.pk}, "sk": {"S": self.sk}},
            "UpdateExpression": self.expression,
            **_conditional(self.condition, self.values),
            **_named(self.names),
        }
        return {"Update": update}


class Check(msgspec.Struct, frozen=True):
    """A condition of a transaction that holds for an item which the transaction leaves alone."""

    pk: str
    sk: str
    condition: str
    values: Item
    names: Mapping[str, str] | None = None

    def request(self, table: str) -> "TransactWriteItemTypeDef":
        """The check as DynamoDB takes it."""
        check: Any = {
            "TableName": table,
            "Key": {"pk": {"S": self.pk}, "sk": {"S": self.sk}},
            **_conditional(self.condition, self.values),
            **_named(self.names),
        }
        return {"ConditionCheck": check}


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
    if code == "TransactionCanceledException" and isinstance(error, ClientError):
        return _cancelled(cast("dict[str, Any]", error.response).get("CancellationReasons") or [])
    if code in _CONFLICTS:
        return StateConflictError("The table holds another state than this change needs.")
    if code in _THROTTLES:
        return StateError("The table is throttling. Try again.", code="state_throttled")
    if code == "ValidationException":
        # A key or an index that the table does not have: the code and the deployed table do not fit each other.
        return ConfigurationError("The table refused a call of Sluice's own: ValidationException.")
    return aws.translate(error, "The table")


def _cancelled(reasons: Sequence[Mapping[str, Any]]) -> SluiceError:
    """Why a transaction did not take place: the first reason that says what to do about it."""
    by_code = {str(reason.get("Code")): reason for reason in reversed(reasons)}
    if "ConditionalCheckFailed" in by_code:
        found = by_code["ConditionalCheckFailed"].get("Item")
        return ConditionFailedError(item=from_item(found) if found else None)
    if "TransactionConflict" in by_code:
        return StateConflictError("The table holds another state than this change needs.")
    if _CANCELLING_THROTTLES & by_code.keys():
        return StateError("The table is throttling. Try again.", code="state_throttled")
    codes = ", ".join(sorted(by_code.keys() - {"None"}))
    return ConfigurationError(f"The table refused a transaction of Sluice's own: {codes}.")


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


def size_of(values: Item) -> int:
    """The bytes that DynamoDB counts an item for, at most; every 1,024 that are begun cost a write unit.

    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html
    """
    return sum(len(name.encode()) + _size_of(value) for name, value in values.items() if value is not None)


def _size_of(value: object) -> int:
    match value:
        case None | bool():
            return 1
        case str():
            return len(value.encode())
        case bytes():
            return len(value)
        case int() | Decimal():
            # Two digits to a byte, where they may lie across two bytes; one for the exponent, one for the sign.
            return len(str(value)) // 2 + 3
        case Mapping():
            return 3 + len(value) + size_of(value)
        case Sequence():
            return 3 + sum(1 + _size_of(element) for element in value)
        case _:
            raise TypeError(f"DynamoDB has no exact form for a {type(value).__name__}.")


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

    def get_many(self, keys: Sequence[tuple[str, str]], *, consistent: bool = False) -> list[dict[str, Any]]:
        """The items under these keys, in any order; what is not there is left out.

        ``consistent`` costs twice as much and sees every finished write, of each item by itself.

        :raises StateError: the table answered only in part, several times over.
        """
        found: list[dict[str, Any]] = []
        for start in range(0, len(keys), LARGEST_BATCH):
            found += self._get_batch(keys[start : start + LARGEST_BATCH], consistent=consistent)
        return found

    def _get_batch(self, keys: Sequence[tuple[str, str]], *, consistent: bool) -> list[dict[str, Any]]:
        wanted = [{"pk": {"S": pk}, "sk": {"S": sk}} for pk, sk in keys]
        asked: Any = {self._name: {"Keys": wanted, "ConsistentRead": consistent}}
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
        condition: str | None = PRESENT,
        values: Item | None = None,
        names: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Change an item in one write, by default only one that is there; the item as it is then.

        :raises ConditionFailedError: the condition does not hold.
        """
        with translated():
            answer = self._client.update_item(
                TableName=self._name,
                Key={"pk": {"S": pk}, "sk": {"S": sk}},
                UpdateExpression=expression,
                ReturnValues="ALL_NEW",
                **_conditional(condition, values),
                **_named(names),
            )
        return from_item(answer.get("Attributes", {}))

    def delete(self, pk: str, sk: str, *, condition: str, values: Item | None = None) -> None:
        """Delete an item. ``values`` are those of the ``condition``, with their colons.

        :raises ConditionFailedError: the condition does not hold, which may be because there is no such item.
        """
        with translated():
            self._client.delete_item(
                TableName=self._name, Key={"pk": {"S": pk}, "sk": {"S": sk}}, **_conditional(condition, values)
            )

    def transact(self, *writes: Put | Update | Check) -> None:
        """Make all of these writes, or none of them.

        :raises ConditionFailedError: a condition does not hold.
        :raises StateConflictError: another transaction is about one of the items.
        """
        with translated():
            self._client.transact_write_items(TransactItems=[write.request(self._name) for write in writes])

    def query(self, pk: str, *, prefix: str | None = None, consistent: bool = False) -> list[dict[str, Any]]:
        """Every item of a partition, in order of the sort key; with ``prefix`` those whose sort key starts so."""
        condition, values = "pk = :pk", {":pk": pk}
        if prefix is not None:
            condition, values = f"{condition} AND begins_with(sk, :prefix)", values | {":prefix": prefix}
        return self._query(condition, values, ConsistentRead=consistent)

    def iterate(self, pk: str, first: str, last: str) -> Iterator[dict[str, Any]]:
        """The items of a partition whose sort keys are from ``first`` to ``last``, in their order, as of now.

        They are read as they are asked for.
        """
        yield from self._pages(
            "pk = :pk AND sk BETWEEN :first AND :last",
            {":pk": pk, ":first": first, ":last": last},
            ConsistentRead=True,
        )

    def page_between(
        self, pk: str, first: str, last: str, *, equals: tuple[str, object], attributes: Sequence[str]
    ) -> tuple[list[dict[str, Any]], str | None]:
        """A page of the items whose sort keys are from ``first`` to ``last``, as of now and not a moment ago.

        Only those whose attribute (the first of ``equals``) has a value (the second), and of those only the
        ``attributes``. The rest is read all the same, and billed: a page is 1 MB of both. With it comes the sort key
        that it ends with, ``None`` when nothing is behind it.
        https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Query.Pagination.html
        """
        names = {f"#n{number}": name for number, name in enumerate(attributes)} | {"#filter": equals[0]}
        with translated():
            page = self._client.query(
                TableName=self._name,
                KeyConditionExpression="pk = :pk AND sk BETWEEN :first AND :last",
                ExpressionAttributeValues=to_item({":pk": pk, ":first": first, ":last": last, ":value": equals[1]}),
                FilterExpression="#filter = :value",
                ProjectionExpression=", ".join(name for name in names if name != "#filter"),
                ExpressionAttributeNames=names,
                ConsistentRead=True,
            )
        end = page.get("LastEvaluatedKey")
        return [from_item(item) for item in page["Items"]], str(from_item(end)["sk"]) if end else None

    def query_index(self, index: str, pk: str, sk: str | None = None) -> list[dict[str, Any]]:
        """The items under these keys of an index (attributes ``<index>pk`` and ``<index>sk``), in order of the latter.

        An index follows the table with a short delay.
        """
        condition, values = f"{index}pk = :pk", {":pk": pk}
        if sk is not None:
            condition, values = f"{condition} AND {index}sk = :sk", values | {":sk": sk}
        return self._query(condition, values, IndexName=index)

    def iterate_index(
        self, index: str, pk: str, *, after: str | None, page_size: int, newest_first: bool = False
    ) -> Iterator[dict[str, Any]]:
        """The items under a partition key of an index, behind the sort key ``after``, read as they are asked for.

        They come in ascending order of the sort key, or ``newest_first`` in descending order.
        """
        condition, values = f"{index}pk = :pk", {":pk": pk}
        if after is not None:
            behind = "<" if newest_first else ">"
            condition, values = f"{condition} AND {index}sk {behind} :after", values | {":after": after}
        yield from self._pages(
            condition,
            values,
            IndexName=index,
            ScanIndexForward=not newest_first,
            PaginationConfig={"PageSize": page_size},
        )

    def _query(self, condition: str, values: Item, **options: Any) -> list[dict[str, Any]]:
        return list(self._pages(condition, values, **options))

    def _pages(self, condition: str, values: Item, **options: Any) -> Iterator[dict[str, Any]]:
        pages = self._client.get_paginator("query").paginate(
            TableName=self._name,
            KeyConditionExpression=condition,
            ExpressionAttributeValues=to_item(values),
            **options,
        )
        with translated():
            for page in pages:
                yield from map(from_item, page["Items"])


def _named(names: Mapping[str, str] | None) -> dict[str, Any]:
    return {"ExpressionAttributeNames": dict(names)} if names else {}


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
