"""What a store of batches does, in memory and in DynamoDB: every step once, and the money exact to the last digit."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from threading import Barrier
from typing import Any

import msgspec
import pytest
from botocore.config import Config
from botocore.exceptions import ReadTimeoutError

from local import cloud as local_cloud
from local.instance import Instance
from sluice.adapters import dynamodb_request_log
from sluice.adapters.dynamodb import Table
from sluice.adapters.dynamodb_batches import CHUNK_PREFIX, PREFIX, DynamoDBBatches
from sluice.adapters.dynamodb_ledger import DynamoDBLedger
from sluice.domain.batches import (
    ENDED,
    MOST_ENTRIES,
    Batch,
    BatchEndpoint,
    BatchError,
    BatchStatus,
    Chunk,
    ChunkStatus,
    LineUse,
    OutputFormat,
    Part,
    Recorded,
)
from sluice.domain.errors import (
    BudgetExceededError,
    ConfigurationError,
    LeasedError,
    NotFoundError,
    StateConflictError,
    StateError,
)
from sluice.domain.files import FilePurpose, StoredFile
from sluice.domain.ids import new_id
from sluice.domain.inference import Mode, Operation, Usage
from sluice.domain.ledger import NO_LIMITS, ZERO, Ask, Limits, Spent, Standing
from sluice.domain.ports import BatchStore, Ledger
from sluice.domain.request_log import Outcome, RequestLogEntry
from sluice.testing.batches import FakeBatches
from sluice.testing.clock import FakeClock
from sluice.testing.ledger import FakeLedger
from sluice.testing.request_log import FakeRequestLog
from tests.contract.state.conftest import Aws

# Far from the end of any day or month.
NOW = int(datetime(2026, 11, 21, 12, 0, 10, tzinfo=UTC).timestamp())
D = Decimal
FOUR = D(4)
VALIDATING = [BatchStatus.VALIDATING]
ASSEMBLED = [BatchStatus.FINALIZING, BatchStatus.CANCELLING]
BUDGET = Limits(rpm=1, tpm=1, monthly_budget_micro_usd=D(1000), total_budget_micro_usd=D(5000))
USAGE = Usage(input_tokens=7, output_tokens=3)


class Killed(BaseException):
    """The process is gone; nothing of it handles anything."""


class Files:
    """Takes the files that a batch writes."""

    def __init__(self) -> None:
        self.stored: dict[str, StoredFile] = {}

    def create(self, file: StoredFile) -> None:
        self.stored[file.id] = file


class World:
    """A store, the ledger and the request log that it settles in, and what a test does with them."""

    def __init__(self, store: BatchStore, ledger: Ledger, clock: FakeClock) -> None:
        self.store = store
        self.ledger = ledger
        self.clock = clock
        self.key_id = new_id("key")
        self.limits = BUDGET
        self.now = NOW

    # ---- What is there ----

    def entries(self) -> list[RequestLogEntry]:
        raise NotImplementedError

    def has_file(self, file: StoredFile) -> bool:
        raise NotImplementedError

    def standing(self) -> Standing:
        return self.ledger.standing(self.key_id, self.limits)

    def money(self) -> tuple[Decimal, Decimal]:
        """Spent and held, of the month; the whole life has the same."""
        standing = self.standing()
        assert (standing.total_spent_micro_usd, standing.total_held_micro_usd) == (
            standing.spent_micro_usd,
            standing.held_micro_usd,
        )
        return standing.spent_micro_usd, standing.held_micro_usd

    def batch(self, batch: Batch) -> Batch:
        stored = self.store.get(batch.id)
        assert stored is not None
        return stored

    def chunk(self, batch: Batch, number: int) -> Chunk:
        return list(self.store.chunks(self.batch(batch)))[number]

    # ---- Steps ----

    def created(self, **fields: Any) -> Batch:
        batch_id = new_id("batch")
        batch = Batch(
            **{
                "id": batch_id,
                "key_id": self.key_id,
                "endpoint": BatchEndpoint.EMBEDDINGS,
                "input_file_id": new_id("file"),
                "input_key": f"files/{self.key_id}/x",
                "completion_window": "24h",
                "status": BatchStatus.VALIDATING,
                "created_at": NOW,
                "updated_at": NOW,
                "expires_at": NOW + 86_400,
                "forget_at": NOW + 9 * 86_400,
                **fields,
            }
        )
        self.store.create(batch)
        return batch

    def claimed(self, batch: Batch, statuses: Sequence[BatchStatus] = VALIDATING, *, now: int = NOW) -> Batch:
        taken = self.store.claim(batch.id, statuses, now=now, lease_until=now + 60)
        assert taken is not None
        return taken

    def planned(self, lines: Sequence[int], *, window: int = 2, money: str = "10", batch: Batch | None = None) -> Batch:
        """A claimed batch whose chunks are stored: so many lines each, each line with so much money."""
        taken = self.claimed(batch or self.created())
        chunks = plan(taken, lines, D(money))
        self.store.put_chunks(taken, chunks)
        return msgspec.structs.replace(taken, chunks=len(lines), lines=sum(lines), model="embed-fast", window=window)

    def begun(self, lines: Sequence[int], *, window: int = 2, money: str = "10") -> Batch:
        batch = self.planned(lines, window=window, money=money)
        return self.store.begin(batch, most_cost_micro_usd=sum(lines) * D(money), limits=self.limits, now=NOW)

    def take(self, batch: Batch, number: int, *, now: int = NOW) -> Chunk:
        taken = self.store.claim_chunk(batch.id, number, now=now, lease_until=now + 60)
        assert taken is not None
        return taken[1]

    def run(self, batch: Batch, number: int, *, cost: str = "4", failed: int = 0) -> Recorded:
        """All of a chunk's lines at once, each of them at this cost."""
        return self.record(batch, self.take(batch, number), cost=cost, failed=failed)

    def record(
        self, batch: Batch, chunk: Chunk, *, lines: int | None = None, cost: str = "4", failed: int = 0
    ) -> Recorded:
        work = Work.of(batch, chunk, lines=lines, cost=D(cost), failed=failed)
        return work.record(self.store, batch)

    def drained(self, lines: Sequence[int] = (2, 1), **options: Any) -> Batch:
        batch = self.begun(lines, **options)
        for number in range(len(lines)):
            self.run(batch, number)
        return self.store.finalize(batch, now=NOW)


class Work(msgspec.Struct, kw_only=True):
    """What a worker has to say of an attempt."""

    chunk: Chunk
    part: Part | None
    use: LineUse
    entries: tuple[RequestLogEntry, ...]

    @classmethod
    def of(cls, batch: Batch, chunk: Chunk, *, lines: int | None = None, cost: Decimal = FOUR, failed: int = 0) -> Work:
        """``lines`` of those that are left (by default all), ``failed`` of them with an error, at ``cost`` each."""
        done = chunk.completed + chunk.failed
        lines = chunk.lines - done if lines is None else lines
        ends = done + lines == chunk.lines
        usage = Usage(input_tokens=7 * lines, output_tokens=3 * lines) if lines else None
        left = chunk.lines - done
        return cls(
            chunk=msgspec.structs.replace(
                chunk,
                status=ChunkStatus.ENDED if ends else ChunkStatus.PENDING,
                done=bits(done + lines, chunk.lines),
            ),
            part=part_of(batch, chunk) if lines else None,
            use=LineUse(
                completed=lines - failed,
                failed=failed,
                usage=usage,
                cost_micro_usd=lines * cost,
                released_micro_usd=chunk.held_micro_usd * lines / left if left else ZERO,
            ),
            entries=(entry_of(batch, chunk, requests=lines, cost=lines * cost, usage=usage),) if lines else (),
        )

    def record(self, store: BatchStore, batch: Batch, *, now: int = NOW) -> Recorded:
        return store.record(batch, self.chunk, part=self.part, use=self.use, entries=self.entries, now=now)


class FakeWorld(World):
    def __init__(self) -> None:
        clock = FakeClock(float(NOW))
        log = FakeRequestLog()
        ledger = FakeLedger(log, now=clock)
        self.files = Files()
        files: Any = self.files
        self.log = log
        super().__init__(FakeBatches(ledger, log, files), ledger, clock)

    def entries(self) -> list[RequestLogEntry]:
        return [entry for entry in self.log.entries if entry.key_id == self.key_id]

    def has_file(self, file: StoredFile) -> bool:
        return self.files.stored.get(file.id) == file


class RealWorld(World):
    def __init__(self, table: Table, client: Any) -> None:
        self.table = table
        self.client = client
        clock = FakeClock(float(NOW))
        self.clock = clock
        super().__init__(self.store_with(client), DynamoDBLedger(table, now=clock), clock)

    def store_with(self, client: Any) -> DynamoDBBatches:
        table = Table(client, self.table._name)
        return DynamoDBBatches(
            table,
            ledger=lambda: DynamoDBLedger(self.table, now=self.clock),
            log_ttl_days=90,
            now=self.clock,
            sleep=lambda _: None,
        )

    def entries(self) -> list[RequestLogEntry]:
        partitions = [f"REQ#{self.key_id}#20261121#{shard}" for shard in range(dynamodb_request_log.SHARDS)]
        return [dynamodb_request_log.from_item(item) for pk in partitions for item in self.table.query(pk)]

    def has_file(self, file: StoredFile) -> bool:
        item = self.table.get(f"FILE#{file.id}", "META", consistent=True)
        return item is not None and (item["key_id"], item["bytes"]) == (file.key_id, file.bytes)

    def raw(self, batch: Batch, sk: str = "META") -> dict[str, Any]:
        item = self.table.get(f"{PREFIX}{batch.id}", sk, consistent=True)
        assert item is not None
        return item


