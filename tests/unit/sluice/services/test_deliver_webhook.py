"""A server is told at least once, again until it has it, and not at all where nobody wants to be told."""

from __future__ import annotations

import json

import msgspec
import pytest

from sluice.domain.batches import Batch, BatchEndpoint, BatchStatus
from sluice.domain.deadline import Deadline
from sluice.domain.deliveries import QueueName
from sluice.domain.errors import StateError, WebhookError
from sluice.domain.ids import new_id
from sluice.domain.jobs import AsyncJob, JobStatus
from sluice.domain.keys import ApiKey
from sluice.domain.webhooks import WebhookAnswer, WebhookEvent, WebhookPointer, WebhookSecret, WebhookSecrets
from sluice.services.consume import Consumer
from sluice.services.deliver_webhook import DeliverWebhook
from sluice.services.key_holders import KeyHolders
from sluice.testing.batches import FakeBatches
from sluice.testing.clock import FakeClock
from sluice.testing.dead_letters import FakeDeadLetterReasons
from sluice.testing.jobs import FakeJobs
from sluice.testing.keys import FakeKeys
from sluice.testing.queues import FakeQueue
from sluice.testing.webhooks import FakeWebhookSecrets, FakeWebhookSender
from sluice.wire.webhooks import signed

NOW = 1_800_000_000
ATTEMPTS = 4
URL = "https://example.com/hook?token=confidential"
KEY = ApiKey(id="key_1", key_hash="hash-1", prefix="sk-sluice-abcd", name="tests", created_at=1)
CURRENT = WebhookSecret(secret="whsec_" + "b" * 43 + "=", created_at=NOW - 10)
RETIRED = WebhookSecret(secret="whsec_" + "c" * 43 + "=", created_at=NOW - 99, retires_at=NOW)


class World:
    """One batch and one job that want to be told of, and the sender, on fakes."""

    def __init__(self, *answers: WebhookAnswer | WebhookError) -> None:
        self.clock = FakeClock(NOW)
        self.queue = FakeQueue(WebhookPointer, clock=self.clock, max_receive_count=ATTEMPTS + 1)
        self.reasons = FakeDeadLetterReasons()
        self.batches, self.jobs = FakeBatches(), FakeJobs()
        self.keys = FakeKeys(KEY)
        self.secrets = FakeWebhookSecrets()
        self.secrets.stored["key_1"] = WebhookSecrets(key_id="key_1", version=2, secrets=(CURRENT, RETIRED))
        self.server = FakeWebhookSender(*answers)
        self.batch, self.job = a_batch(), a_job()
        self.batches.items[self.batch.id] = self.batch
        self.jobs.items[self.job.id] = self.job
        self.deliver_webhook = DeliverWebhook(
            consumer=Consumer(
                queue=self.queue,
                reasons=self.reasons,
                queue_name=QueueName.WEBHOOKS,
                max_receive_count=ATTEMPTS,
                retry_base_s=5,
                start_needs_s=10,
                clock=self.clock,
                jitter=lambda _, high: high,
            ),
            batches=self.batches,
            jobs=self.jobs,
            holders=KeyHolders(self.keys, now=self.clock, clock=self.clock),
            secrets=self.secrets,
            sender=self.server,
            sign=signed,
            timeout_s=10,
            clock=self.clock,
        )

    def announce(self, resource_id: str, *, kind: str = "batch.completed", key_id: str = "key_1") -> WebhookEvent:
        event = WebhookEvent(
            id="evt_1",
            type=f"sluice.{kind}",
            time="2026-11-21T00:00:00.000Z",
            key_id=key_id,
            resource_id=resource_id,
        )
        self.queue.put(msgspec.json.encode({"source": "sluice", "detail": event, "detail-type": event.type}))
        return event

    def deliver(self) -> None:
        deliveries = self.queue.receive()
        kept = self.deliver_webhook.run(deliveries, Deadline.after(60, self.clock))
        self.queue.acknowledge(deliveries, except_for=kept)

    def deliver_until_quiet(self) -> None:
        for _ in range(20):
            self.deliver()
            if not self.queue.bodies:
                return
            self.clock.advance(self.queue.visibility_s)
        raise AssertionError("The queue never became empty.")

    @property
    def ids(self) -> list[str]:
        return [message.headers["webhook-id"] for _, message in self.server.sent]


def a_batch() -> Batch:
    return Batch(
        id=new_id("batch"),
        key_id="key_1",
        endpoint=BatchEndpoint.CHAT_COMPLETIONS,
        input_file_id="file_1",
        input_key="files/key_1/file_1",
        completion_window="24h",
        status=BatchStatus.COMPLETED,
        created_at=NOW,
        updated_at=NOW,
        expires_at=NOW + 86_400,
        forget_at=NOW + 99_999,
        callback_url=URL,
    )


def a_job() -> AsyncJob:
    return AsyncJob(
        id=new_id("async"),
        key_id="key_1",
        endpoint="/v1/chat",
        model="auto",
        status=JobStatus.COMPLETED,
        created_at=NOW,
        updated_at=NOW,
        expires_at=NOW + 86_400,
        request_key="x",
        callback_url=URL,
    )


