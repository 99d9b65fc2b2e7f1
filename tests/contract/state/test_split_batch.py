"""The splitter over DynamoDB, S3 and SQS as they are: killed, gone on with, and its chunks what the file says."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from decimal import Decimal

import msgspec
import pytest

from sluice.adapters.dynamodb_batches import DynamoDBBatches
from sluice.adapters.dynamodb_ledger import DynamoDBLedger
from sluice.adapters.s3_objects import S3Objects
from sluice.adapters.s3_ranges import S3Ranges
from sluice.adapters.sqs_queue import SqsQueue
from sluice.domain.batch_lines import requests_in
from sluice.domain.batches import Batch, BatchStatus, ChunkPointer
from sluice.domain.chunk_plan import ChunkLimits
from sluice.domain.deadline import Deadline
from sluice.domain.ids import new_id
from sluice.domain.ledger import Ask, Limits, Spent
from sluice.services.plan_chunks import InputLimits
from sluice.services.split_batch import SplitBatch
from sluice.wire.batch_lines import read_line
from tests.contract.state.conftest import Aws
from tests.unit.sluice.services.splitting import BATCH, KEY, Splitting, many

LINES = 2_500
LIMITS = InputLimits(
    lines=LINES, total_bytes=1 << 30, line_bytes=10_000, chunk=ChunkLimits(lines=10, seconds=1e9), at_once=16
)


class KilledError(BaseException):
    """The process is gone; nothing of it handles anything."""


class Clock:
    """The time, which jumps ahead when it is told to."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_s


class Dying:
    """Ranges whose reader is killed before so many blocks, or never."""

    def __init__(self, ranges: S3Ranges, clock: Clock, *, blocks: int | None = None) -> None:
        self._ranges = ranges
        self._clock = clock
        self._blocks = blocks
        self.started_at: list[int] = []

    def size(self, key: str) -> int:
        return self._ranges.size(key)

    def read_range(self, key: str, start: int, end: int) -> bytes:
        return self._ranges.read_range(key, start, end)

    def stream(self, key: str, *, start: int = 0) -> Iterator[bytes]:
        self.started_at.append(start)
        for number, block in enumerate(self._ranges.stream(key, start=start)):
            if number == self._blocks:
                raise KilledError
            self._clock.ahead_s += 4
            yield block


