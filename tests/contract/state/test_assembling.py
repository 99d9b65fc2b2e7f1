"""The end of a batch with the table, the bucket and the queues as they are: files, killed assemblers, the watch."""

from __future__ import annotations

import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from pyarrow import parquet as reader

from sluice.adapters import parquet
from sluice.adapters.dynamodb_batches import DynamoDBBatches
from sluice.adapters.dynamodb_dead_letters import DynamoDBDeadLetterReasons
from sluice.adapters.dynamodb_files import DynamoDBFiles
from sluice.adapters.dynamodb_ledger import DynamoDBLedger
from sluice.adapters.s3_compose import S3Composer
from sluice.adapters.s3_ranges import S3Ranges
from sluice.adapters.sqs_queue import SqsQueue
from sluice.domain.batches import (
    Batch,
    BatchEndpoint,
    BatchPointer,
    BatchStatus,
    Chunk,
    ChunkPointer,
    ChunkStatus,
    LineUse,
    OutputFormat,
    Part,
)
from sluice.domain.deadline import Deadline
from sluice.domain.deliveries import Delivery, QueueName
from sluice.domain.files import StoredFile
from sluice.domain.ids import new_id
from sluice.domain.ledger import NO_LIMITS
from sluice.services.assemble_batch import AssembleBatch
from sluice.services.consume import Consumer
from sluice.services.watch_batch import WatchBatch
from sluice.wire.records import deliveries
from tests.contract.state.conftest import Aws

MIB = 1_048_576
WATCH_S = 1
CHUNKS = 6


class Killed(BaseException):
    """The process is gone; nothing of it handles anything."""


