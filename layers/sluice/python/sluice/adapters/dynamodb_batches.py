"""Batches in the table: an item for each batch, and one for each of its chunks.

How they move is told by :mod:`sluice.domain.batches`, what each step makes of them by :mod:`sluice.domain.batch_steps`.

How writes are made
-------------------
Many workers write to one batch, and all requests of a key to one ledger, so transactions get into each other's way.
DynamoDB then refuses one of them whole, and it is made again after a moment. Every write is conditional on what it was
decided by, and leaves something that only it leaves (a claim's random name, a part's objects, the end of a claim). So
one whose answer got lost is made again as well: if it had been done, its condition does not hold any more, and what is
there says that it was ours.

The money goes with them: :mod:`sluice.adapters.dynamodb_funds`.
"""

import itertools
import random
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, TypeVar

import msgspec

from sluice.adapters import dynamodb_files, dynamodb_request_log
from sluice.adapters import dynamodb_ledger_items as ledger_items
from sluice.adapters.dynamodb import (
    ABSENT,
    PRESENT,
    Check,
    ConditionFailedError,
    Item,
    Put,
    Table,
    Update,
    to_struct,
    to_values,
)
from sluice.adapters.dynamodb_funds import setting_aside, settling
from sluice.domain import batch_steps as steps
from sluice.domain.admission import NOTHING, Window
from sluice.domain.batches import ENDED, Batch, BatchError, BatchStatus, Chunk, ChunkStatus, LineUse, Part, Recorded
from sluice.domain.errors import ConfigurationError, LeasedError, NotFoundError, StateConflictError, StateError
from sluice.domain.files import StoredFile
from sluice.domain.inference import Usage
from sluice.domain.ledger import Ask, Hold, Limits, Spent
from sluice.domain.ports import Ledger
from sluice.domain.request_log import RequestLogEntry

PREFIX: Final = "BATCH#"
SORT_KEY: Final = "META"
CHUNK_PREFIX: Final = "CHUNK#"
INDEX: Final = "gsi1"
# Of writes that found another state than they were decided by: somebody else got on each time.
TRIES: Final = 12
# Of a call that failed without saying whether it did anything, and of one that says that it did nothing.
ATTEMPTS: Final = 3
REFUSED_ATTEMPTS: Final = 16
BACKOFF_S: Final = 0.02
LONGEST_BACKOFF_S: Final = 1.0
# From the hold to the transaction that sets it aside, with all its repeats.
HOLD_S: Final = 60
# https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html
LARGEST_TRANSACTION: Final = 100

_THROTTLED: Final = "state_throttled"
_CLAIM: Final = "claim"
_USAGE: Final = "usage_"
_COUNTS: Final = tuple(name for name in Usage.__struct_fields__ if name != "estimated")
_FREE: Final = "(attribute_not_exists(#lease_until) OR #lease_until <= :now)"
_RECORDABLE: Final = (BatchStatus.IN_PROGRESS, BatchStatus.CANCELLING)

T = TypeVar("T")