class Real:
    """A splitter over the local cloud, with keys and routes in memory."""

    def __init__(self, aws: Aws) -> None:
        self.limits = Limits()
        self.clock = Clock()
        bucket, (table, _) = aws.bucket(), aws.table()
        url, _ = aws.queue(max_receive_count=5)
        self.ledger = DynamoDBLedger(table)
        self.batches = DynamoDBBatches(table, ledger=lambda: self.ledger)
        self.objects = S3Objects(aws.client("s3"), bucket)
        self.ranges = S3Ranges(aws.client("s3"), bucket, block_bytes=16_384)
        self.queue = SqsQueue[ChunkPointer](aws.client("sqs"), url)
        self._sqs, self._url = aws.client("sqs"), url
        now = int(time.time())
        self.batch = msgspec.structs.replace(
            BATCH, id=new_id("batch"), created_at=now, updated_at=now, expires_at=now + 86_400, forget_at=now + 864_000
        )
        self.objects.put(self.batch.input_key, many(LINES))
        self.batches.create(self.batch)

    def splitter(self, ranges: Dying) -> SplitBatch:
        return dataclasses.replace(
            Splitting(limits=LIMITS, key=msgspec.structs.replace(KEY, limits=self.limits)).splitter,
            batches=self.batches,
            ranges=ranges,
            objects=self.objects,
            chunk_queue=self.queue,
            clock=self.clock,
            monotonic=self.clock,
        )

    def split(self, *, seconds: float = 900, blocks: int | None = None) -> tuple[bool, int]:
        """Whether it is done, and where the reading began."""
        ranges = Dying(self.ranges, self.clock, blocks=blocks)
        done = self.splitter(ranges).split(self.batch.id, Deadline.after(seconds, self.clock)) is None
        return done, ranges.started_at[0] if ranges.started_at else -1

    def stored(self) -> Batch:
        batch = self.batches.get(self.batch.id)
        assert batch is not None
        return batch

    def sent(self) -> list[int]:
        messages = self._sqs.receive_message(QueueUrl=self._url, MaxNumberOfMessages=10).get("Messages", [])
        return sorted(msgspec.json.decode(message["Body"], type=ChunkPointer).chunk for message in messages)

    def assert_complete(self) -> None:
        batch, content = self.stored(), self.objects.get(self.batch.input_key)
        assert (batch.status, batch.lines, batch.chunks) == (BatchStatus.IN_PROGRESS, LINES, LINES // 10)
        chunks = list(self.batches.chunks(batch))
        found = [
            (number, read_line(line).custom_id)
            for chunk in chunks
            for number, line in requests_in(content[chunk.start : chunk.end], first_line=chunk.first_line)
        ]
        assert found == [(number + 1, f"q{number}") for number in range(LINES)]
        assert sum(chunk.held_micro_usd for chunk in chunks) == batch.held_micro_usd > 0
        assert self.sent() == [0, 1, 2]


@pytest.fixture
def real(aws: Aws) -> Real:
    return Real(aws)


def test_a_file_is_split_once_whatever_is_delivered(real: Real) -> None:
    assert real.split() == (True, 0)
    real.assert_complete()
    before = real.stored()
    real.clock.ahead_s = 0
    assert real.split() == (True, -1)
    assert real.stored() == before


def test_a_splitter_that_was_killed_is_gone_on_with_from_its_checkpoint(real: Real) -> None:
    with pytest.raises(KilledError):
        real.split(blocks=20)
    # Nobody hears of it any more, until its lease is over.
    real.clock.ahead_s += 60
    done, began = real.split()
    assert done
    assert began > 10 * 16_384
    real.assert_complete()


def test_a_splitter_that_runs_out_of_time_goes_on_as_often_as_it_takes(real: Real) -> None:
    began = []
    done = False
    while not done:
        done, start = real.split(seconds=40)
        began.append(start)
    assert len(began) > 2
    assert began == sorted(set(began))
    real.assert_complete()


@pytest.mark.parametrize("shards", [1, 4])
def test_a_batch_waits_for_the_money_that_a_request_holds(real: Real, shards: int) -> None:
    real.limits = Limits(total_budget_micro_usd=Decimal(10_000_000), shards=shards)
    ask = Ask(cost_micro_usd=Decimal(9_999_999))
    hold = real.ledger.reserve(KEY.id, real.limits, ask, until=time.time() + 600)
    assert real.split() == (False, 0)
    assert (real.stored().status, real.stored().lease_until) == (BatchStatus.VALIDATING, None)
    assert real.split() == (False, len(many(LINES))), "nothing is read again"
    real.ledger.settle(hold, Spent(cost_micro_usd=Decimal(1)))
    assert real.split()[0]
    real.assert_complete()
    assert real.ledger.standing(KEY.id, real.limits).total_held_micro_usd == real.stored().held_micro_usd


def test_a_batch_that_what_is_spent_leaves_too_little_for_has_failed(real: Real) -> None:
    real.limits = Limits(total_budget_micro_usd=Decimal(10_000_000))
    ask = Ask(cost_micro_usd=Decimal(9_999_999))
    hold = real.ledger.reserve(KEY.id, real.limits, ask, until=time.time() + 600)
    real.ledger.settle(hold, Spent(cost_micro_usd=Decimal(9_999_999)))
    assert real.split()[0]
    assert (real.stored().status, real.stored().errors[0].code) == (BatchStatus.FAILED, "insufficient_quota")


def test_a_batch_that_is_cancelled_meanwhile_holds_nothing(real: Real) -> None:
    assert not real.split(seconds=60)[0]
    assert real.batches.halt(real.batch.id, "cancelled", now=int(real.clock())).status is BatchStatus.CANCELLED
    assert real.split() == (True, -1)
    assert real.stored().status is BatchStatus.CANCELLED
    assert real.sent() == []