@pytest.fixture(scope="module")
def table(aws: Aws) -> Table:
    return aws.table()[0]


@pytest.fixture(scope="module")
def client(cloud: Instance) -> Iterator[Any]:
    """A client that repeats nothing by itself, with a connection for each thread."""
    session: Any = local_cloud.session()
    config = Config(retries={"total_max_attempts": 1}, max_pool_connections=32, read_timeout=30, proxies={})
    boto: Any = session.client("dynamodb", endpoint_url=cloud.cloud_url, config=config)
    yield boto
    boto.close()


@pytest.fixture
def real(table: Table, client: Any) -> RealWorld:
    return RealWorld(Table(client, table._name), client)


@pytest.fixture(params=["fake", "real"])
def world(request: pytest.FixtureRequest) -> World:
    return FakeWorld() if request.param == "fake" else request.getfixturevalue("real")


def plan(batch: Batch, lines: Sequence[int], money: Decimal) -> list[Chunk]:
    chunks, start, first = [], 0, 1
    for number, count in enumerate(lines):
        chunks.append(
            Chunk(
                batch_id=batch.id,
                number=number,
                start=start,
                end=start + 10 * count,
                first_line=first,
                lines=count,
                held_micro_usd=count * money,
            )
        )
        start, first = start + 10 * count, first + count
    return chunks


def bits(done: int, lines: int) -> bytes:
    """The first ``done`` of so many lines."""
    size = (lines + 7) // 8
    return (((1 << done) - 1) << (8 * size - done)).to_bytes(size, "big")


def part_of(batch: Batch, chunk: Chunk) -> Part:
    name = f"{batch.folder}parts/{chunk.number:08d}-{chunk.attempts}"
    return Part(output_key=f"{name}.jsonl", output_bytes=100, error_key=f"{name}.errors.jsonl", error_bytes=1)


def entry_of(
    batch: Batch, chunk: Chunk, *, requests: int, cost: Decimal | None, usage: Usage | None, name: str = ""
) -> RequestLogEntry:
    request_id = f"{batch.id}/{chunk.number}-{chunk.attempts}{name}"
    return RequestLogEntry(
        request_id=request_id,
        unit=request_id,
        key_id=batch.key_id,
        mode=Mode.BATCH,
        operation=Operation.EMBED,
        model="embed-fast",
        outcome=Outcome.COMPLETED,
        http_status=200,
        started_at=float(NOW),
        latency_ms=5,
        target="a/one",
        usage=usage,
        cost_micro_usd=cost,
        requests=requests,
    )


def file_of(batch: Batch, name: str) -> StoredFile:
    file_id = new_id("file")
    return StoredFile(
        id=file_id,
        key_id=batch.key_id,
        filename=f"{batch.id}{name}",
        bytes=123,
        purpose=FilePurpose.BATCH_OUTPUT,
        created_at=NOW,
        expires_at=NOW + 86_400,
        object_key=f"files/{batch.key_id}/{file_id}",
    )


# ---- Created, read, listed ----


def test_a_created_batch_is_read_as_it_was(world: World) -> None:
    batch = world.created(
        metadata={"customer": "7", "empty": ""},
        callback_url="https://example.com/done",
        allowed_models=("a", "b"),
        output_format=OutputFormat.PARQUET,
        output_ttl_s=3600,
        window=4,
        input_bytes=5_000_000_000,
    )

    assert world.store.get(batch.id) == batch
    assert world.store.get(new_id("batch")) is None


def test_a_created_batch_is_created_once_and_its_repeat_changes_nothing(world: World) -> None:
    batch = world.created()
    world.store.create(batch)

    with pytest.raises(StateConflictError):
        world.store.create(msgspec.structs.replace(batch, completion_window="1h"))

    assert world.store.get(batch.id) == batch


