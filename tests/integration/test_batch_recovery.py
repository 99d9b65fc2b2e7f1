"""What broke is mended and goes on: dead letters of every stage say why, come back, and the batch completes."""

from __future__ import annotations

from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.batches import begun, drained, ended, jsonl, question, queued, request, results
from tests.integration.governance import Key, admin, containers, kill
from tests.integration.support import Platform, eventually, local
from tests.integration.test_iam import without

if TYPE_CHECKING:
    from openai.types import Batch

LINES = 30


def broken(platform: Platform, function: str, policy: str) -> AbstractContextManager[None]:
    """The function without a permission that it needs, in new containers, which remember nothing."""
    kill(containers(platform, function))
    return without(platform, function, (policy,))


def dead_letters(platform: Platform, queue: str) -> list[dict[str, Any]]:
    answer = admin(platform, "GET", f"/queues/{queue}/dead-letters")
    assert answer.status == 200, answer.body
    return list(answer.body["data"])


@pytest.mark.parametrize(
    ("queue", "function", "policy"),
    [
        ("batches", "batch_splitter", "read-batch-input"),
        ("chunks", "batch_worker", "write-batch-objects"),
        ("assembly", "batch_assembler", "write-batch-files"),
    ],
)
def test_a_stage_that_broke_goes_on_after_a_redrive(healthy: Platform, queue: str, function: str, policy: str) -> None:
    key = Key.new(healthy)
    client = healthy.openai(key=key.secret)
    with broken(healthy, function, policy):
        batch = begun(client, jsonl(request(f"q{number}", question(number)) for number in range(LINES)))
        eventually(
            lambda: any(batch.id in (letter["subject"] or "") for letter in dead_letters(healthy, queue)) or None,
            within_s=120,
            what=f"a reason in {queue}'s dead letters",
        )
        eventually(lambda: queued(healthy, f"{queue}_dlq") or None, within_s=60, what="the dead letter itself")
    [letter, *_] = [one for one in dead_letters(healthy, queue) if batch.id in (one["subject"] or "")]
    assert letter["code"]
    assert letter["message"]
    assert letter["receives"] >= 1
    depths = {one["name"]: one for one in admin(healthy, "GET", "/queues").body["data"]}
    assert depths[queue]["dead_letters"] >= 1

    kill(containers(healthy, function))
    redriven = local("redrive", queue)
    assert redriven.returncode == 0, redriven.stderr
    done = ended(client, batch.id)
    assert_complete(client, done)
    drained(healthy, f"{queue}_dlq")
    assert key.usage()["requests"] == LINES
    assert key.logged_cost() > 0


def assert_complete(client: Any, done: Batch) -> None:
    assert done.status == "completed"
    assert sorted(results(client, done.output_file_id)) == sorted(f"q{number}" for number in range(LINES))


@pytest.mark.parametrize("queue", ["batches", "chunks", "assembly", "webhooks"])
def test_a_message_nobody_can_read_ends_in_the_dlq_and_says_so(platform: Platform, queue: str) -> None:
    sqs = platform.aws("sqs")
    name = f"SLUICE_{queue.upper()}"
    sent = sqs.send_message(QueueUrl=platform.env[f"{name}_QUEUE_URL"], MessageBody="not a pointer")["MessageId"]

    def told() -> bool | None:
        return any(one["message_id"] == sent for one in dead_letters(platform, queue)) or None

    eventually(told, within_s=90, what="the reason is told")
    eventually(lambda: queued(platform, f"{queue}_dlq") or None, within_s=60, what="the message is in the DLQ")
    sqs.purge_queue(QueueUrl=platform.env[f"{name}_DLQ_URL"])


def test_a_killed_worker_costs_seconds_not_the_visibility_timeout(healthy: Platform) -> None:
    client = healthy.openai()
    healthy.fault("extractive-v1", kind="latency", seconds=1)
    batch = begun(client, jsonl(request(f"q{number}", question(number)) for number in range(LINES)))

    def killed() -> bool | None:
        running = [
            item
            for item in healthy.items(f"BATCH#{batch.id}")
            if item["sk"]["S"] != "META" and item["status"]["S"] == "running"
        ]
        with suppress(AssertionError):
            return bool(running and kill(containers(healthy, "batch_worker"))) or None
        return None

    eventually(killed, within_s=60, every_s=0.1, what="a worker is killed at its work")
    healthy.end_faults()
    assert_complete(client, ended(client, batch.id, within_s=90))
