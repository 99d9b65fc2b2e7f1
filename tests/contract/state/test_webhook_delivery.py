"""From an event on a real bus, through a real queue, to a caller's server: signed, repeated, once per event id."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec
import pytest
from openai import OpenAI

from sluice.adapters.dynamodb_batches import DynamoDBBatches
from sluice.adapters.dynamodb_dead_letters import DynamoDBDeadLetterReasons
from sluice.adapters.dynamodb_jobs import DynamoDBJobs
from sluice.adapters.dynamodb_webhooks import DynamoDBWebhookSecrets
from sluice.adapters.eventbridge import EventBridge
from sluice.adapters.https_webhooks import HttpsWebhooks
from sluice.adapters.sqs_queue import SqsQueue
from sluice.domain.deadline import Deadline
from sluice.domain.deliveries import QueueName
from sluice.domain.events import SCHEMA_VERSION, EventV1
from sluice.domain.ids import new_id
from sluice.domain.inference import Caller, Mode
from sluice.domain.jobs import AsyncJob, JobStatus
from sluice.domain.keys import ApiKey
from sluice.domain.webhooks import WebhookPointer
from sluice.services.consume import Consumer
from sluice.services.deliver_webhook import DeliverWebhook
from sluice.services.key_holders import KeyHolders
from sluice.services.webhook_secrets import ManageWebhookSecrets
from sluice.testing.keys import FakeKeys
from sluice.wire.records import deliveries
from sluice.wire.webhooks import signed
from tests.contract.state.conftest import Aws

ATTEMPTS = 3


@dataclass
class Receiver:
    """A caller's server, which answers with ``statuses`` in turn, then with 204."""

    statuses: list[int] = field(default_factory=list)
    received: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    told = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            told.received.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(told.statuses.pop(0) if told.statuses else 204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    told.url = f"http://127.0.0.1:{server.server_port}/hook"
    yield told
    server.shutdown()
    server.server_close()


class World:
    """One key with a secret, one job of it that wants to be told of, and the sender, on real services."""

    def __init__(self, aws: Aws, receiver: Receiver) -> None:
        table, _ = aws.table()
        bus_name, self.queue_url = aws.bus()
        self.bus = EventBridge(aws.client("events"), bus_name)
        self.sqs = aws.client("sqs")
        self.key_id = new_id("key")
        self.jobs = DynamoDBJobs(table)
        self.reasons = DynamoDBDeadLetterReasons(table)
        secrets = DynamoDBWebhookSecrets(table)
        self.secret = ManageWebhookSecrets(secrets).rotate(Caller(key_id=self.key_id, request_id="r")).current.secret
        self.job = self._job(receiver.url)
        key = ApiKey(id=self.key_id, key_hash="h", name="tests", prefix="p", created_at=1)
        self.service = DeliverWebhook(
            consumer=Consumer(
                queue=SqsQueue[WebhookPointer](self.sqs, self.queue_url),
                reasons=self.reasons,
                queue_name=QueueName.WEBHOOKS,
                max_receive_count=ATTEMPTS,
                retry_base_s=0.01,
                jitter=lambda _, __: 0,
            ),
            batches=DynamoDBBatches(table),
            jobs=self.jobs,
            holders=KeyHolders(FakeKeys(key)),
            secrets=secrets,
            sender=HttpsWebhooks(allow_private=True, context=ssl.create_default_context()),
            sign=signed,
            timeout_s=5,
        )

    def _job(self, url: str) -> AsyncJob:
        now = int(time.time())
        job = AsyncJob(
            id=new_id("async"),
            key_id=self.key_id,
            endpoint="/v1/chat",
            model="auto",
            status=JobStatus.QUEUED,
            created_at=now,
            updated_at=now,
            expires_at=now + 999,
            request_key="x",
            callback_url=url,
        )
        self.jobs.create(job)
        return job

    def publish(self) -> EventV1:
        event = EventV1(
            schema_version=SCHEMA_VERSION,
            id=new_id("evt"),
            type="sluice.async.completed",
            time="2026-11-21T00:00:00.000Z",
            environment="test",
            key_id=self.key_id,
            mode=Mode.ASYNC,
            resource_id=self.job.id,
            status="completed",
        )
        assert self.bus.publish([event]) == []
        return event

    def deliver(self) -> int:
        """One invocation with what the queue hands out within some seconds; how many messages were kept."""
        until = time.monotonic() + 10
        while time.monotonic() < until:
            answer = self.sqs.receive_message(
                QueueUrl=self.queue_url,
                WaitTimeSeconds=1,
                MaxNumberOfMessages=10,
                MessageSystemAttributeNames=["ApproximateReceiveCount"],
            )
            if messages := answer.get("Messages", []):
                return self._deliver(messages)
        raise AssertionError("no message came")

    def _deliver(self, messages: list[dict[str, Any]]) -> int:
        records = [
            {
                "messageId": message["MessageId"],
                "receiptHandle": message["ReceiptHandle"],
                "body": message["Body"],
                "attributes": message["Attributes"],
            }
            for message in messages
        ]
        batch = deliveries({"Records": records}, msgspec.json.Decoder(WebhookPointer).decode)
        kept = self.service.run(batch, Deadline.after(30))
        for message in messages:
            if message["MessageId"] not in kept:
                self.sqs.delete_message(QueueUrl=self.queue_url, ReceiptHandle=message["ReceiptHandle"])
        return len(kept)


@pytest.fixture
def world(aws: Aws, receiver: Receiver) -> World:
    return World(aws, receiver)


def test_an_event_of_the_bus_reaches_the_server_and_the_official_client_verifies_it(
    world: World, receiver: Receiver
) -> None:
    event = world.publish()
    assert world.deliver() == 0
    [(headers, body)] = receiver.received
    told: Any = OpenAI(api_key="unused").webhooks.unwrap(body, headers, secret=world.secret)
    assert (told.id, told.type, told.data.id) == (event.id, "async.completed", world.job.id)
    assert headers["webhook-id"] == event.id


def test_it_comes_again_until_it_is_taken(world: World, receiver: Receiver) -> None:
    receiver.statuses = [500, 503]
    event = world.publish()
    assert [world.deliver() for _ in range(3)] == [1, 1, 0]
    assert [headers["webhook-id"] for headers, _ in receiver.received] == [event.id] * 3
    assert world.reasons.of_queue("webhooks", limit=9) == []


def test_what_is_never_taken_is_left_with_the_reason(world: World, receiver: Receiver) -> None:
    receiver.statuses = [404] * (ATTEMPTS + 1)
    world.publish()
    assert [world.deliver() for _ in range(ATTEMPTS)] == [1] * ATTEMPTS

    def reasons() -> list[tuple[str, str | None]]:
        return [(reason.code, reason.subject) for reason in world.reasons.of_queue("webhooks", limit=9)]

    until = time.monotonic() + 5
    while not reasons() and time.monotonic() < until:
        time.sleep(0.05)
    assert reasons() == [("webhook_refused", world.job.id)]
    # The receive after the last attempt sends nothing any more.
    assert world.deliver() == 1
    assert len(receiver.received) == ATTEMPTS
