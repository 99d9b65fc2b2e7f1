"""Workflow executions in the table: one partition each, holding the execution and a record per step that was tried.

The steps' plan (index, name, model) is part of the execution's own item, so starting costs one write however many
steps there are; a step's record replaces its plan once there is something to tell.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from sluice.adapters.dynamodb import ABSENT, PRESENT, ConditionFailedError, Item, Table, to_struct, to_values
from sluice.domain.workflows import Execution, ExecutionStatus, StepRecord

PREFIX: Final = "EXEC#"
SORT_KEY: Final = "META"
STEP_PREFIX: Final = "STEP#"
_END_FIELDS: Final = ("status", "completed_at", "usage", "cost_micro_usd", "error")


class DynamoDBExecutions:
    """Implements :class:`~sluice.domain.ports.ExecutionStore`."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def create(self, execution: Execution, steps: Sequence[StepRecord]) -> None:
        plan = [_without_nones(to_values(step)) for step in steps]
        item = {"pk": _partition(execution.id), "sk": SORT_KEY, **to_values(execution), "steps": plan}
        try:
            self._table.put(item, condition=ABSENT)
        except ConditionFailedError as exc:
            # Unless our own write got there before: botocore repeats a call whose answer was lost.
            if exc.item is None or (from_item(exc.item), exc.item["steps"]) != (execution, plan):
                raise

    def get(self, execution_id: str) -> tuple[Execution, tuple[StepRecord, ...]] | None:
        items = {item["sk"]: item for item in self._table.query(_partition(execution_id), consistent=True)}
        meta = items.get(SORT_KEY)
        if meta is None:
            return None
        steps = tuple(to_struct(items.get(_step_key(plan["index"]), plan), StepRecord) for plan in meta["steps"])
        return from_item(meta), steps

    def record_step(self, execution: Execution, step: StepRecord) -> None:
        item = {
            "pk": _partition(execution.id),
            "sk": _step_key(step.index),
            "expires_at": execution.expires_at,
            **to_values(step),
        }
        # Exactly the steps that succeeded have an output.
        self._table.put(item, condition="attribute_not_exists(output_key)")

    def finish(self, execution: Execution) -> None:
        end = _without_nones({name: value for name, value in to_values(execution).items() if name in _END_FIELDS})
        with suppress(ConditionFailedError):
            self._table.update(
                _partition(execution.id),
                SORT_KEY,
                "SET " + ", ".join(f"#{name} = :{name}" for name in end),
                condition=f"{PRESENT} AND #status = :running",
                values={f":{name}": value for name, value in end.items()} | {":running": ExecutionStatus.RUNNING.value},
                names={f"#{name}": name for name in end},
            )


def from_item(item: Item) -> Execution:
    """The execution that an item holds. :raises ConfigurationError: it is malformed."""
    return to_struct(item, Execution)


def _without_nones(values: Item) -> dict[str, object]:
    return {name: value for name, value in values.items() if value is not None}


def _partition(execution_id: str) -> str:
    return f"{PREFIX}{execution_id}"


def _step_key(index: object) -> str:
    return f"{STEP_PREFIX}{index:03d}"