def test_batches_are_listed_newest_first_by_key(world: World) -> None:
    batches = [world.created(created_at=NOW + number // 2) for number in range(5)]
    World.created(other_key(world))
    expected = sorted(batches, key=lambda batch: (batch.created_at, batch.id), reverse=True)

    first, more = world.store.page(world.key_id, limit=2, after=None)
    assert (list(first), more) == (expected[:2], True)
    second, more = world.store.page(world.key_id, limit=2, after=first[-1].id)
    assert (list(second), more) == (expected[2:4], True)
    last, more = world.store.page(world.key_id, limit=2, after=second[-1].id)
    assert (list(last), more) == (expected[4:], False)
    assert world.store.page(world.key_id, limit=5, after=None) == (tuple(expected), False)
    assert world.store.page(new_id("key"), limit=5, after=None) == ((), False)


def other_key(world: World) -> World:
    other = World(world.store, world.ledger, world.clock)
    other.key_id = new_id("key")
    return other


def test_a_list_goes_on_behind_the_keys_own_batches_only(world: World) -> None:
    foreign = World.created(other_key(world))

    for after in (foreign.id, new_id("batch")):
        with pytest.raises(NotFoundError):
            world.store.page(world.key_id, limit=2, after=after)


# ---- Claims ----


def test_one_at_a_time_has_a_batch(world: World) -> None:
    batch = world.created()
    first = world.store.claim(batch.id, VALIDATING, now=NOW, lease_until=NOW + 60)

    assert first == msgspec.structs.replace(batch, attempts=1, lease_until=NOW + 60)
    assert world.batch(batch) == first
    with pytest.raises(LeasedError) as leased:
        world.store.claim(batch.id, VALIDATING, now=NOW + 59, lease_until=NOW + 100)
    assert leased.value.lease_until == NOW + 60
    second = world.claimed(batch, now=NOW + 60)
    assert (second.attempts, second.lease_until, second.updated_at) == (2, NOW + 120, NOW + 60)


def test_a_batch_in_another_status_is_not_claimed(world: World) -> None:
    batch = world.created()

    assert world.store.claim(batch.id, ASSEMBLED, now=NOW, lease_until=NOW + 60) is None
    assert world.batch(batch) == batch
    world.claimed(batch)
    assert world.store.claim(batch.id, ASSEMBLED, now=NOW, lease_until=NOW + 60) is None, "leased or not"


def test_an_unknown_batch_cannot_be_claimed_or_halted(world: World) -> None:
    with pytest.raises(NotFoundError):
        world.store.claim(new_id("batch"), VALIDATING, now=NOW, lease_until=NOW + 60)
    with pytest.raises(NotFoundError):
        world.store.halt(new_id("batch"), "cancelled", now=NOW)


def test_a_note_is_kept_and_holds_the_claim_longer(world: World) -> None:
    taken = world.claimed(world.created())
    note = {"line": 5, "offset": 123_456_789_012, "key": "x", "seen": [1, 2], "deep": {"a": "b"}}

    noted = world.store.note(taken, note, now=NOW + 5, lease_until=NOW + 300)

    assert noted == msgspec.structs.replace(taken, progress=note, lease_until=NOW + 300, updated_at=NOW + 5)
    assert world.batch(taken) == noted
    assert world.claimed(taken, now=NOW + 300).progress == note, "for whoever goes on"


def test_a_claim_that_was_let_go_is_free_at_once_and_letting_go_again_changes_nothing(world: World) -> None:
    taken = world.claimed(world.created())
    for _ in range(2):
        world.store.unclaim(taken, now=NOW + 5)

    again = world.claimed(taken, now=NOW + 6)

    assert again.attempts == 2
    with pytest.raises(StateConflictError):
        world.store.unclaim(taken, now=NOW + 7)
    with pytest.raises(StateConflictError):
        world.store.note(taken, {}, now=NOW + 7, lease_until=NOW + 99)
    assert world.batch(taken) == again


def test_of_many_who_race_for_a_batch_one_has_it(world: World) -> None:
    batch = world.created()

    def claim(_: int) -> Batch | None:
        try:
            return world.store.claim(batch.id, VALIDATING, now=NOW, lease_until=NOW + 60)
        except LeasedError:
            return None

    assert len([taken for taken in race(16, claim) if taken]) == 1
    assert world.batch(batch).attempts == 1


# ---- Planned and begun ----


def test_a_begun_batch_has_its_money_set_aside_and_its_first_window_out(world: World) -> None:
    batch = world.planned([3, 2, 1, 4, 5], window=2, money="20.5")

    begun = world.store.begin(batch, most_cost_micro_usd=D("307.5"), limits=world.limits, now=NOW + 9)

    assert (begun.status, begun.in_progress_at, begun.updated_at) == (BatchStatus.IN_PROGRESS, NOW + 9, NOW + 9)
    assert (begun.chunks, begun.lines, begun.model, begun.released, begun.ended) == (5, 15, "embed-fast", 2, 0)
    assert (begun.lease_until, begun.progress) == (None, None)
    assert begun.held_micro_usd == D("307.5")
    assert begun.funds is not None
    assert (begun.funds.month, begun.funds.held_micro_usd) == ("202611", D("307.5"))
    assert world.batch(batch) == begun
    assert world.money() == (ZERO, D("307.5"))
    assert world.standing().remaining_requests == 1, "a batch is no request of the minute"
    assert world.standing().remaining_tokens == 1
    stored = list(world.store.chunks(begun))
    assert stored == [msgspec.structs.replace(each, updated_at=NOW) for each in plan(batch, [3, 2, 1, 4, 5], D("20.5"))]


def test_what_is_set_aside_never_expires(world: World) -> None:
    world.begun([2, 1])
    world.clock.advance(10 * 86_400 - 3600)

    standing = world.standing()

    assert standing.total_held_micro_usd == 30


def test_a_repeated_begin_sets_nothing_aside_twice(world: World) -> None:
    batch = world.planned([3, 2])
    begun = [
        world.store.begin(batch, most_cost_micro_usd=D(50), limits=world.limits, now=NOW + number) for number in (1, 2)
    ]

    assert begun[0] == begun[1]
    assert world.money() == (ZERO, D(50))


def test_a_batch_that_the_budget_does_not_hold_does_not_begin_and_nothing_has_changed(world: World) -> None:
    batch = world.planned([3, 2])
    before = world.batch(batch)

    with pytest.raises(BudgetExceededError):
        world.store.begin(batch, most_cost_micro_usd=D("1000.000001"), limits=world.limits, now=NOW)

    assert world.batch(batch) == before
    assert world.money() == (ZERO, ZERO)
    assert world.store.begin(batch, most_cost_micro_usd=D(1000), limits=world.limits, now=NOW).held_micro_usd == 1000


def test_a_free_batch_begins_without_any_money_left(world: World) -> None:
    world.begun([1], money="1000")
    free = world.begun([2], money="0")

    world.run(free, 0, cost="0")

    assert world.batch(free).completed == 2
    assert world.money() == (ZERO, D(1000))


def test_money_is_set_aside_for_keys_without_any_limit_too(world: World) -> None:
    world.limits = msgspec.structs.replace(NO_LIMITS, shards=8)
    batch = world.begun([2, 1])
    assert world.money() == (ZERO, D(30))
    world.run(batch, 0)
    assert world.money() == (D(8), D(10))


def test_a_budget_in_many_parts_is_set_aside_to_the_last_digit(world: World) -> None:
    world.limits = Limits(monthly_budget_micro_usd=D("100.000007"), shards=8)
    batch = world.planned([1])
    begun = world.store.begin(batch, most_cost_micro_usd=D("100.000007"), limits=world.limits, now=NOW)
    assert world.money() == (ZERO, D("100.000007"))
    with pytest.raises(BudgetExceededError):
        world.store.begin(world.planned([1]), most_cost_micro_usd=D("0.000001"), limits=world.limits, now=NOW)

    world.store.halt(begun.id, "cancelled", now=NOW)
    stop(world, begun, 0)
    finish(world, world.store.finalize(begun, now=NOW), BatchStatus.CANCELLED)
    assert world.money() == (ZERO, ZERO)


def stop(world: World, batch: Batch, number: int) -> Recorded:
    """End a chunk with none of its lines run."""
    chunk = msgspec.structs.replace(world.take(batch, number), status=ChunkStatus.ENDED)
    return world.store.record(batch, chunk, part=None, use=LineUse(), entries=(), now=NOW)


def finish(
    world: World,
    batch: Batch,
    status: BatchStatus = BatchStatus.COMPLETED,
    *,
    files: Sequence[StoredFile] = (),
    now: int = NOW,
) -> Batch:
    taken = world.claimed(batch, list(BatchStatus), now=now)
    return world.store.finish(taken, status, files=files, errors=(), now=now)


def test_whoever_has_lost_the_claim_plans_and_begins_nothing(world: World) -> None:
    slow = world.planned([3, 2])
    fast = world.claimed(slow, now=NOW + 60)

    with pytest.raises(StateConflictError):
        world.store.put_chunks(slow, plan(slow, [5], D(1)))
    with pytest.raises(StateConflictError):
        world.store.begin(slow, most_cost_micro_usd=D(50), limits=world.limits, now=NOW + 61)

    assert world.batch(slow) == fast
    assert world.money() == (ZERO, ZERO)
    again = msgspec.structs.replace(fast, chunks=2, lines=5, window=2)
    world.store.begin(again, most_cost_micro_usd=D(50), limits=world.limits, now=NOW + 61)
    assert [chunk.lines for chunk in world.store.chunks(world.batch(slow))] == [3, 2]


def test_a_claim_that_was_given_back_begins_nothing(world: World) -> None:
    batch = world.planned([3])
    world.store.unclaim(batch, now=NOW)

    with pytest.raises(StateConflictError):
        world.store.begin(batch, most_cost_micro_usd=D(50), limits=world.limits, now=NOW)
    with pytest.raises(StateConflictError):
        world.store.put_chunks(batch, plan(batch, [5], D(1)))

    assert world.money() == (ZERO, ZERO)


def test_chunks_of_a_running_batch_are_never_replaced(world: World) -> None:
    batch = world.begun([3, 2])
    world.run(batch, 0)

    with pytest.raises(StateConflictError):
        world.store.put_chunks(batch, plan(batch, [3, 2], D(10)))

    assert world.chunk(batch, 0).status is ChunkStatus.ENDED


def test_a_later_plan_replaces_an_earlier_one(world: World) -> None:
    batch = world.planned([1, 1, 1])
    chunks = plan(batch, [250] * 201, D(1))
    for _ in range(2):
        world.store.put_chunks(batch, chunks)
    batch = msgspec.structs.replace(batch, chunks=201, lines=50_250)

    begun = world.store.begin(batch, most_cost_micro_usd=D(1), limits=world.limits, now=NOW)

    assert [chunk.lines for chunk in world.store.chunks(begun)] == [250] * 201
    assert [chunk.number for chunk in world.store.chunks(begun)] == list(range(201))


def test_a_chunk_that_is_missing_is_not_passed_over_in_silence(world: World) -> None:
    begun = world.begun([1, 1])

    with pytest.raises(NotFoundError):
        list(world.store.chunks(msgspec.structs.replace(begun, chunks=3)))
    with pytest.raises(NotFoundError):
        world.store.claim_chunk(begun.id, 7, now=NOW, lease_until=NOW + 60)


# ---- Chunks ----


def test_one_at_a_time_has_a_chunk(world: World) -> None:
    batch = world.begun([3, 2])

    taken = world.store.claim_chunk(batch.id, 1, now=NOW + 1, lease_until=NOW + 60)

    assert taken is not None
    assert taken[0] == world.batch(batch)
    assert taken[1] == msgspec.structs.replace(
        plan(batch, [3, 2], D(10))[1],
        status=ChunkStatus.RUNNING,
        attempts=1,
        lease_until=NOW + 60,
        updated_at=NOW + 1,
    )
    assert world.chunk(batch, 1) == taken[1]
    with pytest.raises(LeasedError) as leased:
        world.take(batch, 1, now=NOW + 59)
    assert leased.value.lease_until == NOW + 60
    assert world.take(batch, 1, now=NOW + 60).attempts == 2


def test_who_is_heard_of_has_its_chunk_for_longer(world: World) -> None:
    batch = world.begun([3, 2])
    chunk = world.take(batch, 1)

    world.store.renew_chunk(chunk, now=NOW + 30, lease_until=NOW + 90)

    assert world.chunk(batch, 1) == msgspec.structs.replace(chunk, lease_until=NOW + 90, updated_at=NOW + 30)
    with pytest.raises(LeasedError):
        world.take(batch, 1, now=NOW + 89)
    taken = world.take(batch, 1, now=NOW + 90)
    with pytest.raises(StateConflictError):
        world.store.renew_chunk(chunk, now=NOW + 91, lease_until=NOW + 999)
    assert world.chunk(batch, 1) == taken
    world.record(batch, taken)
    with pytest.raises(StateConflictError):
        world.store.renew_chunk(taken, now=NOW + 91, lease_until=NOW + 999)
    assert world.chunk(batch, 1).lease_until is None


def test_of_many_who_race_for_a_chunk_one_has_it(world: World) -> None:
    batch = world.begun([3, 2])

    def claim(_: int) -> object:
        try:
            return world.store.claim_chunk(batch.id, 0, now=NOW, lease_until=NOW + 60)
        except LeasedError:
            return None

    assert len([taken for taken in race(16, claim) if taken]) == 1


def test_a_chunk_that_is_not_out_yet_is_not_claimed_whatever_comes(world: World) -> None:
    batch = world.begun([1] * 5)

    for number in (2, 3, 4):
        assert world.store.claim_chunk(batch.id, number, now=NOW, lease_until=NOW + 60) is None
        assert world.store.end_of(batch.id, number).released is None
    assert world.run(batch, 0).released == 2
    assert world.take(batch, 2).number == 2
    assert world.store.claim_chunk(batch.id, 4, now=NOW, lease_until=NOW + 60) is None


def test_what_an_attempt_came_to_is_kept_in_the_chunk_the_batch_the_ledger_and_the_log(world: World) -> None:
    batch = world.begun([3, 2, 2])
    chunk = world.take(batch, 0)

    recorded = world.record(batch, chunk, cost="4.25", failed=1)

    after = recorded.batch
    assert recorded.released == 2
    assert world.batch(batch) == after
    assert (after.completed, after.failed, after.ended, after.released) == (2, 1, 1, 3)
    assert after.usage == Usage(input_tokens=21, output_tokens=9)
    assert (after.cost_micro_usd, after.held_micro_usd) == (D("12.75"), D(40))
    stored = world.chunk(batch, 0)
    assert stored == msgspec.structs.replace(
        chunk,
        status=ChunkStatus.ENDED,
        lease_until=None,
        completed=2,
        failed=1,
        heard_of=1,
        done=bytes([0b1110_0000]),
        held_micro_usd=ZERO,
        parts=(part_of(batch, chunk),),
    )
    assert world.money() == (D("12.75"), D(40))
    standing = world.standing()
    assert (standing.requests, standing.input_tokens, standing.output_tokens) == (3, 21, 9)
    [entry] = world.entries()
    assert entry == msgspec.structs.replace(
        entry_of(batch, chunk, requests=3, cost=D("12.75"), usage=USAGE), usage=after.usage, hold=batch.id
    )


def test_lines_that_are_left_are_done_by_a_later_attempt_and_each_counts_once(world: World) -> None:
    batch = world.begun([10, 1])
    first = world.record(batch, world.take(batch, 0), lines=4)
    assert (first.released, first.batch.ended, first.batch.completed) == (None, 0, 4)
    left = world.chunk(batch, 0)
    assert (left.status, left.attempts, left.lease_until, left.held_micro_usd) == (ChunkStatus.PENDING, 1, None, D(60))

    world.record(batch, world.take(batch, 0), lines=5, failed=2)
    last = world.record(batch, world.take(batch, 0))

    assert (last.batch.completed, last.batch.failed, last.batch.ended) == (8, 2, 1)
    stored = world.chunk(batch, 0)
    assert (stored.attempts, stored.completed, stored.failed) == (3, 8, 2)
    assert [part.output_key for part in stored.parts] == [
        f"{batch.folder}parts/00000000-{attempt}.jsonl" for attempt in (1, 2, 3)
    ]
    assert world.money() == (D(40), D(10))
    assert sum(entry.requests for entry in world.entries()) == 10


def test_a_billed_failure_of_a_line_that_is_left_is_spent_at_once(world: World) -> None:
    batch = world.begun([2])
    chunk = world.take(batch, 0)
    billed = entry_of(batch, chunk, requests=0, cost=D(3), usage=USAGE)

    world.store.record(
        batch,
        msgspec.structs.replace(chunk, status=ChunkStatus.PENDING, tries=1),
        part=None,
        use=LineUse(usage=USAGE, cost_micro_usd=D(3), released_micro_usd=D(3)),
        entries=(billed,),
        now=NOW,
    )

    stored = world.chunk(batch, 0)
    assert (stored.tries, stored.held_micro_usd, stored.parts, stored.done) == (1, D(17), (), b"")
    assert world.money() == (D(3), D(17))
    assert world.standing().requests == 0
    assert world.batch(batch).usage == USAGE


def test_estimated_tokens_make_the_sum_an_estimate(world: World) -> None:
    batch = world.begun([1, 1])
    estimated = msgspec.structs.replace(USAGE, estimated=True, cache_read_tokens=2)
    for number, usage in enumerate((estimated, USAGE)):
        work = Work.of(batch, world.take(batch, number))
        use = msgspec.structs.replace(work.use, usage=usage)
        world.store.record(batch, work.chunk, part=work.part, use=use, entries=work.entries, now=NOW)

    assert world.batch(batch).usage == Usage(input_tokens=14, output_tokens=6, cache_read_tokens=2, estimated=True)


def test_a_cost_that_nobody_knows_gives_all_back_that_was_held(world: World) -> None:
    batch = world.begun([1])
    chunk = world.take(batch, 0)
    work = Work.of(batch, chunk, cost=ZERO)
    unknown = entry_of(batch, chunk, requests=1, cost=None, usage=USAGE)

    world.store.record(batch, work.chunk, part=work.part, use=work.use, entries=(unknown,), now=NOW)

    assert world.money() == (ZERO, ZERO)


def test_repeats_of_a_record_change_nothing_and_say_the_same(world: World) -> None:
    batch = world.begun([3, 1, 1])
    work = Work.of(batch, world.take(batch, 0))

    said = [work.record(world.store, batch) for _ in range(3)]

    assert said[0] == said[1] == said[2]
    assert said[0].released == 2
    assert world.money() == (D(12), D(20))
    assert len(world.entries()) == 1


def test_a_repeat_is_known_even_when_others_have_gone_on(world: World) -> None:
    batch = world.begun([3])
    work = Work.of(batch, world.take(batch, 0), lines=1)
    work.record(world.store, batch)
    world.record(batch, world.take(batch, 0), lines=1)
    before = world.batch(batch)

    work.record(world.store, batch)

    assert world.batch(batch) == before
    assert world.money() == (D(8), D(10))


def test_an_attempt_without_results_is_repeated_without_effect(world: World) -> None:
    batch = world.begun([1, 1])
    world.store.halt(batch.id, "cancelled", now=NOW)
    chunk = msgspec.structs.replace(world.take(batch, 0), status=ChunkStatus.ENDED)

    for _ in range(2):
        world.store.record(batch, chunk, part=None, use=LineUse(), entries=(), now=NOW)

    assert world.batch(batch).ended == 1


def test_an_attempt_that_was_overtaken_records_nothing(world: World) -> None:
    batch = world.begun([3, 1])
    slow = Work.of(batch, world.take(batch, 0))
    fast = Work.of(batch, world.take(batch, 0, now=NOW + 60), cost=D(5))
    for _ in range(2):
        with pytest.raises(StateConflictError):
            slow.record(world.store, batch)

    fast.record(world.store, batch)

    with pytest.raises(StateConflictError):
        slow.record(world.store, batch)
    with pytest.raises(StateConflictError):
        world.store.put_chunk_back(slow.chunk, now=NOW)
    assert world.money() == (D(15), D(10))
    assert [part.output_key for part in world.chunk(batch, 0).parts] == [part_of(batch, fast.chunk).output_key]


def test_an_attempt_records_once(world: World) -> None:
    batch = world.begun([3, 1])
    chunk = world.take(batch, 0)
    world.record(batch, chunk, lines=1)
    other = Work.of(batch, chunk)
    part = Part(output_key="other.jsonl", output_bytes=1)

    with pytest.raises(StateConflictError):
        world.store.record(batch, other.chunk, part=part, use=other.use, entries=other.entries, now=NOW)

    assert world.money() == (D(4), D(30))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"use": LineUse(completed=1, cost_micro_usd=D(4), released_micro_usd=D(20))}, "lines that are done"),
        ({"use": LineUse(completed=2, cost_micro_usd=D(8), released_micro_usd=D("20.1"))}, "released than is held"),
        ({"use": LineUse(completed=2, cost_micro_usd=D(9), released_micro_usd=D(20))}, "another cost"),
        ({"part": Part()}, "without an object"),
    ],
)
def test_what_contradicts_itself_is_not_recorded(world: World, change: dict[str, Any], what: str) -> None:
    batch = world.begun([2])
    work = msgspec.structs.replace(Work.of(batch, world.take(batch, 0)), **change)

    with pytest.raises(ValueError, match=what):
        work.record(world.store, batch)

    assert world.money() == (ZERO, D(20))