class World:
    """A batch of ``CHUNKS`` chunks of one line each, in real state, and its assembler."""

    def __init__(self, aws: Aws, form: OutputFormat = OutputFormat.JSONL) -> None:
        self.table, _ = aws.table()
        self.bucket = aws.bucket()
        self.s3, self.sqs = aws.client("s3"), aws.client("sqs")
        self.urls = {name: aws.queue(max_receive_count=4)[0] for name in ("batches", "chunks", "assembly")}
        self.ledger = DynamoDBLedger(self.table)
        self.store = DynamoDBBatches(self.table, ledger=lambda: self.ledger, log_ttl_days=1)
        self.files = DynamoDBFiles(self.table)
        self.form = form
        self.key_id = new_id("key")
        self.batch_id = new_id("batch")
        self.service = self.assembler(self.s3)

    def queue(self, name: str) -> SqsQueue[Any]:
        return SqsQueue(self.sqs, self.urls[name])

    def assembler(self, s3: Any, *, lease_s: float = 60) -> AssembleBatch:
        queue = self.queue("assembly")
        return AssembleBatch(
            batches=self.store,
            ranges=S3Ranges(s3, self.bucket),
            composer=S3Composer(s3, self.bucket),
            join_parquet=parquet.merge,
            watch=WatchBatch(
                batches=self.store,
                splitting=self.queue("batches"),
                chunks=self.queue("chunks"),
                assembly=queue,
                watch_s=WATCH_S,
            ),
            consumer=Consumer(
                queue=queue,
                reasons=DynamoDBDeadLetterReasons(self.table),
                queue_name=QueueName.ASSEMBLY,
                max_receive_count=3,
                retry_base_s=0.1,
            ),
            file_ttl_days=30,
            lease_s=lease_s,
        )

    @property
    def batch(self) -> Batch:
        batch = self.store.get(self.batch_id)
        assert batch is not None
        return batch

    def begin(self, **changes: Any) -> None:
        now = int(time.time())
        fields: dict[str, Any] = {
            "id": self.batch_id,
            "key_id": self.key_id,
            "endpoint": BatchEndpoint.EMBEDDINGS,
            "input_file_id": new_id("file"),
            "input_key": "files/x",
            "completion_window": "24h",
            "status": BatchStatus.VALIDATING,
            "created_at": now,
            "updated_at": now,
            "expires_at": now + 86_400,
            "forget_at": now + 864_000,
            "output_format": self.form,
            "window": CHUNKS,
            **changes,
        }
        self.store.create(Batch(**fields))
        claimed = self.store.claim(self.batch_id, [BatchStatus.VALIDATING], now=now, lease_until=now + 60)
        assert claimed is not None
        held = Decimal(10)
        self.store.put_chunks(
            claimed,
            [
                Chunk(batch_id=self.batch_id, number=n, start=n, end=n + 1, first_line=n, lines=1, held_micro_usd=held)
                for n in range(CHUNKS)
            ],
        )
        planned = msgspec.structs.replace(claimed, chunks=CHUNKS, lines=CHUNKS)
        self.store.begin(planned, most_cost_micro_usd=CHUNKS * held, limits=NO_LIMITS, now=now)

    def end_chunk(self, number: int, body: bytes | None) -> None:
        """What a worker does: an answer, or an error without a ``body``."""
        now = int(time.time())
        claimed = self.store.claim_chunk(self.batch_id, number, now=now, lease_until=now + 30)
        assert claimed is not None
        batch, chunk = claimed
        place = f"{batch.folder}parts/{number:08d}-{chunk.attempts}"
        if body is None:
            line = b'{"error":%d}\n' % number
            self.s3.put_object(Bucket=self.bucket, Key=f"{place}.errors.jsonl", Body=line)
            part = Part(error_key=f"{place}.errors.jsonl", error_bytes=len(line))
        else:
            self.s3.put_object(Bucket=self.bucket, Key=f"{place}.{self.form.value}", Body=body)
            part = Part(output_key=f"{place}.{self.form.value}", output_bytes=len(body))
        use = LineUse(completed=int(body is not None), failed=int(body is None), released_micro_usd=Decimal(10))
        ended = msgspec.structs.replace(chunk, status=ChunkStatus.ENDED, done=b"\x01")
        self.store.record(batch, ended, part=part, use=use, entries=(), now=now)

    def deliver(self) -> None:
        """One invocation on everything in the assembly queue, as Lambda's event source mapping makes it."""
        messages = self.sqs.receive_message(
            QueueUrl=self.urls["assembly"], MaxNumberOfMessages=10, AttributeNames=["All"]
        ).get("Messages", [])
        records = [
            {
                "messageId": message["MessageId"],
                "receiptHandle": message["ReceiptHandle"],
                "body": message["Body"],
                "attributes": message["Attributes"],
            }
            for message in messages
        ]
        decode = msgspec.json.Decoder(BatchPointer).decode
        kept = self.service.run(deliveries({"Records": records}, decode), Deadline.after(60))
        for message in messages:
            if message["MessageId"] not in kept:
                self.sqs.delete_message(QueueUrl=self.urls["assembly"], ReceiptHandle=message["ReceiptHandle"])

    def deliver_until(self, done: Callable[[], bool], *, seconds: float = 30) -> None:
        until = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < until
            self.deliver()
            time.sleep(0.2)

    def file(self, file_id: str | None) -> tuple[StoredFile, bytes]:
        assert file_id is not None
        file = self.files.get(self.key_id, file_id)
        assert file is not None
        return file, self.s3.get_object(Bucket=self.bucket, Key=file.object_key)["Body"].read()

    def sent(self, name: str) -> list[str]:
        found: list[str] = []
        while messages := self.sqs.receive_message(QueueUrl=self.urls[name], MaxNumberOfMessages=10).get("Messages"):
            found += [message["Body"] for message in messages]
        return found


@pytest.fixture
def world(aws: Aws) -> World:
    return World(aws)