@pytest.mark.parametrize("of", ["batch", "job"])
def test_whoever_wants_to_be_told_is_told(of: str) -> None:
    world = World()
    resource_id = world.batch.id if of == "batch" else world.job.id
    event = world.announce(resource_id, kind="batch.completed" if of == "batch" else "async.failed")
    world.deliver()
    [(url, message)] = world.server.sent
    assert url == URL
    assert json.loads(message.body)["data"] == {"id": resource_id}
    # A secret that has retired signs no more.
    assert message == signed(event, [CURRENT], now=NOW)
    assert not world.queue.bodies


def test_a_message_comes_again_under_the_same_id_until_it_is_taken() -> None:
    down = WebhookError("The server did not answer in time.", code="webhook_timeout")
    world = World(WebhookAnswer(status=500), down, WebhookAnswer(status=202))
    world.announce(world.batch.id)
    world.deliver_until_quiet()
    assert world.ids == ["evt_1"] * 3
    assert world.queue.delays == [5, 10]
    assert len({message.headers["webhook-timestamp"] for _, message in world.server.sent}) == 3
    assert len({message.body for _, message in world.server.sent}) == 1
    assert not world.queue.dead_letters


def test_a_server_that_asks_for_patience_is_given_it() -> None:
    world = World(WebhookAnswer(status=429, retry_after_s=77.5), WebhookAnswer(status=200))
    world.announce(world.batch.id)
    world.deliver()
    assert world.queue.delays == [78]


@pytest.mark.parametrize("status", [100, 302, 400, 404, 500, 599])
def test_what_nobody_takes_ends_in_the_dead_letter_queue_with_the_reason_and_can_be_sent_again(status: int) -> None:
    world = World(WebhookAnswer(status=status))
    world.announce(world.batch.id)
    world.deliver_until_quiet()
    assert len(world.server.sent) == ATTEMPTS
    [reason] = world.reasons.of_queue("webhooks", limit=9)
    assert (reason.code, reason.subject) == ("webhook_refused", world.batch.id)
    assert reason.message == f"The server answered with HTTP {status}."
    assert len(world.queue.dead_letters) == 1
    world.server.answers = [WebhookAnswer(status=200)]
    world.queue.redrive()
    world.deliver_until_quiet()
    assert set(world.ids) == {"evt_1"}
    assert len(world.server.sent) == ATTEMPTS + 1


def test_a_server_that_is_gone_is_left_alone_at_once() -> None:
    world = World(WebhookAnswer(status=410))
    world.announce(world.batch.id)
    world.deliver_until_quiet()
    assert len(world.server.sent) == 1
    assert not world.queue.dead_letters


def test_nobody_is_told_of_what_has_no_callback() -> None:
    world = World()
    world.batches.items[world.batch.id] = msgspec.structs.replace(world.batch, callback_url=None)
    for resource_id in (world.batch.id, new_id("batch"), new_id("async"), "key_1", "exec_1"):
        world.announce(resource_id)
    # An event about something of another key is nobody's.
    world.announce(world.job.id, key_id="key_2")
    world.deliver_until_quiet()
    assert world.server.sent == []
    assert not world.queue.dead_letters


def test_nobody_is_told_without_a_signature() -> None:
    world = World()
    world.secrets.delete("key_1")
    world.announce(world.batch.id)
    world.deliver_until_quiet()
    assert world.server.sent == []


def test_nobody_is_told_for_a_key_that_was_revoked() -> None:
    world = World()
    world.keys.stored["hash-1"] = msgspec.structs.replace(KEY, revoked_at=NOW - 1)
    world.announce(world.batch.id)
    world.deliver_until_quiet()
    assert world.server.sent == []


def test_a_key_that_is_not_seen_for_a_moment_is_told_all_the_same() -> None:
    world = World()
    world.keys.unseen = {"hash-1"}
    world.announce(world.batch.id)
    world.deliver()
    assert world.server.sent == []
    world.keys.unseen.clear()
    world.deliver_until_quiet()
    assert world.ids == ["evt_1"]


def test_a_table_that_is_away_is_waited_for() -> None:
    world = World()
    world.secrets.failing = StateError("down")
    world.announce(world.batch.id)
    world.deliver()
    assert world.server.sent == []
    world.secrets.failing = None
    world.deliver_until_quiet()
    assert world.ids == ["evt_1"]


def test_what_is_no_event_ends_in_the_dead_letter_queue() -> None:
    world = World()
    world.queue.put(b'{"detail": {"id": "evt_1"}}')
    world.deliver_until_quiet()
    assert len(world.queue.dead_letters) == 1


def test_neither_secret_nor_address_is_logged(capsys: pytest.CaptureFixture[str]) -> None:
    world = World(WebhookAnswer(status=500), WebhookError("The server cannot be reached.", code="webhook_unreachable"))
    world.announce(world.batch.id)
    world.deliver_until_quiet()
    output = capsys.readouterr()
    told = output.out + output.err + str(world.reasons.reasons)
    assert world.batch.id in told
    assert "confidential" not in told
    assert "example.com" not in told
    assert CURRENT.secret[6:] not in told
