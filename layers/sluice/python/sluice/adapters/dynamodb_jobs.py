"""Asynchronous jobs in the table: one item each, changed by one conditional write at a time; an index lists a key's."""

import secrets
from contextlib import suppress
from typing import Any, Final

from sluice.adapters.dynamodb import ABSENT, PRESENT, ConditionFailedError, Item, Table, to_struct, to_values
from sluice.domain.errors import NotFoundError
from sluice.domain.jobs import AsyncJob, Claim, ClaimOutcome, JobStatus

PREFIX: Final = "ASYNC#"
SORT_KEY: Final = "META"
INDEX: Final = "gsi1"
_CLAIM: Final = "claim"

_STATUSES: Final = {f":{status.value}": status.value for status in JobStatus}
_CLAIMABLE: Final = (
    f"{PRESENT} AND (#status = :queued OR (#status = :failed AND #permanent = :no)"
    " OR (#status = :in_progress AND lease_until <= :now))"
)
_OURS: Final = "attempts = :attempts AND #status IN (:queued, :in_progress)"
# What becomes of an attempt; everything else of a job is fixed when it is created or claimed.
_OUTCOME_FIELDS: Final = (
    "status", "updated_at", "lease_until", "final_attempt", "permanent", "completed_at", "response_key", "error",
    "usage", "cost_micro_usd",
)  # fmt: skip


class DynamoDBJobs:
    """Implements :class:`~sluice.domain.ports.JobStore`."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def create(self, job: AsyncJob) -> None:
        keys = {
            "pk": _partition(job.id),
            "sk": SORT_KEY,
            "gsi1pk": _owner(job.key_id),
            "gsi1sk": _place(job),
        }
        try:
            self._table.put({**keys, **to_values(job)}, condition=ABSENT)
        except ConditionFailedError as exc:
            # Unless our own write got there before: botocore repeats a call whose answer was lost.
            if exc.item is None or from_item(exc.item) != job:
                raise

    def get(self, job_id: str) -> AsyncJob | None:
        item = self._table.get(_partition(job_id), SORT_KEY, consistent=True)
        return from_item(item) if item else None

    def claim(self, job_id: str, *, now: int, lease_until: int, final_attempt: bool) -> Claim:
        wanted = {name: _STATUSES[name] for name in (":queued", ":failed", ":in_progress")}
        name = secrets.token_hex(8)
        set_to = {":claim": name, ":now": now, ":lease": lease_until, ":final": final_attempt, ":one": 1}
        try:
            item = self._table.update(
                _partition(job_id),
                SORT_KEY,
                "SET #status = :in_progress, #claim = :claim, updated_at = :now, lease_until = :lease,"
                " final_attempt = :final, attempts = attempts + :one REMOVE completed_at",
                condition=_CLAIMABLE,
                values=wanted | set_to | {":no": False},
                names={"#status": "status", "#permanent": "permanent", "#claim": _CLAIM},
            )
        except ConditionFailedError as exc:
            if exc.item is None:
                raise NotFoundError("There is no such job.") from exc
            job = from_item(exc.item)
            if job.status is not JobStatus.IN_PROGRESS:
                return Claim(outcome=ClaimOutcome.SETTLED, job=job)
            # It may be our own claim, whose answer was lost.
            ours = exc.item.get(_CLAIM) == name
            return Claim(outcome=ClaimOutcome.CLAIMED if ours else ClaimOutcome.LEASED, job=job)
        return Claim(outcome=ClaimOutcome.CLAIMED, job=from_item(item))

    def settle(self, job: AsyncJob) -> None:
        outcome = to_values(job)
        kept = [name for name in _OUTCOME_FIELDS if outcome[name] is not None]
        dropped = [name for name in _OUTCOME_FIELDS if outcome[name] is None]
        expression = "SET " + ", ".join(f"#{name} = :new_{name}" for name in kept)
        if dropped:
            expression += " REMOVE " + ", ".join(f"#{name}" for name in dropped)
        values: dict[str, Any] = {f":new_{name}": outcome[name] for name in kept}
        expected = {name: _STATUSES[name] for name in (":queued", ":in_progress")}
        try:
            self._table.update(
                _partition(job.id),
                SORT_KEY,
                expression,
                condition=_OURS,
                values={**values, **expected, ":attempts": job.attempts},
                names={f"#{name}": name for name in _OUTCOME_FIELDS},
            )
        except ConditionFailedError as exc:
            if not _is_stored(job, exc.item):
                raise

    def cancel(self, job_id: str, *, now: int) -> AsyncJob:
        wanted = {name: _STATUSES[name] for name in (":queued", ":in_progress", ":cancelled")}
        try:
            item = self._table.update(
                _partition(job_id),
                SORT_KEY,
                "SET #status = :cancelled, updated_at = :now, cancelled_at = :now, final_attempt = :no"
                " REMOVE lease_until, #error",
                condition=f"{PRESENT} AND #status IN (:queued, :in_progress)",
                values=wanted | {":now": now, ":no": False},
                names={"#status": "status", "#error": "error"},
            )
        except ConditionFailedError as exc:
            if exc.item is None:
                raise NotFoundError("There is no such job.") from exc
            return from_item(exc.item)
        return from_item(item)

    def note_cost(self, job: AsyncJob) -> None:
        values = to_values(job)
        known = [name for name in ("usage", "cost_micro_usd") if values[name] is not None]
        if not known:
            return
        with suppress(ConditionFailedError):
            self._table.update(
                _partition(job.id),
                SORT_KEY,
                "SET " + ", ".join(f"#{name} = :{name}" for name in known),
                condition="attempts = :attempts AND #status = :cancelled",
                values={
                    ":attempts": job.attempts,
                    ":cancelled": JobStatus.CANCELLED.value,
                    **{f":{name}": values[name] for name in known},
                },
                names={"#status": "status", **{f"#{name}": name for name in known}},
            )

    def page(self, key_id: str, *, limit: int, after: str | None, now: int) -> tuple[tuple[AsyncJob, ...], bool]:
        place = None if after is None else self._place_of(key_id, after)
        found: list[AsyncJob] = []
        items = self._table.iterate_index(INDEX, _owner(key_id), after=place, page_size=limit + 1, newest_first=True)
        for job in map(from_item, items):
            if job.forgotten_at <= now:
                continue
            if len(found) == limit:
                return tuple(found), True
            found.append(job)
        return tuple(found), False

    def _place_of(self, key_id: str, job_id: str) -> str:
        job = self.get(job_id)
        if job is None or job.key_id != key_id:
            raise NotFoundError("There is no such job.")
        return _place(job)


def from_item(item: Item) -> AsyncJob:
    """The job that an item holds. :raises ConfigurationError: it is malformed."""
    return to_struct(item, AsyncJob)


def _is_stored(job: AsyncJob, item: dict[str, Any] | None) -> bool:
    """Whether our own write got there before: botocore repeats a call whose answer was lost."""
    return item is not None and (item["attempts"], item["status"]) == (job.attempts, job.status.value)


def _owner(key_id: str) -> str:
    return f"{PREFIX}{key_id}"


def _place(job: AsyncJob) -> str:
    """Where a job stands among those of its key: by the second of its creation."""
    return f"{job.created_at:012d}#{job.id}"


def _partition(job_id: str) -> str:
    return f"{PREFIX}{job_id}"