def large(number: int) -> bytes:
    return f'{{"line":{number}}}\n'.encode() * (6 * MIB // 11)


BODIES = [large(0), b'{"line":1}\n', None, large(3), b'{"line":4}\n', None]


def filled(world: World) -> World:
    world.begin()
    for number, body in enumerate(BODIES):
        world.end_chunk(number, body)
    return world


def assert_whole(world: World) -> None:
    batch = world.batch
    assert (batch.status, batch.completed, batch.failed) == (BatchStatus.COMPLETED, 4, 2)
    output, content = world.file(batch.output_file_id)
    assert content == b"".join(body for body in BODIES if body)
    assert (output.bytes, output.filename) == (len(content), f"{batch.id}_output.jsonl")
    assert world.file(batch.error_file_id)[1] == b'{"error":2}\n{"error":5}\n'
    assert world.ledger.standing(world.key_id, NO_LIMITS).total_held_micro_usd == 0


def test_a_drained_batch_becomes_files(world: World) -> None:
    filled(world)
    world.queue("assembly").send(BatchPointer(batch_id=world.batch_id))
    world.deliver_until(lambda: world.batch.status is BatchStatus.COMPLETED)
    assert_whole(world)


class Mortal:
    """An S3 client whose process dies at the ``on``-th call that changes something."""

    def __init__(self, client: Any, on: int) -> None:
        self._client = client
        self._left = on

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(**parameters: Any) -> Any:
            if name not in ("get_object", "head_object", "list_parts"):
                self._left -= 1
                if not self._left:
                    raise Killed
            return getattr(self._client, name)(**parameters)

        return call


@pytest.mark.parametrize("on", [1, 2, 4, 5, 6])
def test_the_watch_finds_what_a_killed_assembler_has_left(world: World, on: int) -> None:
    filled(world)
    with pytest.raises(Killed):
        world.assembler(Mortal(world.s3, on), lease_s=2).assemble(world.batch_id, Deadline.after(60))
    assert world.batch.status is BatchStatus.FINALIZING
    world.queue("assembly").send(BatchPointer(batch_id=world.batch_id, watch=True))
    world.deliver_until(lambda: world.batch.status is BatchStatus.COMPLETED)
    assert_whole(world)
    # What was begun is what was completed: nothing was copied twice.
    assert world.s3.list_multipart_uploads(Bucket=world.bucket).get("Uploads", []) == []


def test_parquet_parts_become_one_file(aws: Aws) -> None:
    world = World(aws, OutputFormat.PARQUET)
    world.begin()
    for number in range(CHUNKS):
        writer = parquet.PartWriter()
        writer.add(custom_id=f"line-{number}", index=0, embedding=[number + 0.5] * 8, prompt_tokens=3, model="m")
        world.end_chunk(number, writer.finish())
    assert world.service.assemble(world.batch_id, Deadline.after(60))
    file, content = world.file(world.batch.output_file_id)
    assert (file.content_type, file.filename) == (parquet.CONTENT_TYPE, f"{world.batch_id}_output.parquet")
    rows = reader.read_table(pa.BufferReader(content)).to_pydict()
    assert rows["custom_id"] == [f"line-{number}" for number in range(CHUNKS)]
    assert rows["embedding"] == [[number + 0.5] * 8 for number in range(CHUNKS)]


def test_what_expires_is_ended_by_its_workers_and_then_assembled(world: World) -> None:
    now = int(time.time())
    world.begin(expires_at=now + 1)
    for number, body in enumerate(BODIES[:4]):
        world.end_chunk(number, body)
    time.sleep(1.1)
    world.queue("assembly").send(BatchPointer(batch_id=world.batch_id, watch=True))
    world.deliver_until(lambda: world.batch.halted is not None)
    pointers = {msgspec.json.decode(body, type=ChunkPointer).chunk for body in world.sent("chunks")}
    assert pointers == {4, 5}
    for number in (4, 5):
        world.end_chunk(number, None)
    world.deliver_until(lambda: world.batch.status is BatchStatus.EXPIRED)
    assert (world.batch.completed, world.batch.failed) == (3, 3)
    assert world.file(world.batch.error_file_id)[1] == b'{"error":2}\n{"error":4}\n{"error":5}\n'


def test_chunks_whose_worker_was_lost_are_sent_again(world: World) -> None:
    world.begin()
    now = int(time.time())
    assert world.store.claim_chunk(world.batch_id, 3, now=now, lease_until=now + 1) is not None
    for number in (0, 1, 2, 4, 5):
        world.end_chunk(number, b"{}\n")
    world.queue("assembly").send(BatchPointer(batch_id=world.batch_id, watch=True))
    sent: list[str] = []
    until = time.monotonic() + 15
    while not sent and time.monotonic() < until:
        world.deliver()
        sent = world.sent("chunks")
        time.sleep(0.2)
    assert {msgspec.json.decode(body, type=ChunkPointer).chunk for body in sent} == {3}


def test_a_pointer_survives_the_queue(world: World) -> None:
    world.queue("assembly").send(BatchPointer(batch_id=world.batch_id, watch=True, receives=2))
    [body] = world.sent("assembly")
    record = {
        "messageId": "1",
        "receiptHandle": "1",
        "body": body,
        "attributes": {"ApproximateReceiveCount": "1"},
    }
    [delivery] = deliveries({"Records": [record]}, msgspec.json.Decoder(BatchPointer).decode)
    assert isinstance(delivery, Delivery)
    assert (delivery.tries, delivery.pointer.watch) == (3, True)