def test_an_attempt_ends_with_its_record(world: World) -> None:
    batch = world.begun([2])
    work = Work.of(batch, world.take(batch, 0))
    running = msgspec.structs.replace(work, chunk=msgspec.structs.replace(work.chunk, status=ChunkStatus.RUNNING))

    with pytest.raises(ValueError, match="ends the attempt"):
        running.record(world.store, batch)


def test_as_many_entries_as_fit_are_recorded_together_and_no_more(world: World) -> None:
    batch = world.begun([MOST_ENTRIES, 1, 1])
    chunk = world.take(batch, 0)
    work = Work.of(batch, chunk)
    entries = tuple(
        entry_of(batch, chunk, requests=1, cost=D(4), usage=USAGE, name=f"/{number}") for number in range(MOST_ENTRIES)
    )
    with pytest.raises(ValueError, match="more than"):
        world.store.record(batch, work.chunk, part=work.part, use=work.use, entries=(*entries, entries[0]), now=NOW)

    world.store.record(batch, work.chunk, part=work.part, use=work.use, entries=entries, now=NOW)

    assert len(world.entries()) == MOST_ENTRIES
    assert world.money() == (D(4 * MOST_ENTRIES), D(20))
    assert world.standing().requests == MOST_ENTRIES


def test_a_chunk_of_which_nothing_came_is_put_back_and_may_be_twice(world: World) -> None:
    batch = world.begun([2])
    chunk = world.take(batch, 0)
    for _ in range(2):
        world.store.put_chunk_back(chunk, now=NOW + 5)

    stored = world.chunk(batch, 0)
    assert stored == msgspec.structs.replace(
        chunk, status=ChunkStatus.PENDING, heard_of=1, lease_until=None, updated_at=NOW + 5
    )
    assert world.take(batch, 0).attempts == 2
    with pytest.raises(StateConflictError):
        world.store.put_chunk_back(chunk, now=NOW + 6)
    with pytest.raises(StateConflictError):
        world.record(batch, chunk)


