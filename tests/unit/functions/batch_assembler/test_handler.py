"""The assembler's function: from messages to files, and from its environment to its settings."""

from __future__ import annotations

import json
from typing import Any

import pytest

from functions.batch_assembler import handler as module
from functions.batch_assembler.settings import BatchAssemblerSettings
from sluice.adapters.parquet import PartWriter
from sluice.domain.batches import BatchStatus
from sluice.domain.errors import ConfigurationError
from sluice.runtime import batch_pipeline, clients
from sluice.runtime.settings import load
from sluice.services.assemble_batch import AssembleBatch
from sluice.testing.invocations import FakeLambdaContext
from sluice.testing.objects import FakeObjects
from sluice.testing.ranges import FakeRanges
from tests.unit.sluice.services.assembling import BATCH_ID, World

ENVIRON = {
    "SLUICE_ENVIRONMENT": "test",
    "SLUICE_SERVICE": "batch_assembler",
    "TABLE_NAME": "table",
    "BUCKET_NAME": "bucket",
    "QUEUE_URL": "https://assembly",
    "BATCHES_QUEUE_URL": "https://batches",
    "CHUNKS_QUEUE_URL": "https://chunks",
    "FILE_TTL_DAYS": "30",
    "MAX_RECEIVE_COUNT": "5",
    "RETRY_BASE_SECONDS": "2",
}
OPTIONAL = {"WATCH_SECONDS": "5", "LEASE_SECONDS": "10"}


def event(*bodies: str) -> dict[str, Any]:
    return {
        "Records": [
            {
                "messageId": f"message-{number}",
                "receiptHandle": f"receipt-{number}",
                "body": body,
                "attributes": {"ApproximateReceiveCount": "1"},
            }
            for number, body in enumerate(bodies)
        ]
    }


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    world.ended(("ab", "x"), ("c", ""))
    monkeypatch.setattr(module, "service", lambda: world.service)
    return world


def test_a_message_has_its_batch_put_together(world: World) -> None:
    answer = module.handler(event(json.dumps({"batch_id": BATCH_ID, "version": 1})), FakeLambdaContext())
    assert answer == {"batchItemFailures": []}
    assert world.batch.status is BatchStatus.COMPLETED


def test_a_watch_is_told_apart(world: World) -> None:
    body = json.dumps({"batch_id": BATCH_ID, "version": 1, "watch": True})
    assert module.handler(event(body), FakeLambdaContext()) == {"batchItemFailures": []}
    assert world.batch.status is BatchStatus.IN_PROGRESS
    assert len(world.queue.bodies) == 2


@pytest.mark.parametrize("body", ["not json", "{}", json.dumps({"batch_id": "batch_1", "version": 1})])
def test_a_message_nobody_can_read_is_kept_for_the_dead_letter_queue(world: World, body: str) -> None:
    answer = module.handler(event(body), FakeLambdaContext())
    assert answer == {"batchItemFailures": [{"itemIdentifier": "message-0"}]}
    assert world.batch.status is BatchStatus.IN_PROGRESS


@pytest.mark.parametrize("variable", sorted(ENVIRON))
def test_what_is_not_there_is_named(variable: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{variable} is missing"):
        load(BatchAssemblerSettings, ENVIRON | {variable: ""})


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("FILE_TTL_DAYS", "0"),
        ("WATCH_SECONDS", "0"),
        ("WATCH_SECONDS", "901"),
        ("LEASE_SECONDS", "0"),
        ("MAX_RECEIVE_COUNT", "0"),
        ("RETRY_BASE_SECONDS", "x"),
    ],
)
def test_what_is_out_of_range_is_named(variable: str, text: str) -> None:
    with pytest.raises(ConfigurationError, match=variable):
        load(BatchAssemblerSettings, ENVIRON | OPTIONAL | {variable: text})


def test_the_service_is_built_from_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (ENVIRON | OPTIONAL | {"AWS_DEFAULT_REGION": "us-east-1"}).items():
        monkeypatch.setenv(name, value)
    clients.client.cache_clear()
    module.service.cache_clear()  # type: ignore[attr-defined]
    service = module.service()
    assert isinstance(service, AssembleBatch)
    assert (service.file_ttl_days, service.lease_s, service.watch.watch_s) == (30, 10, 5)
    assert (service.consumer.queue_name, service.consumer.max_receive_count) == ("assembly", 5)
    module.service.cache_clear()  # type: ignore[attr-defined]


def test_parquet_is_joined_by_the_adapter() -> None:
    objects = FakeObjects()
    for key in ("one", "two"):
        writer = PartWriter()
        writer.add(custom_id=key, index=0, embedding=(1.0, 2.0), prompt_tokens=1, model="m")
        objects.put(key, writer.finish())
    parts = [(key, len(body)) for key, body in objects.bodies.items()]
    pieces = batch_pipeline._join_parquet(parts, FakeRanges(objects).read_range)
    assert [piece.key for piece in pieces] == [None, "one", "two", None]