class DynamoDBBatches:
    """Implements :class:`~sluice.domain.ports.BatchStore`.

    ``ledger`` is called when :meth:`begin` needs one, ``log_ttl_days`` is for how long the request log keeps what
    :meth:`record` enters; whoever does neither needs neither.
    """

    def __init__(
        self,
        table: Table,
        *,
        ledger: Callable[[], Ledger] | None = None,
        log_ttl_days: int | None = None,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._table = table
        self._ledger = ledger
        self._log_ttl_days = log_ttl_days
        self._now = now
        self._sleep = sleep

    # ---- The batch ----

    def create(self, batch: Batch) -> None:
        try:
            self._repeated(lambda: self._table.put(to_item(batch), condition=ABSENT))
        except ConditionFailedError as failed:
            if failed.item is None or from_item(failed.item) != batch:
                raise

    def get(self, batch_id: str) -> Batch | None:
        item = self._table.get(_partition(batch_id), SORT_KEY, consistent=True)
        return from_item(item) if item else None

    def page(self, key_id: str, *, limit: int, after: str | None) -> tuple[tuple[Batch, ...], bool]:
        place = None
        if after is not None:
            last = self._read(after)
            if last.key_id != key_id:
                raise NotFoundError("There is no such batch.")
            place = _place(last)
        found = self._table.iterate_index(INDEX, _owner(key_id), after=place, page_size=limit + 1, newest_first=True)
        batches = tuple(map(from_item, itertools.islice(found, limit + 1)))
        return batches[:limit], len(batches) > limit

    def claim(self, batch_id: str, statuses: Sequence[BatchStatus], *, now: int, lease_until: int) -> Batch | None:
        wanted = {f":status{number}": status.value for number, status in enumerate(statuses)}
        name = secrets.token_hex(8)
        try:
            item = self._update(
                _partition(batch_id),
                SORT_KEY,
                "SET #claim = :claim, #lease_until = :lease, #attempts = #attempts + :one, #updated_at = :now,"
                " #parked = :no",
                condition=f"{PRESENT} AND #status IN ({', '.join(wanted)}) AND {_FREE}",
                values={**wanted, ":claim": name, ":lease": lease_until, ":one": 1, ":now": now, ":no": False},
            )
        except ConditionFailedError as failed:
            item = _found(failed, "batch")
            batch = from_item(item)
            if item.get(_CLAIM) == name:
                return batch
            if batch.status not in statuses:
                return None
            raise LeasedError(lease_until=batch.lease_until or now) from failed
        return from_item(item)

    def note(self, batch: Batch, progress: Mapping[str, object], *, now: int, lease_until: int) -> Batch:
        try:
            item = self._update(
                _partition(batch.id),
                SORT_KEY,
                "SET #progress = :progress, #lease_until = :lease, #updated_at = :now",
                condition="#attempts = :attempts AND attribute_exists(#lease_until)",
                values={":progress": progress, ":lease": lease_until, ":now": now, ":attempts": batch.attempts},
            )
        except ConditionFailedError as failed:
            raise steps.overtaken() from failed
        return from_item(item)

    def unclaim(self, batch: Batch, *, now: int) -> None:
        try:
            self._update(
                _partition(batch.id),
                SORT_KEY,
                "SET #updated_at = :now REMOVE #lease_until, #claim",
                condition="#attempts = :attempts AND attribute_exists(#lease_until)",
                values={":now": now, ":attempts": batch.attempts},
            )
        except ConditionFailedError as failed:
            if failed.item is None or from_item(failed.item).attempts != batch.attempts:
                raise steps.overtaken() from failed

    def begin(self, batch: Batch, *, most_cost_micro_usd: Decimal, limits: Limits, now: int) -> Batch:
        if self._ledger is None:
            raise ConfigurationError("Nothing can be set aside without a ledger.")
        ledger = self._ledger()

        def step() -> Batch:
            stored = self._read(batch.id)
            if _has_begun(stored, batch):
                return stored
            if not steps.can_begin(stored, batch):
                raise steps.overtaken()
            # Requests and tokens are limited by the minute, which a batch is not: its pace is its workers' affair.
            money = msgspec.structs.replace(limits, rpm=None, tpm=None)
            ask = Ask(requests=0, cost_micro_usd=most_cost_micro_usd)
            hold = ledger.reserve(batch.key_id, money, ask, until=self._now() + HOLD_S)
            return self._set_aside(ledger, stored, batch, hold, now)

        return self._decided(step)

    def _set_aside(self, ledger: Ledger, claimed: Batch, batch: Batch, hold: Hold, now: int) -> Batch:
        """Start the batch with the money of ``hold``, which is given back when the batch cannot start any more.

        When nobody can tell whether it has started, the hold gives itself back or not, by what has happened.

        :raises ConditionFailedError: the hold has expired.
        """
        begun = steps.begun(claimed, batch, hold, now=now)
        started = _assignment(
            begun,
            ("status", "updated_at", "in_progress_at", "chunks", "lines", "model", "window", "released", "funds",
             "held_micro_usd", "lease_until", "progress", _CLAIM),
            condition="#attempts = :attempts AND #status = :validating AND attribute_exists(#lease_until)"
            " AND attribute_not_exists(#halted)",
            values={":attempts": batch.attempts, ":validating": BatchStatus.VALIDATING.value},
        )  # fmt: skip
        place = ledger_items.partition_key(hold.key_id, hold.shard), ledger_items.SORT_KEY
        shard = self._table.get(*place, consistent=True)
        money = setting_aside(hold, shard, Window.of(self._now()))
        try:
            self._transact(started, money)
        except ConditionFailedError:
            stored = self._read(batch.id)
            if _has_begun(stored, batch):
                return stored
            if not steps.can_begin(stored, batch):
                ledger.settle(hold, NOTHING)
                raise steps.overtaken() from None
            raise
        return begun

    def halt(self, batch_id: str, reason: str, *, now: int) -> Batch:
        def step() -> Batch:
            stored = self._read(batch_id)
            halted = steps.halted(stored, reason, now=now)
            if halted is stored:
                return stored
            # Whoever has it keeps it, with what it notes meanwhile, unless this is the end.
            unclaimed = ("lease_until", "progress", _CLAIM) if halted.status in ENDED else ()
            lease = _is("lease_until", stored.lease_until)
            change = _assignment(
                halted,
                ("status", "halted", "halted_at", "updated_at", "cancelling_at", "cancelled_at", *unclaimed),
                condition=f"#status = :was AND attribute_not_exists(#halted) AND {lease}",
                values={":was": stored.status.value, **_given("lease_until", stored.lease_until)},
            )
            return from_item(self._made(change))

        return self._decided(step)

    def finalize(self, batch: Batch, *, now: int) -> Batch:
        def step() -> Batch:
            stored = self._read(batch.id)
            final = steps.finalized(stored, now=now)
            if final is stored:
                return stored
            # Of one that is drained nothing else is written that would make a difference.
            change = _assignment(
                final,
                ("status", "finalizing_at", "updated_at"),
                condition="#status = :was",
                values={":was": stored.status.value},
            )
            return from_item(self._made(change))

        return self._decided(step)

    def finish(
        self, batch: Batch, status: BatchStatus, *, files: Sequence[StoredFile], errors: Sequence[BatchError], now: int
    ) -> Batch:
        def step() -> Batch:
            stored = self._read(batch.id)
            ended = steps.finished(stored, status, files=files, errors=errors, now=now)
            if stored.attempts == batch.attempts and steps.is_same_end(stored, ended):
                return stored
            if not steps.is_claimed(stored, batch) or stored.status in ENDED:
                raise steps.overtaken()
            change = _assignment(
                ended,
                ("status", "updated_at", "held_micro_usd", "lease_until", "progress", "errors", "output_file_id",
                 "error_file_id", f"{status.value}_at", _CLAIM),
                condition="#attempts = :attempts AND #status = :was AND attribute_exists(#lease_until)"
                " AND #held_micro_usd = :held",
                values={":attempts": batch.attempts, ":was": stored.status.value, ":held": stored.held_micro_usd},
            )  # fmt: skip
            given_back = _settled(stored, NOTHING, released=stored.held_micro_usd)
            self._transact(change, *(Put(dynamodb_files.to_item(file)) for file in files), *given_back)
            return ended

        return self._decided(step)

    def park(self, batch_id: str, *, now: int) -> None:
        over = {f":over{number}": status.value for number, status in enumerate(sorted(ENDED))}
        self._park(_partition(batch_id), SORT_KEY, f"NOT #status IN ({', '.join(over)})", over, now=now)

    # ---- Its chunks ----

    def put_chunks(self, batch: Batch, chunks: Sequence[Chunk]) -> None:
        claimed = Check(
            _partition(batch.id),
            SORT_KEY,
            "#attempts = :attempts AND #status = :validating AND attribute_exists(#lease_until)",
            {":attempts": batch.attempts, ":validating": BatchStatus.VALIDATING.value},
            {f"#{name}": name for name in ("attempts", "status", "lease_until")},
        )
        size = LARGEST_TRANSACTION - 1
        for start in range(0, len(chunks), size):
            planned = [
                Put(_chunk_item(batch, msgspec.structs.replace(chunk, updated_at=batch.updated_at)))
                for chunk in chunks[start : start + size]
            ]
            try:
                self._transact(claimed, *planned)
            except ConditionFailedError as failed:
                raise steps.overtaken() from failed

    def chunks(self, batch: Batch) -> Iterator[Chunk]:
        every = batch.chunks or 0
        items = self._table.iterate(_partition(batch.id), _chunk_key(0), _chunk_key(every))
        for number in range(every):
            item = next(items, None)
            # Nothing may be left out in silence.
            if item is None or item["number"] != number:
                raise NotFoundError("There is no such chunk.")
            yield chunk_from_item(item)

    def chunks_out(self, batch: Batch) -> Sequence[Chunk]:
        """What is out is the first of each lane (``number``, ``number + window`` …) that has not ended.

        Those before it have ended and those behind it have not been given out, so it is found by halving.
        """
        every = batch.chunks or 0
        lanes = [range(first, every, batch.window) for first in range(min(batch.window, every))]
        low, high = [0] * len(lanes), [len(lane) for lane in lanes]
        found: dict[int, Chunk] = {}
        while searched := [number for number, lane in enumerate(lanes) if low[number] < high[number]]:
            middle = {number: (low[number] + high[number]) // 2 for number in searched}
            read = self._read_chunks(batch.id, [lanes[number][place] for number, place in middle.items()])
            for number, place in middle.items():
                chunk = read[lanes[number][place]]
                if chunk.status is ChunkStatus.ENDED:
                    low[number] = place + 1
                else:
                    high[number] = place
                    found[number] = chunk
        candidates = sorted(found.values(), key=lambda chunk: chunk.number)
        return tuple(chunk for chunk in candidates if steps.is_out(batch, chunk))

    def claim_chunk(self, batch_id: str, number: int, *, now: int, lease_until: int) -> tuple[Batch, Chunk] | None:
        batch = self._read(batch_id)
        if batch.status in ENDED:
            return None
        name = secrets.token_hex(8)
        values = {
            ":claim": name, ":lease": lease_until, ":one": 1, ":now": now, ":no": False, ":yes": True,
            ":pending": ChunkStatus.PENDING.value, ":running": ChunkStatus.RUNNING.value, ":window": batch.window,
        }  # fmt: skip
        try:
            item = self._update(
                _partition(batch_id),
                _chunk_key(number),
                "SET #status = :running, #claim = :claim, #lease_until = :lease, #attempts = #attempts + :one,"
                # Nobody counted before there was such a count.
                " #heard_of = if_not_exists(#heard_of, #attempts), #updated_at = :now, #parked = :no",
                condition=f"#status IN (:pending, :running) AND {_FREE} AND (#number < :window OR #released = :yes)",
                values=values,
            )
        except ConditionFailedError as failed:
            item = _found(failed, "chunk")
            chunk = chunk_from_item(item)
            if item.get(_CLAIM) == name:
                return batch, chunk
            if chunk.status is ChunkStatus.ENDED or not steps.is_out(batch, chunk):
                return None
            raise LeasedError(lease_until=chunk.lease_until or now) from failed
        return batch, chunk_from_item(item)

    def renew_chunk(self, chunk: Chunk, *, now: int, lease_until: int) -> None:
        try:
            self._update_claimed(
                chunk, "SET #lease_until = :lease, #updated_at = :now", {":lease": lease_until, ":now": now}
            )
        except ConditionFailedError as failed:
            raise steps.overtaken() from failed

    def record(
        self,
        batch: Batch,
        chunk: Chunk,
        *,
        part: Part | None,
        use: LineUse,
        entries: Sequence[RequestLogEntry],
        now: int,
    ) -> Recorded:
        recorded, spent = steps.recorded_chunk(chunk, part, use, now=now), steps.spent_by(entries, use)
        logged = [self._entry(entry) for entry in steps.entered(batch, entries)]
        current = batch

        def step() -> Recorded:
            following = steps.recorded(current, recorded, use, now=now)[1]
            money = _settled(current, spent, released=use.released_micro_usd)
            released = [_release(batch.id, following, now)] if following is not None else []
            counted = _count(current, recorded, use, following, now)
            self._transact(_replacement(batch, recorded), counted, *released, *money, *logged)
            return Recorded(batch=self._read(batch.id), released=following)

        def again() -> Recorded:
            nonlocal current
            stored = self._read_chunks(batch.id, [chunk.number])[chunk.number]
            if steps.has_recorded(stored, recorded, part):
                return self.end_of(batch.id, chunk.number)
            current = self._read(batch.id)
            if (
                stored.attempts != chunk.attempts
                or stored.status is not ChunkStatus.RUNNING
                or current.status not in _RECORDABLE
            ):
                raise steps.overtaken()
            return step()

        try:
            return step()
        except ConditionFailedError:
            return self._decided(again)

    def end_of(self, batch_id: str, number: int) -> Recorded:
        batch = self._read(batch_id)
        following = steps.successor(batch, number)
        if following is None:
            return Recorded(batch=batch)
        chunk = self._read_chunks(batch_id, [following])[following]
        return Recorded(batch=batch, released=following if steps.is_waiting(chunk) else None)

    def nudge(self, batch_id: str, number: int, *, now: int, untouched_s: int) -> bool:
        try:
            self._update(
                _partition(batch_id),
                _chunk_key(number),
                "SET #updated_at = :now",
                condition="#status = :pending AND #attempts = :none AND #updated_at <= :then",
                values={
                    ":pending": ChunkStatus.PENDING.value,
                    ":none": 0,
                    ":now": now,
                    ":then": now - untouched_s,
                },
            )
        except ConditionFailedError:
            return False
        return True

    def put_chunk_back(self, chunk: Chunk, *, now: int) -> None:
        try:
            self._update_claimed(
                chunk,
                "SET #status = :pending, #heard_of = :heard_of, #updated_at = :now REMOVE #lease_until, #claim",
                {":pending": ChunkStatus.PENDING.value, ":heard_of": chunk.heard_of + 1, ":now": now},
            )
        except ConditionFailedError as failed:
            stored = chunk_from_item(_found(failed, "chunk"))
            if stored.attempts != chunk.attempts or stored.status is not ChunkStatus.PENDING:
                raise steps.overtaken() from failed

    def park_chunk(self, batch_id: str, number: int, *, now: int) -> None:
        ended = {":ended": ChunkStatus.ENDED.value}
        self._park(_partition(batch_id), _chunk_key(number), "#status <> :ended", ended, now=now)

    # ---- The table ----

    def _update_claimed(self, chunk: Chunk, expression: str, values: Item) -> None:
        """Change a chunk, as long as this attempt has it."""
        self._update(
            _partition(chunk.batch_id),
            _chunk_key(chunk.number),
            expression,
            condition="#attempts = :attempts AND #status = :running",
            values={**values, ":attempts": chunk.attempts, ":running": ChunkStatus.RUNNING.value},
        )

    def _park(self, pk: str, sk: str, condition: str, values: Item, *, now: int) -> None:
        try:
            self._update(
                pk,
                sk,
                "SET #parked = :yes, #updated_at = :now",
                condition=f"{PRESENT} AND {condition} AND {_FREE}",
                values={**values, ":yes": True, ":now": now},
            )
        except ConditionFailedError:
            # It is over, gone, or somebody is at work on it: it does not wait for a redrive.
            return

    def _entry(self, entry: RequestLogEntry) -> Put:
        if self._log_ttl_days is None:
            raise ConfigurationError("Nothing can be recorded without a request log.")
        expires_at = dynamodb_request_log.expiry_of(entry, ttl_days=self._log_ttl_days)
        return Put(dynamodb_request_log.to_item(entry, expires_at=expires_at))

    def _read(self, batch_id: str) -> Batch:
        batch = self.get(batch_id)
        if batch is None:
            raise NotFoundError("There is no such batch.")
        return batch

    def _read_chunks(self, batch_id: str, numbers: Sequence[int]) -> dict[int, Chunk]:
        """The chunks with these numbers. :raises NotFoundError: one is not there."""
        pk = _partition(batch_id)
        if len(numbers) == 1:
            item = self._table.get(pk, _chunk_key(numbers[0]), consistent=True)
            items = [item] if item else []
        else:
            items = self._table.get_many([(pk, _chunk_key(number)) for number in numbers], consistent=True)
        chunks = {chunk.number: chunk for chunk in map(chunk_from_item, items)}
        if len(chunks) < len(set(numbers)):
            raise NotFoundError("There is no such chunk.")
        return chunks

    def _made(self, change: Update) -> dict[str, Any]:
        return self._update(
            change.pk, change.sk, change.expression, condition=change.condition or PRESENT, values=change.values
        )

    def _update(self, pk: str, sk: str, expression: str, *, condition: str, values: Item) -> dict[str, Any]:
        names = _names(expression, condition)
        return self._repeated(
            lambda: self._table.update(pk, sk, expression, condition=condition, values=values, names=names)
        )

    def _transact(self, *writes: Put | Update | Check) -> None:
        self._repeated(lambda: self._table.transact(*writes))

    def _repeated(self, call: Callable[[], T]) -> T:
        """The result of ``call``, made again after a failure, and more often as long as DynamoDB refuses to try.

        :raises ConditionFailedError: its condition does not hold, or does not any more because it was done before.
        """
        failures = 0
        for attempt in range(REFUSED_ATTEMPTS):
            try:
                return call()
            except ConditionFailedError:
                raise
            except StateError as error:
                refused = isinstance(error, StateConflictError) or error.code == _THROTTLED
                failures += not refused
                if failures >= ATTEMPTS or attempt + 1 >= REFUSED_ATTEMPTS:
                    raise StateError(error.message, code=_THROTTLED if refused else error.code) from error
            self._pause(attempt)
        raise AssertionError  # pragma: no cover - the last attempt returns or raises

    def _decided(self, step: Callable[[], T]) -> T:
        """The result of ``step``, which looks before it writes, made again when somebody has come between."""
        for attempt in range(TRIES):
            try:
                return step()
            except ConditionFailedError:
                self._pause(attempt)
        raise StateError("The batch is used by too many at once. Try again.", code=_THROTTLED)

    def _pause(self, attempt: int) -> None:
        self._sleep(random.uniform(0, min(BACKOFF_S * 2**attempt, LONGEST_BACKOFF_S)))


def to_item(batch: Batch) -> dict[str, Any]:
    """The batch as it is stored. ``expires_at`` is when the table forgets it, as for all items."""
    return {
        "pk": _partition(batch.id),
        "sk": SORT_KEY,
        "gsi1pk": _owner(batch.key_id),
        "gsi1sk": _place(batch),
        **_attributes(batch),
    }


def _attributes(batch: Batch) -> dict[str, Any]:
    values = to_values(batch)
    usage = values.pop("usage")
    # Counters have to lie at the top of an item to be added to.
    counts = {f"{_USAGE}{name}": count for name, count in usage.items()} if usage else {}
    return {**values, **counts, "expires_at_s": values.pop("expires_at"), "expires_at": values.pop("forget_at")}


def from_item(item: Mapping[str, Any]) -> Batch:
    """The batch that an item holds. :raises ConfigurationError: it is malformed."""
    counts = {name: item[f"{_USAGE}{name}"] for name in _COUNTS if f"{_USAGE}{name}" in item}
    usage = {**counts, "estimated": bool(item.get(f"{_USAGE}estimated"))} if counts else None
    times = {"expires_at": item.get("expires_at_s"), "forget_at": item.get("expires_at")}
    return to_struct({**item, **times, "usage": usage}, Batch)


def chunk_from_item(item: Item) -> Chunk:
    """The chunk that an item holds. :raises ConfigurationError: it is malformed."""
    return to_struct(item, Chunk)


def _chunk_item(batch: Batch, chunk: Chunk) -> dict[str, Any]:
    return {
        "pk": _partition(batch.id),
        "sk": _chunk_key(chunk.number),
        **to_values(chunk),
        # As it is: as text it would be longer by a third.
        "done": chunk.done,
        "expires_at": batch.forget_at,
    }


def _replacement(batch: Batch, chunk: Chunk) -> Put:
    """The chunk as an attempt has left it, if that attempt is still the newest."""
    return Put(
        _chunk_item(batch, chunk),
        "attempts = :attempts AND #status = :running",
        {":attempts": chunk.attempts, ":running": ChunkStatus.RUNNING.value},
        {"#status": "status"},
    )


def _count(batch: Batch, chunk: Chunk, use: LineUse, following: int | None, now: int) -> Update:
    """What an attempt at ``chunk`` adds to its batch, if that is still to be added to, and stopped or not as it was."""
    ended = chunk.status is ChunkStatus.ENDED
    amounts: dict[str, int | Decimal] = {
        "ended": int(ended),
        "released": int(following is not None),
        "completed": use.completed,
        "failed": use.failed,
        "cost_micro_usd": use.cost_micro_usd,
        "held_micro_usd": -use.released_micro_usd,
    }
    added = {name: amount for name, amount in amounts.items() if amount}
    if use.usage is not None:
        added |= {f"{_USAGE}{name}": getattr(use.usage, name) for name in _COUNTS}
    assigned: dict[str, object] = {"updated_at": now}
    if use.usage is not None and use.usage.estimated:
        assigned[f"{_USAGE}estimated"] = True
    expression = "SET " + ", ".join(f"#{name} = :{name}" for name in assigned)
    if added:
        expression += " ADD " + ", ".join(f"#{name} :{name}" for name in added)
    statuses = {f":status{number}": status.value for number, status in enumerate(_RECORDABLE)}
    condition = f"#status IN ({', '.join(statuses)}) AND {_is('halted', batch.halted)}"
    values = {f":{name}": value for name, value in {**assigned, **added}.items()}
    return Update(
        _partition(batch.id),
        SORT_KEY,
        expression,
        {**values, **statuses, **_given("halted", batch.halted)},
        condition,
        _names(expression, condition),
    )


def _settled(batch: Batch, spent: Spent, *, released: Decimal) -> list[Update]:
    return settling(batch.key_id, batch.funds, spent, released=released) if batch.funds else []


def _release(batch_id: str, number: int, now: int) -> Update:
    expression = "SET #released = :yes, #updated_at = :now"
    values = {":yes": True, ":now": now}
    return Update(_partition(batch_id), _chunk_key(number), expression, values, PRESENT, _names(expression))


def _assignment(batch: Batch, fields: Sequence[str], *, condition: str, values: Item) -> Update:
    """Give these fields the values that ``batch`` has, and take away those that have none."""
    attributes = _attributes(batch)
    kept = [name for name in fields if attributes.get(name) is not None]
    dropped = [name for name in fields if attributes.get(name) is None]
    expression = "SET " + ", ".join(f"#{name} = :new_{name}" for name in kept)
    if dropped:
        expression += " REMOVE " + ", ".join(f"#{name}" for name in dropped)
    assigned = {f":new_{name}": attributes[name] for name in kept}
    return Update(
        _partition(batch.id),
        SORT_KEY,
        expression,
        {**assigned, **values},
        condition,
        _names(expression, condition),
    )


def _names(*expressions: str) -> dict[str, str]:
    """The placeholders that expressions use: some of the names are DynamoDB's own words."""
    words = " ".join(expressions).replace("(", " ").replace(")", " ").replace(",", " ").split()
    return {word: word[1:] for word in words if word.startswith("#")}


def _is(name: str, value: object) -> str:
    """The condition that an attribute is as it was read; its value is told by :func:`_given`."""
    return f"attribute_not_exists(#{name})" if value is None else f"#{name} = :was_{name}"


def _given(name: str, value: object) -> dict[str, object]:
    return {} if value is None else {f":was_{name}": value}


def _has_begun(stored: Batch, holder: Batch) -> bool:
    """Whether the holder of this claim has started the batch: only a claim's holder can, and none was later."""
    return stored.attempts == holder.attempts and stored.funds is not None


def _found(failed: ConditionFailedError, what: str) -> dict[str, Any]:
    if failed.item is None:
        raise NotFoundError(f"There is no such {what}.") from failed
    return failed.item


def _partition(batch_id: str) -> str:
    return f"{PREFIX}{batch_id}"


def _chunk_key(number: int) -> str:
    return f"{CHUNK_PREFIX}{number:08d}"


def _owner(key_id: str) -> str:
    return f"BATCHES#{key_id}"


def _place(batch: Batch) -> str:
    return f"{batch.created_at:012d}#{batch.id}"