def test_what_has_ended_is_not_put_back(world: World) -> None:
    batch = world.begun([2])
    chunk = world.take(batch, 0)
    world.record(batch, chunk)

    with pytest.raises(StateConflictError):
        world.store.put_chunk_back(chunk, now=NOW)

    assert world.batch(batch).is_drained


# ---- Lanes ----


def test_each_end_gives_out_the_next_of_its_lane_until_all_are_over(world: World) -> None:
    batch = world.begun([1] * 7, window=3)
    said = []
    for number in (0, 3, 1, 2, 6, 4, 5):
        assert not world.batch(batch).is_drained
        said.append(world.run(batch, number).released)

    assert said == [3, 6, 4, 5, None, None, None]
    after = world.batch(batch)
    assert (after.released, after.ended, after.is_drained) == (7, 7, True)


def test_whoever_finds_a_chunk_ended_hears_of_its_successor_until_that_was_found(world: World) -> None:
    batch = world.begun([1] * 3, window=2)
    world.run(batch, 0)

    for _ in range(2):
        assert world.store.claim_chunk(batch.id, 0, now=NOW, lease_until=NOW + 60) is None
        assert world.store.end_of(batch.id, 0) == Recorded(batch=world.batch(batch), released=2)
    world.take(batch, 2)

    assert world.store.end_of(batch.id, 0).released is None
    assert world.store.end_of(batch.id, 1).released is None
    assert world.store.end_of(batch.id, 2).released is None


@pytest.mark.parametrize("number", [0, 2])
def test_of_many_who_find_a_chunk_waiting_for_long_one_sends_its_pointer_again(world: World, number: int) -> None:
    batch = world.begun([1] * 3, window=2)
    if number == 2:
        world.run(batch, 0)
    touched = world.chunk(batch, number).updated_at

    assert not world.store.nudge(batch.id, number, now=touched + 29, untouched_s=30)
    told = race(8, lambda _: world.store.nudge(batch.id, number, now=touched + 30, untouched_s=30))
    assert sum(told) == 1
    assert world.chunk(batch, number).updated_at == touched + 30
    world.take(batch, number)
    assert not world.store.nudge(batch.id, number, now=touched + 999, untouched_s=30), "it was found"
    assert not world.store.nudge(batch.id, 99, now=NOW, untouched_s=0)


def test_what_is_out_is_the_first_of_each_lane_that_has_not_ended(world: World) -> None:
    batch = world.begun([1] * 23, window=4)

    def out() -> list[int]:
        return [chunk.number for chunk in world.store.chunks_out(world.batch(batch))]

    assert out() == [0, 1, 2, 3]
    for number in (1, 5, 9, 13, 17, 21, 0, 4, 3):
        world.run(batch, number)
    assert out() == [2, 7, 8]
    taken = world.take(batch, 7)
    assert world.store.chunks_out(world.batch(batch))[1] == taken
    world.store.halt(batch.id, "cancelled", now=NOW)
    world.record(batch, taken)
    assert out() == [2, 8], "the rest of the lane stays where it is"
    stop(world, batch, 2)
    stop(world, batch, 8)
    assert out() == []


def test_a_window_wider_than_the_batch_lets_all_out(world: World) -> None:
    batch = world.begun([1, 1], window=10)
    assert batch.released == 2
    assert [chunk.number for chunk in world.store.chunks_out(batch)] == [0, 1]
    assert world.run(batch, 0).released is None
    assert world.run(batch, 1).batch.is_drained


# ---- Stopped ----


def test_a_cancelled_batch_runs_out(world: World) -> None:
    batch = world.begun([2, 2, 2, 2])
    running = world.take(batch, 0)

    halted = world.store.halt(batch.id, "cancelled", now=NOW + 3)

    assert (halted.status, halted.halted, halted.cancelling_at) == (BatchStatus.CANCELLING, "cancelled", NOW + 3)
    assert world.batch(batch) == halted
    assert world.store.halt(batch.id, "cancelled", now=NOW + 4) == halted
    assert world.store.halt(batch.id, "expired", now=NOW + 4) == halted
    recorded = world.record(batch, running)
    assert (recorded.released, recorded.batch.is_drained) == (None, False)
    last = stop(world, batch, 1)
    assert (last.released, last.batch.is_drained, last.batch.ended, last.batch.released) == (None, True, 2, 2)
    assert world.money() == (D(8), D(60))
    assert world.store.finalize(batch, now=NOW + 5).status is BatchStatus.CANCELLING
    done = finish(world, batch, BatchStatus.CANCELLED, now=NOW + 6)
    assert (done.status, done.cancelled_at, done.cancelling_at) == (BatchStatus.CANCELLED, NOW + 6, NOW + 3)
    assert world.money() == (D(8), ZERO)


def test_a_batch_that_nobody_validates_is_cancelled_at_once(world: World) -> None:
    batch = world.created()
    lapsed = world.created()
    world.claimed(lapsed, now=NOW - 60)

    for each in (batch, lapsed):
        halted = world.store.halt(each.id, "cancelled", now=NOW)
        assert (halted.status, halted.cancelled_at, halted.lease_until) == (BatchStatus.CANCELLED, NOW, None)
        assert world.batch(each) == halted
        assert world.store.claim(each.id, VALIDATING, now=NOW, lease_until=NOW + 9) is None


def test_a_batch_that_is_being_validated_is_cancelled_by_who_has_it(world: World) -> None:
    batch = world.planned([2, 2])

    halted = world.store.halt(batch.id, "cancelled", now=NOW + 1)

    assert (halted.status, halted.lease_until) == (BatchStatus.CANCELLING, NOW + 60)
    assert world.store.note(batch, {"line": 1}, now=NOW, lease_until=NOW + 99).halted == "cancelled"
    with pytest.raises(StateConflictError):
        world.store.begin(batch, most_cost_micro_usd=D(40), limits=world.limits, now=NOW)
    assert world.money() == (ZERO, ZERO)
    done = world.store.finish(batch, BatchStatus.CANCELLED, files=(), errors=(), now=NOW + 2)
    assert (done.status, done.cancelled_at, done.chunks) == (BatchStatus.CANCELLED, NOW + 2, None)


def test_the_splitters_note_survives_a_cancellation(world: World) -> None:
    batch = world.claimed(world.created())
    world.store.note(batch, {"line": 7}, now=NOW, lease_until=NOW + 60)

    assert world.store.halt(batch.id, "cancelled", now=NOW).progress == {"line": 7}


def test_an_expired_batch_goes_on_giving_out_and_keeps_its_status(world: World) -> None:
    batch = world.begun([1] * 3)

    halted = world.store.halt(batch.id, "expired", now=NOW + 1)

    assert (halted.status, halted.halted) == (BatchStatus.IN_PROGRESS, "expired")
    assert world.run(batch, 0).released == 2
    assert not world.batch(batch).is_drained
    world.run(batch, 1)
    assert world.run(batch, 2).batch.is_drained
    final = world.store.finalize(batch, now=NOW + 2)
    assert (final.status, final.finalizing_at) == (BatchStatus.FINALIZING, NOW + 2)
    assert finish(world, batch, BatchStatus.EXPIRED, now=NOW + 3).expired_at == NOW + 3


def test_a_batch_whose_input_has_gone_skips_the_rest(world: World) -> None:
    batch = world.begun([1] * 4)
    world.store.halt(batch.id, "input_file_gone", now=NOW)
    stop(world, batch, 0)
    stop(world, batch, 1)

    final = world.store.finalize(batch, now=NOW)

    assert (final.status, final.halted) == (BatchStatus.FINALIZING, "input_file_gone")
    taken = world.claimed(batch, ASSEMBLED)
    why = BatchError(code="input_file_gone", message="It is gone.", line=3, param="input_file_id")
    done = world.store.finish(taken, BatchStatus.FAILED, files=(), errors=[why], now=NOW + 5)
    assert (done.failed_at, done.errors) == (NOW + 5, (why,))
    assert world.batch(batch) == done
    assert world.money() == (ZERO, ZERO)


def test_stopping_and_recording_at_once_never_leaves_a_chunk_out_that_nobody_knows_of(world: World) -> None:
    for attempt in range(12):
        batch = world.begun([1] * 4, money="1")
        work = Work.of(batch, world.take(batch, 0), cost=D("0.5"))
        steps: list[Callable[[], Any]] = [
            lambda work=work, batch=batch: work.record(world.store, batch),  # type: ignore[misc]
            lambda batch=batch: world.store.halt(batch.id, "cancelled", now=NOW),  # type: ignore[misc]
        ]
        random.Random(attempt).shuffle(steps)
        race(2, lambda number, steps=steps: steps[number]())  # type: ignore[misc]

        said = world.store.end_of(batch.id, 0)
        assert said.released == (2 if said.batch.released == 3 else None)
        for chunk in world.store.chunks_out(said.batch):
            stop(world, batch, chunk.number)
        assert world.batch(batch).is_drained
        finish(world, batch, BatchStatus.CANCELLED)
        assert world.standing().held_micro_usd == 0


