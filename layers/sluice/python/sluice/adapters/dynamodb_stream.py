"""The table's stream, as Lambda delivers it: records of what an item was and what it became."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from sluice.adapters import dynamodb_audit, dynamodb_batches, dynamodb_executions, dynamodb_jobs, dynamodb_request_log
from sluice.adapters.dynamodb import Item, from_item
from sluice.domain.audit import AdminAction
from sluice.domain.batches import Batch
from sluice.domain.errors import ConfigurationError
from sluice.domain.events import Change
from sluice.domain.jobs import AsyncJob
from sluice.domain.request_log import RequestLogEntry
from sluice.domain.workflows import Execution

_WRITES: Final = frozenset({"INSERT", "MODIFY"})


class DynamoDBStream:
    """Implements :class:`~sluice.domain.ports.ChangeReader` for records with both images."""

    def read(self, record: Mapping[str, Any]) -> Change | None:
        try:
            return _read(record)
        except (KeyError, TypeError, AttributeError, ConfigurationError) as exc:
            # The text of these may quote a value; their type and, for ours, their item is enough.
            raise ValueError(f"The stream record cannot be understood: {type(exc).__name__}.") from exc


def _read(record: Mapping[str, Any]) -> Change | None:
    body = record["dynamodb"]
    keys = from_item(body["Keys"])
    pk, sk = str(keys["pk"]), str(keys["sk"])
    parse = _parser(pk, sk)
    if parse is None or record["eventName"] not in _WRITES:
        return None
    old = body.get("OldImage")
    return Change(
        key=f"{pk}|{sk}",
        sequence=str(body["SequenceNumber"]),
        at=float(body["ApproximateCreationDateTime"]),
        subject=parse(from_item(body["NewImage"])),
        before=str(from_item(old)["status"]) if old else None,
    )


def _parser(pk: str, sk: str) -> Callable[[Item], RequestLogEntry | AsyncJob | Batch | Execution | AdminAction] | None:
    if pk.startswith("REQ#"):
        return dynamodb_request_log.from_item
    if pk.startswith(dynamodb_audit.PREFIX):
        return dynamodb_audit.from_item
    if sk == dynamodb_jobs.SORT_KEY and pk.startswith(dynamodb_jobs.PREFIX):
        return dynamodb_jobs.from_item
    if sk == dynamodb_batches.SORT_KEY and pk.startswith(dynamodb_batches.PREFIX):
        return dynamodb_batches.from_item
    if sk == dynamodb_executions.SORT_KEY and pk.startswith(dynamodb_executions.PREFIX):
        return dynamodb_executions.from_item
    return None
