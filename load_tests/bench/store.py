"""DynamoDB in memory, for a stand-in that answers at once: one table, typed values, conditions, capacity units."""

from __future__ import annotations

import base64
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from load_tests.bench import expressions
from load_tests.bench.expressions import ExpressionError, Item, copied

__all__ = ["Refusal", "Store", "item_bytes"]

_PARTITION: Final = re.compile(r"\s*([#\w]+)\s*=\s*(:\w+)")
_WRITE_UNIT_BYTES: Final = 1024
_READ_UNIT_BYTES: Final = 4096

Request = Mapping[str, Any]
Answer = dict[str, Any]
Key = tuple[str, str]


class Refusal(Exception):  # noqa: N818 - it is the table's answer, not a failure of ours
    """An answer with status 400: DynamoDB's error code, and more members of the body."""

    def __init__(self, code: str, message: str, **more: object) -> None:
        super().__init__(code)
        self.body: dict[str, Any] = {"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": message, **more}


@dataclass
class Units:
    """What calls cost on demand: write and read request units."""

    write: float = 0.0
    read: float = 0.0


@dataclass
class Store:
    """The table. Without ``strict`` every condition holds: what replays recorded calls meets another state."""

    strict: bool = True
    counting: bool = False
    units: Units = field(default_factory=Units)
    _partitions: dict[str, dict[str, Item]] = field(default_factory=lambda: defaultdict(dict))

    def answer(self, operation: str, request: Request) -> Answer:
        """What the table answers to ``operation`` (``GetItem`` …).

        :raises Refusal: it refuses.
        :raises KeyError: the stand-in does not know the operation.
        """
        try:
            return _OPERATIONS[operation](self, request)
        except ExpressionError as problem:
            raise Refusal("ValidationException", str(problem)) from problem

    def seed(self, other: Store) -> None:
        """Hold what ``other`` holds now."""
        self._partitions = defaultdict(dict, copied(dict(other._partitions)))

    def put(self, item: Item) -> None:
        """Hold ``item`` from now on."""
        pk, sk = _key(item)
        self._partitions[pk][sk] = item

    # Reads.

    def get_item(self, request: Request) -> Answer:
        item = self._find(_key(request["Key"]))
        self._count_read(item_bytes(item or {}), consistent=request.get("ConsistentRead", False))
        return {"Item": item} if item else {}

    def batch_get_item(self, request: Request) -> Answer:
        responses = {}
        for table, asked in request["RequestItems"].items():
            found = [self._find(_key(key)) for key in asked["Keys"]]
            responses[table] = [item for item in found if item]
            for item in found:
                self._count_read(item_bytes(item or {}), consistent=asked.get("ConsistentRead", False))
        return {"Responses": responses, "UnprocessedKeys": {}}

    def query(self, request: Request) -> Answer:
        test = expressions.condition(request["KeyConditionExpression"], _names(request))
        values = request["ExpressionAttributeValues"]
        found = [item for item in self._candidates(request) if test(item, values)]
        found.sort(key=lambda item: _sort_key(item, request.get("IndexName")))
        if not request.get("ScanIndexForward", True):
            found.reverse()
        size = sum(map(item_bytes, found))
        self._count_read(size, consistent=request.get("ConsistentRead", False))
        if expression := request.get("FilterExpression"):
            wanted = expressions.condition(expression, _names(request))
            found = [item for item in found if wanted(item, values)]
        found = found[: request.get("Limit")]
        return {"Items": found, "Count": len(found), "ScannedCount": len(found)}

    def _candidates(self, request: Request) -> list[Item]:
        partition = _PARTITION.match(request["KeyConditionExpression"])
        if "IndexName" in request or partition is None:
            return [item for items in self._partitions.values() for item in items.values()]
        return list(self._partitions.get(request["ExpressionAttributeValues"][partition[2]]["S"], {}).values())

    # Writes.

    def put_item(self, request: Request) -> Answer:
        before = self._checked(_key(request["Item"]), request)
        self._write(request["Item"], before)
        return {"Attributes": before} if before and request.get("ReturnValues") == "ALL_OLD" else {}

    def update_item(self, request: Request) -> Answer:
        before = self._checked(_key(request["Key"]), request)
        after = self._updated(before, request)
        self._write(after, before)
        return _returned(request.get("ReturnValues"), before or {}, after)

    def delete_item(self, request: Request) -> Answer:
        key = _key(request["Key"])
        before = self._checked(key, request)
        self._count_write(item_bytes(before or {}))
        self._partitions[key[0]].pop(key[1], None)
        return {"Attributes": before} if before and request.get("ReturnValues") == "ALL_OLD" else {}

    def transact_write_items(self, request: Request) -> Answer:
        parts = [next(iter(part.items())) for part in request["TransactItems"]]
        befores = [self._find(_key(part.get("Item") or part["Key"])) for _, part in parts]
        reasons = [
            _reason(self._holds(before, part), before, part) for before, (_, part) in zip(befores, parts, strict=True)
        ]
        if any(reason["Code"] != "None" for reason in reasons):
            raise Refusal("TransactionCanceledException", "Transaction cancelled", CancellationReasons=reasons)
        for before, (kind, part) in zip(befores, parts, strict=True):
            if kind == "Delete":
                pk, sk = _key(part["Key"])
                self._partitions[pk].pop(sk, None)
                self._count_write(item_bytes(before or {}), factor=2)
            elif kind == "ConditionCheck":
                self._count_write(item_bytes(before or {}), factor=2)
            else:
                after = part["Item"] if kind == "Put" else self._updated(before, part)
                self._write(after, before, factor=2)
        return {}

    def _updated(self, before: Item | None, request: Request) -> Item:
        change = expressions.update(request.get("UpdateExpression", ""), _names(request))
        return change(before or dict(request["Key"]), request.get("ExpressionAttributeValues", {}))

    def _write(self, item: Item, before: Item | None, *, factor: int = 1) -> None:
        self.put(item)
        if self.counting:
            self._count_write(max(item_bytes(item), item_bytes(before or {})), factor=factor)

    def _checked(self, key: Key, request: Request) -> Item | None:
        before = self._find(key)
        if self._holds(before, request):
            return before
        self._count_write(item_bytes(before or {}))
        shown = {"Item": before} if before and request.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD" else {}
        raise Refusal("ConditionalCheckFailedException", "The conditional request failed", **shown)

    def _holds(self, before: Item | None, request: Request) -> bool:
        expression = request.get("ConditionExpression")
        if not expression or not self.strict:
            return True
        test = expressions.condition(expression, _names(request))
        return test(before or {}, request.get("ExpressionAttributeValues", {}))

    def _find(self, key: Key) -> Item | None:
        return self._partitions.get(key[0], {}).get(key[1])

    # https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/on-demand-capacity-mode.html

    def _count_write(self, size: int, *, factor: int = 1) -> None:
        if self.counting:
            self.units.write += factor * max(1, -(-size // _WRITE_UNIT_BYTES))

    def _count_read(self, size: int, *, consistent: bool) -> None:
        if self.counting:
            self.units.read += max(1, -(-size // _READ_UNIT_BYTES)) * (1.0 if consistent else 0.5)


_OPERATIONS: Final[Mapping[str, Callable[[Store, Request], Answer]]] = {
    "BatchGetItem": Store.batch_get_item,
    "DeleteItem": Store.delete_item,
    "GetItem": Store.get_item,
    "PutItem": Store.put_item,
    "Query": Store.query,
    "TransactWriteItems": Store.transact_write_items,
    "UpdateItem": Store.update_item,
}


def _key(item: Mapping[str, Any]) -> Key:
    return item["pk"]["S"], item["sk"]["S"]


def _sort_key(item: Item, index: str | None) -> str:
    return str(item.get(f"{index}sk" if index else "sk", {"S": ""})["S"])


def _names(request: Request) -> tuple[tuple[str, str], ...]:
    names = request.get("ExpressionAttributeNames")
    return tuple(sorted(names.items())) if names else ()


def _returned(wanted: str | None, before: Item, after: Item) -> Answer:
    match wanted:
        case "ALL_NEW":
            return {"Attributes": after}
        case "ALL_OLD":
            return {"Attributes": before} if before else {}
        case "UPDATED_NEW":
            return {"Attributes": {name: value for name, value in after.items() if before.get(name) != value}}
        case "UPDATED_OLD":
            return {"Attributes": {name: value for name, value in before.items() if after.get(name) != value}}
        case _:
            return {}


def _reason(holds: bool, before: Item | None, part: Request) -> Answer:  # noqa: FBT001 - one call, right above
    if holds:
        return {"Code": "None"}
    shown = {"Item": before} if before and part.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD" else {}
    return {"Code": "ConditionalCheckFailed", "Message": "The conditional request failed", **shown}


def item_bytes(item: Mapping[str, Any]) -> int:
    """The size by which DynamoDB bills an item.

    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html
    """
    return sum(len(name.encode()) + _value_bytes(value) for name, value in item.items())


def _value_bytes(value: Mapping[str, Any]) -> int:
    [(kind, content)] = value.items()
    sizes: Mapping[str, Callable[[Any], int]] = {
        "S": lambda text: len(text.encode()),
        "N": _number_bytes,
        "B": lambda encoded: len(base64.b64decode(encoded)),
        "M": lambda members: 3 + sum(1 + len(name.encode()) + _value_bytes(one) for name, one in members.items()),
        "L": lambda members: 3 + sum(1 + _value_bytes(one) for one in members),
        "SS": lambda texts: sum(len(text.encode()) for text in texts),
    }
    return sizes.get(kind, lambda _: 1)(content)


def _number_bytes(number: str) -> int:
    digits = len(number.lstrip("-").replace(".", "").strip("0")) or 1
    return -(-digits // 2) + 1 + number.startswith("-")