# ---- Ended ----


def test_a_batch_is_finalized_when_it_is_drained_and_not_before(world: World) -> None:
    batch = world.begun([1, 1])
    world.run(batch, 0)
    assert world.store.finalize(batch, now=NOW).status is BatchStatus.IN_PROGRESS
    world.run(batch, 1)

    finals = [world.store.finalize(batch, now=NOW + number) for number in (5, 6)]

    assert [final.finalizing_at for final in finals] == [NOW + 5, NOW + 5]
    assert finals[0].status is BatchStatus.FINALIZING
    assert world.store.halt(batch.id, "cancelled", now=NOW + 7) == finals[0], "there is nothing left to stop"
    assert world.store.halt(batch.id, "expired", now=NOW + 7) == finals[0]


def test_a_finished_batch_has_its_files_and_gives_back_what_is_left(world: World) -> None:
    batch = world.drained(money="10.5")
    assert world.money() == (D(12), ZERO)
    other = world.begun([4])
    world.store.halt(other.id, "cancelled", now=NOW)
    stop(world, other, 0)
    assert world.money() == (D(12), D(40))
    files = [file_of(batch, "_error.jsonl"), file_of(batch, "_output.jsonl")]
    taken = world.claimed(batch, ASSEMBLED)

    done = world.store.finish(taken, BatchStatus.COMPLETED, files=files, errors=(), now=NOW + 9)

    assert (done.status, done.completed_at, done.lease_until) == (BatchStatus.COMPLETED, NOW + 9, None)
    assert (done.error_file_id, done.output_file_id) == (files[0].id, files[1].id)
    assert (done.completed, done.cost_micro_usd, done.held_micro_usd) == (3, D(12), ZERO)
    assert world.batch(batch) == done
    assert all(map(world.has_file, files))
    finish(world, other, BatchStatus.CANCELLED)
    assert world.money() == (D(12), ZERO)


@pytest.mark.parametrize("name", ["_output.jsonl", "_output.parquet", "_error.jsonl"])
def test_a_file_without_lines_is_not_there(world: World, name: str) -> None:
    batch = world.drained()
    file = file_of(batch, name)

    done = finish(world, batch, files=[file])

    expected = (None, file.id) if name.startswith("_error") else (file.id, None)
    assert (done.output_file_id, done.error_file_id) == expected


def test_a_repeated_finish_changes_nothing(world: World) -> None:
    batch = world.begun([2])
    world.store.halt(batch.id, "cancelled", now=NOW)
    stop(world, batch, 0)
    taken = world.claimed(batch, ASSEMBLED)

    done = [
        world.store.finish(taken, BatchStatus.CANCELLED, files=(), errors=(), now=NOW + number) for number in (1, 2)
    ]

    assert done[0] == done[1]
    assert world.money() == (ZERO, ZERO)
    with pytest.raises(StateConflictError):
        world.store.finish(taken, BatchStatus.COMPLETED, files=(), errors=(), now=NOW + 3)
    assert world.batch(batch) == done[0]


def test_whoever_has_lost_the_claim_finishes_nothing(world: World) -> None:
    batch = world.drained()
    slow = world.claimed(batch, ASSEMBLED)
    fast = world.claimed(batch, ASSEMBLED, now=NOW + 60)
    file = file_of(batch, "_output.jsonl")

    with pytest.raises(StateConflictError):
        world.store.finish(slow, BatchStatus.COMPLETED, files=[file], errors=(), now=NOW + 61)

    assert not world.has_file(file)
    assert world.store.finish(fast, BatchStatus.COMPLETED, files=(), errors=(), now=NOW + 62).output_file_id is None
    with pytest.raises(StateConflictError):
        world.store.finish(slow, BatchStatus.COMPLETED, files=[file], errors=(), now=NOW + 63)


def test_a_batch_ends_in_a_state_that_is_an_end(world: World) -> None:
    taken = world.claimed(world.created())

    with pytest.raises(ValueError, match="does not end"):
        world.store.finish(taken, BatchStatus.IN_PROGRESS, files=(), errors=(), now=NOW)


def test_what_is_wrong_with_the_input_fails_the_batch_before_any_money_is_held(world: World) -> None:
    taken = world.claimed(world.created())
    errors = [BatchError(code="invalid_json", message=f"Line {line}.", line=line) for line in range(1, 101)]

    done = world.store.finish(taken, BatchStatus.FAILED, files=(), errors=errors, now=NOW + 1)

    assert (done.status, done.failed_at, done.errors) == (BatchStatus.FAILED, NOW + 1, tuple(errors))
    assert world.batch(taken) == done
    assert world.money() == (ZERO, ZERO)


def test_nothing_of_an_ended_batch_is_claimed_or_halted(world: World) -> None:
    batch = world.drained()
    done = finish(world, batch)

    assert done.status in ENDED
    assert world.store.claim(batch.id, ASSEMBLED, now=NOW, lease_until=NOW + 9) is None
    assert world.store.claim_chunk(batch.id, 0, now=NOW, lease_until=NOW + 9) is None
    assert world.store.halt(batch.id, "cancelled", now=NOW) == done
    assert world.store.finalize(batch, now=NOW) == done
    with pytest.raises(StateConflictError):
        world.store.note(batch, {}, now=NOW, lease_until=NOW + 9)
    assert world.batch(batch) == done


def test_money_is_settled_in_the_month_in_which_it_was_set_aside(world: World) -> None:
    batch = world.begun([2, 2])
    world.clock.time = datetime(2026, 12, 1, 0, 0, 5, tzinfo=UTC).timestamp()

    world.run(batch, 0)
    world.store.halt(batch.id, "cancelled", now=NOW)
    stop(world, batch, 1)
    finish(world, batch, BatchStatus.CANCELLED)

    december = world.standing()
    assert (december.month, december.spent_micro_usd, december.held_micro_usd) == ("202612", ZERO, ZERO)
    assert (december.total_spent_micro_usd, december.total_held_micro_usd) == (D(8), ZERO)
    world.clock.time = float(NOW)
    assert world.money() == (D(8), ZERO)


# ---- Parked ----


def test_what_is_parked_waits_until_it_is_claimed(world: World) -> None:
    batch = world.created()
    world.store.park(batch.id, now=NOW + 1)
    assert world.batch(batch).parked
    assert not world.claimed(batch, now=NOW + 2).parked

    begun = world.begun([1, 1])
    world.store.park_chunk(begun.id, 1, now=NOW + 1)
    assert (world.chunk(begun, 1).parked, world.chunk(begun, 1).updated_at) == (True, NOW + 1)
    assert not world.take(begun, 1, now=NOW + 2).parked


def test_what_somebody_is_at_work_on_or_is_over_is_not_parked(world: World) -> None:
    batch = world.begun([1, 1])
    chunk = world.take(batch, 0)
    world.store.park_chunk(batch.id, 0, now=NOW + 59)
    assert world.chunk(batch, 0) == chunk
    world.store.park_chunk(batch.id, 0, now=NOW + 60)
    assert world.chunk(batch, 0).parked
    world.record(batch, chunk)
    world.store.park_chunk(batch.id, 0, now=NOW + 99)
    assert not world.chunk(batch, 0).parked

    taken = world.claimed(world.created())
    world.store.park(taken.id, now=NOW + 59)
    assert not world.batch(taken).parked
    done = world.store.finish(taken, BatchStatus.FAILED, files=(), errors=(), now=NOW)
    world.store.park(taken.id, now=NOW + 99)
    assert world.batch(taken) == done


def test_the_attempts_that_nobody_heard_of_are_counted_until_one_records(world: World) -> None:
    batch = world.begun([3, 3])
    assert [world.take(batch, 0, now=NOW + later).lost for later in (0, 60, 120)] == [0, 1, 2]
    world.store.put_chunk_back(world.chunk(batch, 0), now=NOW)
    chunk = world.take(batch, 0)
    assert (chunk.attempts, chunk.lost) == (4, 2)
    world.store.park_chunk(batch.id, 0, now=NOW + 60)
    chunk = world.take(batch, 0, now=NOW + 61)
    assert (chunk.attempts, chunk.lost) == (5, 3)

    world.record(batch, chunk, lines=1)
    assert [world.take(batch, 0, now=NOW + later).lost for later in (0, 60)] == [0, 1]


def test_parking_what_is_not_there_does_nothing(world: World) -> None:
    batch_id = new_id("batch")
    world.store.park(batch_id, now=NOW)
    world.store.park_chunk(batch_id, 0, now=NOW)
    assert world.store.get(batch_id) is None


# ---- Races, kills, lost answers ----


def race(threads: int, work: Callable[[int], Any]) -> list[Any]:
    barrier = Barrier(threads)

    def run(number: int) -> Any:
        barrier.wait(timeout=30)
        return work(number)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(run, range(threads)))


