"""The batch worker on a real table, bucket and queues: what its unit tests show on fakes holds there too."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from typing import Any

import pytest

from sluice.adapters.dynamodb_batches import DynamoDBBatches
from sluice.adapters.dynamodb_ledger import DynamoDBLedger
from sluice.adapters.dynamodb_pace import DynamoDBPace
from sluice.adapters.s3_objects import S3Objects
from sluice.adapters.s3_ranges import S3Ranges
from sluice.adapters.sqs_queue import SqsQueue
from sluice.domain.batches import BatchStatus
from sluice.domain.errors import LeasedError, ProviderUnavailableError
from sluice.domain.ledger import ZERO
from sluice.domain.routing import Target
from sluice.services.consume import Done, Later
from tests.contract.state.conftest import Aws
from tests.unit.sluice.services.chunks import BATCH_ID, COST, INPUT_KEY, KEY, World, chat_line, embed_line


@dataclass
class Real(World):
    aws: Any = None

    def replace(self) -> None:
        table, _ = self.aws.table()
        bucket = self.aws.bucket()
        self.chunks_url, _ = self.aws.queue(max_receive_count=5)
        self.assembly_url, _ = self.aws.queue(max_receive_count=5)
        stand_ins: dict[str, Any] = {
            "batches": DynamoDBBatches(
                table, ledger=lambda: DynamoDBLedger(table, now=self.clock), log_ttl_days=30, now=self.clock
            ),
            "ledger": DynamoDBLedger(table, now=self.clock),
            "pace_store": DynamoDBPace(table),
            "objects": S3Objects(self.aws.client("s3"), bucket),
            "ranges": S3Ranges(self.aws.client("s3"), bucket),
            "chunks": SqsQueue(self.aws.client("sqs"), self.chunks_url),
            "assembly": SqsQueue(self.aws.client("sqs"), self.assembly_url),
        }
        vars(self).update(stand_ins)

    def sent(self, url: str) -> list[dict[str, Any]]:
        sqs = self.aws.client("sqs")
        messages = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
        return [json.loads(message["Body"]) for message in messages]


def test_lines_that_fail_and_messages_that_come_again(aws: Aws) -> None:
    world = Real([chat_line(f"line-{number}") for number in range(20)], per_chunk=10, aws=aws)
    failures = iter([True, True])

    def before(text: str, where: Target) -> None:
        if text == "line-3" and next(failures, False):
            raise ProviderUnavailableError("Away.", target=where.name)

    world.model.before = before
    assert isinstance(world.deliver(0), Later)
    assert (world.batch.completed, world.sent(world.chunks_url)) == (9, [])
    assert [world.deliver(0), world.deliver(0)] == [Done(), Done()]
    assert [each["chunk"] for each in world.sent(world.chunks_url)] == [1]
    assert [world.deliver(1), world.deliver(1)] == [Done(), Done()]
    assert {each["batch_id"] for each in world.sent(world.assembly_url)} == {BATCH_ID}
    assert sorted(each["custom_id"] for each in world.outputs()) == sorted(f"line-{number}" for number in range(20))
    batch = world.batch
    assert (batch.status, batch.completed, batch.cost_micro_usd) == (BatchStatus.FINALIZING, 20, 20 * COST)
    standing = world.ledger.standing(KEY.id, world.limits)
    assert (standing.spent_micro_usd, standing.held_micro_usd, standing.requests) == (20 * COST, ZERO, 20)
    found = world.pace_store.read(["a/one", "provider#bedrock"])
    assert {name: state.pace.slots for name, state in found.items()} == {"a/one": {}, "provider#bedrock": {}}


def test_of_workers_that_race_for_a_chunk_one_has_it(aws: Aws) -> None:
    world = Real([embed_line(f"line-{number}") for number in range(50)], aws=aws)
    outcomes: list[Any] = []

    def work() -> None:
        try:
            outcomes.append(world.deliver())
        except LeasedError as error:
            outcomes.append(error)

    racers = [threading.Thread(target=work) for _ in range(4)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert Done() in outcomes
    assert world.model.embeds == [50]
    assert len(world.outputs()) == world.batch.completed == 50


@pytest.mark.parametrize("reason", ["cancelled", "expired"])
def test_a_batch_that_is_halted_ends_with_what_was_done(aws: Aws, reason: str) -> None:
    world = Real([chat_line(f"line-{number}") for number in range(4)], per_chunk=2, aws=aws)
    world.deliver(0)
    world.batches.halt(BATCH_ID, reason, now=int(world.now))
    assert world.deliver(1) == Done()
    assert world.batch.is_drained
    assert (world.batch.completed, world.batch.failed) == (2, 2 if reason == "expired" else 0)
    assert world.batch.held_micro_usd == 0


def test_an_input_object_that_is_gone_halts_the_batch(aws: Aws) -> None:
    world = Real([chat_line(f"line-{number}") for number in range(4)], per_chunk=2, aws=aws)
    world.aws.client("s3").delete_object(Bucket=world.objects._bucket, Key=INPUT_KEY)  # type: ignore[attr-defined]
    assert world.deliver(0) == Done()
    assert (world.batch.halted, world.batch.is_drained) == ("input_file_gone", True)