def test_workers_of_one_batch_who_record_at_once_all_count_and_one_or_more_see_it_drained(world: World) -> None:
    batch = world.begun([1] * 12, window=12)
    works = [Work.of(batch, world.take(batch, number), cost=D("0.1") * number) for number in range(12)]

    said = race(12, lambda number: works[number].record(world.store, batch))

    after = world.batch(batch)
    assert (after.completed, after.ended, after.held_micro_usd) == (12, 12, ZERO)
    assert after.cost_micro_usd == D("6.6")
    assert any(each.batch.is_drained for each in said)
    assert world.money() == (D("6.6"), ZERO)


def test_batches_and_requests_that_race_for_a_budget_never_exceed_it(world: World) -> None:
    world.limits = Limits(monthly_budget_micro_usd=D(1000), total_budget_micro_usd=D(1000))
    planned = [world.planned([3]) for _ in range(8)]
    lock, begun, admitted = threading.Lock(), [], []

    def run(number: int) -> None:
        try:
            if number < 8:
                taken = world.store.begin(planned[number], most_cost_micro_usd=D(180), limits=world.limits, now=NOW)
                with lock:
                    begun.append(taken)
            else:
                hold = world.ledger.reserve(
                    world.key_id, world.limits, Ask(cost_micro_usd=D(90)), until=world.clock() + 30
                )
                with lock:
                    admitted.append(hold)
        except BudgetExceededError:
            pass

    race(16, run)

    spent, held = world.money()
    assert (spent, held) == (ZERO, 180 * len(begun) + D(90) * len(admitted))
    assert 1000 - 180 < held <= 1000 or len(begun) == 8 or len(admitted) == 8
    assert held <= 1000


class Unlucky:
    """The client, but now and then a call fails: refused, its answer lost, or the caller killed before or after it."""

    def __init__(self, client: Any, seed: int, share: float) -> None:
        self._client = client
        self._dice = random.Random(seed)
        self._share = share
        self._lock = threading.Lock()
        self.failures = 0

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._client, name)
        if name not in {"transact_write_items", "update_item", "get_item", "put_item"}:
            return call

        def unlucky(*positional: Any, **arguments: Any) -> Any:
            with self._lock:
                fails = self._dice.random() < self._share
                kind = self._dice.choice(("refused", "lost", "lost", "killed", "killed after"))
                self.failures += fails
            if not fails:
                return call(*positional, **arguments)
            if kind == "killed":
                raise Killed
            if kind == "refused":
                raise refused(self._client, name)
            call(*positional, **arguments)
            raise Killed if kind == "killed after" else ReadTimeoutError(endpoint_url="the table")

        return unlucky


def refused(client: Any, operation: str, *reasons: str) -> Exception:
    code = "TransactionCanceledException" if operation == "transact_write_items" else "TransactionConflictException"
    error: Any = client.exceptions.ClientError({"Error": {"Code": code, "Message": ""}}, operation)
    error.response["CancellationReasons"] = [{"Code": reason} for reason in reasons or ("None", "TransactionConflict")]
    kept: Exception = error
    return kept


class Unreliable:
    """Workers of a batch as they are run by queues: killed, repeated, late, and each message twice."""

    def __init__(self, world: World, batch: Batch, seed: int, *, cancelled: bool) -> None:
        self.world = world
        self.batch = batch
        self.cancelled = cancelled
        self.dice = random.Random(seed)
        self.messages: list[int] = list(range(batch.released)) * 2
        self.now = NOW
        self.lock = threading.Lock()
        self.kills = 0

    def run(self) -> None:
        for _ in range(4_000):
            with self.lock:
                if self.world.store.get(self.batch.id).status in ENDED:  # type: ignore[union-attr]
                    return
                self.now += self.dice.randrange(25)
                self.dice.shuffle(self.messages)
                number = self.messages.pop() if self.messages else None
            try:
                self.work(number) if number is not None else self.watch()
            except (Killed, StateError):
                # The message comes again.
                with self.lock:
                    self.kills += 1
                    self.messages += [] if number is None else [number]
        raise AssertionError("The batch does not end.")

    def store(self) -> BatchStore:
        """For each delivery a store of its own, with bad luck of its own."""
        if not isinstance(self.world, RealWorld):
            return self.world.store
        return self.world.store_with(Unlucky(self.world.client, self.dice.randrange(1 << 30), 0.08))

    def work(self, number: int) -> None:
        store = self.store()
        taken = store.claim_chunk(self.batch.id, number, now=self.now, lease_until=self.now + 60)
        said = self.recorded(store, *taken) if taken else store.end_of(self.batch.id, number)
        if self.cancelled and said.batch.ended >= 3:
            self.world.store.halt(self.batch.id, "cancelled", now=self.now)
        self.maybe_killed()
        with self.lock:
            self.messages += [] if said.released is None else [said.released] * self.dice.choice((1, 2))
        if said.batch.is_drained:
            self.assemble(store)

    def recorded(self, store: BatchStore, batch: Batch, chunk: Chunk) -> Recorded:
        self.maybe_killed()
        left = chunk.lines - chunk.completed - chunk.failed
        if batch.halted is None and self.dice.random() < 0.2:
            store.put_chunk_back(chunk, now=self.now)
            raise Killed
        lines = self.dice.randrange(left + 1)
        if batch.halted is not None:
            lines = 0
        work = Work.of(
            batch,
            chunk,
            lines=lines,
            cost=D(self.dice.randrange(1_000_000_000)) / 10**8,
            failed=self.dice.randrange(lines + 1),
        )
        if batch.halted is not None:
            work = msgspec.structs.replace(
                work, chunk=msgspec.structs.replace(work.chunk, status=ChunkStatus.ENDED), part=None
            )
        return work.record(store, batch, now=self.now)

    def watch(self) -> None:
        store = self.store()
        batch = store.get(self.batch.id)
        assert batch is not None
        out = store.chunks_out(batch)
        with self.lock:
            self.messages += [chunk.number for chunk in out]
        if not out:
            self.assemble(store)

    def assemble(self, store: BatchStore) -> None:
        final = store.finalize(self.batch, now=self.now)
        taken = store.claim(self.batch.id, ASSEMBLED, now=self.now, lease_until=self.now + 60)
        if taken is None:
            return
        self.maybe_killed()
        assert final.is_drained
        status = BatchStatus.COMPLETED if taken.halted is None else BatchStatus.CANCELLED
        store.finish(taken, status, files=[file_of(taken, "_output.jsonl")], errors=(), now=self.now)

    def maybe_killed(self) -> None:
        with self.lock:
            if self.dice.random() < 0.1:
                raise Killed


@pytest.mark.parametrize(("seed", "cancelled"), [(1, False), (2, False), (3, True)])
def test_whatever_is_killed_repeated_or_lost_every_line_counts_once_and_the_money_is_exact(
    world: World, seed: int, cancelled: bool
) -> None:
    lines = [random.Random(seed).randrange(1, 9) for _ in range(14)]
    batch = world.begun(lines, window=4)
    # Somebody else uses the key meanwhile.
    world.limits = Limits(monthly_budget_micro_usd=D(5000), total_budget_micro_usd=D(5000))
    run = Unreliable(world, batch, seed, cancelled=cancelled)
    spent_else = ZERO

    def others() -> None:
        nonlocal spent_else
        for number in range(12):
            hold = world.ledger.reserve(world.key_id, world.limits, Ask(cost_micro_usd=D(7)), until=world.clock() + 30)
            spent = Spent(cost_micro_usd=D(number) / 8)
            world.ledger.settle(hold, spent)
            spent_else += spent.cost_micro_usd

    race(5, lambda number: others() if number == 4 else run.run())

    done = world.batch(batch)
    chunks = list(world.store.chunks(done))
    entries = world.entries()
    assert run.kills > 5
    assert done.status is (BatchStatus.CANCELLED if cancelled else BatchStatus.COMPLETED)
    assert done.ended == done.released
    if not cancelled:
        assert [chunk.completed + chunk.failed for chunk in chunks] == lines
        assert done.completed + done.failed == sum(lines)
    assert (done.completed, done.failed) == (
        sum(chunk.completed for chunk in chunks),
        sum(chunk.failed for chunk in chunks),
    )
    parts = [part.output_key for chunk in chunks for part in chunk.parts]
    assert len(set(parts)) == len(parts) == len(entries)
    assert sum(entry.requests for entry in entries) == done.completed + done.failed
    assert done.cost_micro_usd == sum((entry.cost_micro_usd or ZERO for entry in entries), ZERO)
    assert (done.usage.input_tokens if done.usage else 0) == 7 * (done.completed + done.failed)
    assert world.money() == (done.cost_micro_usd + spent_else, ZERO)
    assert world.standing().requests == done.completed + done.failed + 12


# ---- A table that fails, at one moment ----


class Failing:
    """The client, but the first call of an operation fails: before it is made, or after, or something comes between."""

    def __init__(self, client: Any, operation: str, error: BaseException | None, *, done: bool) -> None:
        self._client, self._operation, self._error, self._done = client, operation, error, done
        self.before: Callable[[], object] = lambda: None
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._client, name)

        def failing(*positional: Any, **arguments: Any) -> Any:
            self.calls.append(name)
            if name != self._operation:
                return call(*positional, **arguments)
            before, self.before = self.before, lambda: None
            before()
            error, self._error = self._error, None
            if error is None:
                return call(*positional, **arguments)
            if self._done:
                call(*positional, **arguments)
            raise error

        return failing if name.endswith(("_item", "_items")) else call


def lost() -> Exception:
    return ReadTimeoutError(endpoint_url="the table")


def failing(
    world: RealWorld, operation: str, error: BaseException | None, *, done: bool = False
) -> tuple[DynamoDBBatches, Failing]:
    client = Failing(world.client, operation, error, done=done)
    return world.store_with(client), client


@pytest.mark.parametrize("done", [True, False])
def test_every_step_whose_answer_got_lost_is_made_once(real: RealWorld, done: bool) -> None:
    def store(operation: str) -> DynamoDBBatches:
        return failing(real, operation, lost(), done=done)[0]

    batch = real.created()
    store("put_item").create(batch)
    taken = store("update_item").claim(batch.id, VALIDATING, now=NOW, lease_until=NOW + 60)
    assert taken is not None
    assert taken.attempts == 1
    noted = store("update_item").note(taken, {"line": 1}, now=NOW, lease_until=NOW + 70)
    assert noted.progress == {"line": 1}
    store("transact_write_items").put_chunks(noted, plan(noted, [2, 2, 1], D(10)))
    planned = msgspec.structs.replace(noted, chunks=3, lines=5, model="m", window=2)
    begun = store("transact_write_items").begin(planned, most_cost_micro_usd=D(50), limits=real.limits, now=NOW)
    assert begun.held_micro_usd == 50
    assert real.money() == (ZERO, D(50))

    claimed = store("update_item").claim_chunk(batch.id, 0, now=NOW, lease_until=NOW + 60)
    assert claimed is not None
    assert claimed[1].attempts == 1
    store("update_item").put_chunk_back(claimed[1], now=NOW)
    work = Work.of(begun, real.take(begun, 0))
    assert work.record(store("transact_write_items"), begun).released == 2
    assert real.money() == (D(8), D(30))
    assert len(real.entries()) == 1

    halted = store("update_item").halt(batch.id, "input_file_gone", now=NOW)
    assert halted.halted == "input_file_gone"
    stop(real, begun, 1)
    stop(real, begun, 2)
    assert store("update_item").finalize(begun, now=NOW).status is BatchStatus.FINALIZING
    first = real.claimed(begun, ASSEMBLED)
    store("update_item").unclaim(first, now=NOW)
    last = real.claimed(begun, ASSEMBLED)
    file = file_of(begun, "_output.jsonl")
    done_batch = store("transact_write_items").finish(last, BatchStatus.FAILED, files=[file], errors=(), now=NOW)
    assert done_batch == real.batch(begun)
    assert real.has_file(file)
    assert real.money() == (D(8), ZERO)


@pytest.mark.parametrize("done", [True, False])
def test_a_splitter_that_is_killed_while_it_begins_leaves_nothing_held_twice(real: RealWorld, done: bool) -> None:
    batch = real.planned([2, 1])
    store, _ = failing(real, "transact_write_items", Killed(), done=done)

    with pytest.raises(Killed):
        store.begin(batch, most_cost_micro_usd=D(30), limits=real.limits, now=NOW)

    assert real.money() == (ZERO, D(30)), "still held, or set aside"
    real.clock.advance(100)
    assert real.money() == (ZERO, D(30) if done else ZERO)
    after = real.claimed(batch, [BatchStatus.VALIDATING, BatchStatus.IN_PROGRESS], now=NOW + 60)
    assert after.status is (BatchStatus.IN_PROGRESS if done else BatchStatus.VALIDATING)
    if not done:
        again = msgspec.structs.replace(after, chunks=2, lines=3, window=2)
        real.store.begin(again, most_cost_micro_usd=D(30), limits=real.limits, now=NOW + 61)
        assert real.money() == (ZERO, D(30))


def test_a_hold_that_expires_before_it_is_set_aside_is_taken_anew(real: RealWorld) -> None:
    batch = real.planned([2, 1])
    store, client = failing(real, "transact_write_items", None)

    def expire() -> None:
        real.clock.advance(100)
        assert real.money() == (ZERO, ZERO)

    client.before = expire
    begun = store.begin(batch, most_cost_micro_usd=D(30), limits=real.limits, now=NOW)

    assert begun == real.batch(batch)
    assert real.money() == (ZERO, D(30))
    real.clock.advance(1000)
    assert real.money() == (ZERO, D(30))


def test_a_batch_that_is_cancelled_while_it_begins_holds_nothing(real: RealWorld) -> None:
    batch = real.planned([2, 1])
    store, client = failing(real, "transact_write_items", None)
    client.before = lambda: real.store.halt(batch.id, "cancelled", now=NOW)

    with pytest.raises(StateConflictError):
        store.begin(batch, most_cost_micro_usd=D(30), limits=real.limits, now=NOW)

    assert real.money() == (ZERO, ZERO), "at once"
    assert real.batch(batch).status is BatchStatus.CANCELLING


def test_a_batch_that_is_stopped_while_a_chunk_ends_gives_out_no_successor(real: RealWorld) -> None:
    batch = real.begun([1] * 4)
    store, client = failing(real, "transact_write_items", None)
    client.before = lambda: real.store.halt(batch.id, "cancelled", now=NOW)

    said = Work.of(batch, real.take(batch, 0)).record(store, batch)

    assert said.released is None
    assert (said.batch.released, said.batch.ended, said.batch.status) == (2, 1, BatchStatus.CANCELLING)
    assert not real.chunk(batch, 2).released


def test_nothing_is_recorded_of_a_batch_that_has_ended(real: RealWorld) -> None:
    batch = real.begun([1])
    work = Work.of(batch, real.take(batch, 0))
    finish(real, batch, BatchStatus.FAILED)

    with pytest.raises(StateConflictError):
        work.record(real.store, batch)

    assert real.money() == (ZERO, ZERO)


@pytest.mark.parametrize("reason", ["TransactionConflict", "ThrottlingError"])
def test_a_table_that_keeps_refusing_is_a_failure_that_may_be_repeated(real: RealWorld, reason: str) -> None:
    batch = real.begun([1, 1])
    work = Work.of(batch, real.take(batch, 0))
    refusals = [0]

    class Refusing:
        def __getattr__(self, name: str) -> Any:
            if name != "transact_write_items":
                return getattr(real.client, name)

            def refuse(**_: Any) -> None:
                refusals[0] += 1
                raise refused(real.client, name, "None", reason)

            return refuse

    with pytest.raises(StateError) as failed:
        work.record(real.store_with(Refusing()), batch)

    assert failed.value.retryable
    assert refusals[0] > 10
    work.record(real.store, batch)
    assert real.money() == (D(4), D(10))


def test_the_ledger_of_a_key_that_only_has_batches_does_not_grow(real: RealWorld) -> None:
    sizes = []
    for _ in range(6):
        batch = real.begun([1])
        real.run(batch, 0)
        finish(real, real.store.finalize(batch, now=NOW))
        real.clock.advance(200)
        item = real.table.get(f"LEDGER#{real.key_id}#0", "STATE", consistent=True)
        assert item is not None
        sizes.append(len(item))

    assert sizes[-1] == sizes[1], "a bucket goes when the next batch begins"
    assert real.money() == (D(24), ZERO)


def test_items_are_forgotten_with_their_batch_and_bits_are_bytes(real: RealWorld) -> None:
    batch = real.begun([3, 1])
    real.run(batch, 0)

    meta, chunk = real.raw(batch), real.raw(batch, f"{CHUNK_PREFIX}00000000")

    assert (meta["expires_at"], meta["expires_at_s"]) == (batch.forget_at, batch.expires_at)
    assert (chunk["expires_at"], chunk["done"]) == (batch.forget_at, bytes([0b1110_0000]))
    assert (meta["gsi1pk"], meta["gsi1sk"]) == (f"BATCHES#{real.key_id}", f"{NOW:012d}#{batch.id}")


def test_attempts_from_before_they_were_counted_are_no_lost_workers(real: RealWorld) -> None:
    batch = real.begun([3, 1])
    sk = f"{CHUNK_PREFIX}00000000"
    real.table.update(f"{PREFIX}{batch.id}", sk, "SET attempts = :twelve REMOVE heard_of", values={":twelve": 12})

    assert real.take(batch, 0).lost == 0
    assert real.take(batch, 0, now=NOW + 60).lost == 1


def test_what_is_out_is_found_with_few_reads(real: RealWorld) -> None:
    batch = real.begun([1] * 64, window=2, money="0.1")
    for number in range(0, 40, 2):
        real.run(batch, number, cost="0.01")
    store, client = failing(real, "", None)

    assert [chunk.number for chunk in store.chunks_out(real.batch(batch))] == [1, 40]

    assert len(client.calls) <= 6


def test_a_store_without_a_ledger_or_a_log_says_what_it_lacks(real: RealWorld) -> None:
    bare = DynamoDBBatches(real.table, now=real.clock)
    batch = real.planned([1])
    with pytest.raises(ConfigurationError, match="ledger"):
        bare.begin(batch, most_cost_micro_usd=D(1), limits=real.limits, now=NOW)
    begun = real.begun([1])
    with pytest.raises(ConfigurationError, match="log"):
        Work.of(begun, real.take(begun, 0)).record(bare, begun)
