"""Events on the bus, seen by subscribers: SQS queues behind an EventBridge rule of the test's own, and the topic."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from sluice.domain.ids import new_id
from tests.integration.batches import begun, jsonl, question, request
from tests.integration.support import ROOT, Platform, eventually

SCHEMA = json.loads((Path(ROOT) / "docs" / "events" / "v1.schema.json").read_text())
MESSAGES = [{"role": "user", "content": "The kettle is blue. What colour is the kettle?"}]


class Subscriber:
    """Collects what is delivered to a queue. ``seen`` is all of it so far."""

    def __init__(self, platform: Platform, queue_url: str) -> None:
        self._sqs = platform.aws("sqs")
        self._queue_url = queue_url
        self.seen: list[dict[str, Any]] = []

    def wait_for(self, resource_id: str, detail_type: str) -> dict[str, Any]:
        """The event of this type about this resource."""

        def probe() -> dict[str, Any] | None:
            answer = self._sqs.receive_message(QueueUrl=self._queue_url, MaxNumberOfMessages=10, WaitTimeSeconds=1)
            for message in answer.get("Messages", []):
                self.seen.append(json.loads(message["Body"]))
                self._sqs.delete_message(QueueUrl=self._queue_url, ReceiptHandle=message["ReceiptHandle"])
            return next(
                (
                    event
                    for event in self.seen
                    if event["detail-type"] == detail_type and event["detail"]["resource_id"] == resource_id
                ),
                None,
            )

        return eventually(probe, within_s=40, what=f"{detail_type} of {resource_id}")


def allow(platform: Platform, queue_url: str, queue_arn: str, *, service: str, source_arn: str) -> None:
    """Let an AWS service send to the queue, on behalf of this rule or topic only."""
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": service},
                "Action": "sqs:SendMessage",
                "Resource": queue_arn,
                "Condition": {"ArnEquals": {"aws:SourceArn": source_arn}},
            }
        ],
    }
    platform.aws("sqs").set_queue_attributes(QueueUrl=queue_url, Attributes={"Policy": json.dumps(policy)})


@contextmanager
def queue(platform: Platform, name: str) -> Iterator[tuple[str, str]]:
    """The URL and the ARN of a queue that is gone afterwards."""
    sqs = platform.aws("sqs")
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    yield url, sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sqs.delete_queue(QueueUrl=url)


@pytest.fixture(scope="module")
def bus(platform: Platform) -> Iterator[Subscriber]:
    """A queue that receives every Sluice event."""
    events = platform.aws("events")
    rule = {"Name": "event-subscriber", "EventBusName": platform.env["SLUICE_EVENT_BUS"]}
    rule_arn = events.put_rule(**rule, EventPattern=json.dumps({"source": ["sluice"]}))["RuleArn"]
    with queue(platform, "event-subscriber") as (url, arn):
        allow(platform, url, arn, service="events.amazonaws.com", source_arn=rule_arn)
        events.put_targets(Rule=rule["Name"], EventBusName=rule["EventBusName"], Targets=[{"Id": "queue", "Arn": arn}])
        yield Subscriber(platform, url)
        events.remove_targets(Rule=rule["Name"], EventBusName=rule["EventBusName"], Ids=["queue"])
        events.delete_rule(**rule)


@pytest.fixture(scope="module")
def topic(platform: Platform) -> Iterator[Subscriber]:
    """A queue that subscribes to the topic."""
    sns = platform.aws("sns")
    topic_arn = platform.env["SLUICE_COMPLETION_TOPIC_ARN"]
    with queue(platform, "topic-subscriber") as (url, arn):
        allow(platform, url, arn, service="sns.amazonaws.com", source_arn=topic_arn)
        raw = {"RawMessageDelivery": "true"}
        subscribed = sns.subscribe(
            TopicArn=topic_arn, Protocol="sqs", Endpoint=arn, Attributes=raw, ReturnSubscriptionArn=True
        )
        yield Subscriber(platform, url)
        sns.unsubscribe(SubscriptionArn=subscribed["SubscriptionArn"])


def chat(platform: Platform, model: str) -> str:
    request_id = f"event-{time.time_ns()}"
    platform.call(
        "POST", "/chat/completions", {"model": model, "messages": MESSAGES}, headers={"x-request-id": request_id}
    )
    return request_id


def test_a_finished_request_is_announced(platform: Platform, bus: Subscriber) -> None:
    event = bus.wait_for(chat(platform, "auto"), "sluice.inference.completed")
    jsonschema.validate(event["detail"], SCHEMA)
    assert event["source"] == "sluice"
    assert event["detail"]["mode"] == "sync"
    assert event["detail"]["target"] == "bedrock/extractive-v1"
    assert event["detail"]["usage"]["output_tokens"] > 0
    assert float(event["detail"]["cost_micro_usd"]) > 0
    assert "kettle" not in json.dumps(event)


@pytest.mark.parametrize(
    ("fault", "detail_type"),
    [
        ({"kind": "throttle"}, "sluice.inference.throttled"),
        ({"kind": "error", "status": 500}, "sluice.inference.failed"),
    ],
)
def test_a_throttled_or_failed_request_is_announced(
    healthy: Platform, bus: Subscriber, fault: dict[str, object], detail_type: str
) -> None:
    healthy.fault("extractive-v1", **fault)
    event = bus.wait_for(chat(healthy, "bedrock/extractive-v1"), detail_type)
    jsonschema.validate(event["detail"], SCHEMA)
    assert event["detail"]["error"]["code"].startswith("provider_")
    assert "cost_micro_usd" not in event["detail"]


def test_a_finished_async_request_is_announced(platform: Platform, bus: Subscriber) -> None:
    job = platform.call("POST", "/async/chat/completions", {"model": "auto", "messages": MESSAGES}).body
    event = bus.wait_for(job["id"], "sluice.async.completed")
    jsonschema.validate(event["detail"], SCHEMA)
    assert event["detail"]["mode"] == "async"


def test_the_topic_is_told_of_batches_and_async_requests_and_of_nothing_else(
    platform: Platform, bus: Subscriber, topic: Subscriber
) -> None:
    bus.wait_for(chat(platform, "auto"), "sluice.inference.completed")
    client = platform.openai()
    fine = begun(client, jsonl([request("one", question(1)), request("two", question(2))]))
    job = platform.call("POST", "/async/chat/completions", {"model": "auto", "messages": MESSAGES}).body
    broken = begun(client, b"no json\n")

    event = topic.wait_for(fine.id, "sluice.batch.completed")
    jsonschema.validate(event["detail"], SCHEMA)
    assert event["detail"]["counts"] == {"total": 2, "completed": 2, "failed": 0}
    assert event == bus.wait_for(fine.id, "sluice.batch.completed")
    jsonschema.validate(topic.wait_for(broken.id, "sluice.batch.failed")["detail"], SCHEMA)
    jsonschema.validate(topic.wait_for(job["id"], "sluice.async.completed")["detail"], SCHEMA)
    assert {event["detail-type"].rpartition(".")[0] for event in topic.seen} == {"sluice.batch", "sluice.async"}


def test_a_cancelled_async_request_is_announced(healthy: Platform, bus: Subscriber) -> None:
    healthy.fault("extractive-v1", kind="latency", seconds=2)
    job = healthy.call("POST", "/async/chat/completions", {"model": "auto", "messages": MESSAGES}).body
    assert healthy.call("POST", f"/async/{job['id']}/cancel").status == 200
    event = bus.wait_for(job["id"], "sluice.async.cancelled")
    assert (event["detail"]["status"], event["detail"]["resource_id"]) == ("cancelled", job["id"])


def test_a_finished_and_a_failed_workflow_are_announced(healthy: Platform, bus: Subscriber) -> None:
    steps = {"steps": [{"prompt": "The kettle is blue. What colour is it?", "model": "bedrock/extractive-v1"}]}
    fine = healthy.call("POST", "/workflows/chain/executions", steps).body
    jsonschema.validate(bus.wait_for(fine["id"], "sluice.workflow.completed")["detail"], SCHEMA)
    healthy.fault("extractive-v1", kind="error", status=400)
    broken = healthy.call("POST", "/workflows/chain/executions", steps).body
    event = bus.wait_for(broken["id"], "sluice.workflow.failed")
    jsonschema.validate(event["detail"], SCHEMA)
    assert event["detail"]["error"]["step"] == 0


def test_a_stopped_execution_is_announced_without_anybody_asking(healthy: Platform, bus: Subscriber) -> None:
    healthy.fault("extractive-v1", kind="hang")
    steps = {"steps": [{"prompt": "The kettle is blue. What colour is it?", "model": "bedrock/extractive-v1"}]}
    execution = healthy.call("POST", "/workflows/chain/executions", steps).body
    healthy.stop(execution["id"])
    event = bus.wait_for(execution["id"], "sluice.workflow.failed")
    jsonschema.validate(event["detail"], SCHEMA)
    assert event["detail"]["error"]["code"] == "execution_aborted"


def lost_job(platform: Platform) -> str:
    """A job as a worker leaves it that is killed on its last attempt, once its lease has run out."""
    done = platform.call("POST", "/async/chat/completions", {"model": "auto", "messages": MESSAGES}).body
    partition = f"ASYNC#{done['id']}"
    eventually(
        lambda: platform.items(partition)[0]["status"]["S"] == "completed", within_s=40, what=f"{done['id']} is done"
    )
    [item] = platform.items(partition)
    job_id = new_id("async")
    unset = {"completed_at", "response_key", "usage", "cost_micro_usd"}
    left = {name: value for name, value in item.items() if name not in unset}
    left |= {"pk": {"S": f"ASYNC#{job_id}"}, "id": {"S": job_id}, "status": {"S": "in_progress"}}
    left |= {"attempts": {"N": "5"}, "final_attempt": {"BOOL": True}, "lease_until": {"N": str(int(time.time()) - 1)}}
    platform.aws("dynamodb").put_item(TableName=platform.env["SLUICE_TABLE"], Item=left)
    return job_id


def read(platform: Platform, job_id: str) -> None:
    shown = platform.call("GET", f"/async/{job_id}").body
    assert (shown["status"], shown["error"]["code"]) == ("failed", "worker_lost")


def receive_once_more(platform: Platform, job_id: str) -> None:
    """The worker gets the message again, after as many receives as are attempts; the queue has it back afterwards."""
    record = {
        "messageId": "1",
        "receiptHandle": "none",
        "body": json.dumps({"id": job_id, "version": 1}),
        "attributes": {"ApproximateReceiveCount": "6"},
        "eventSource": "aws:sqs",
    }
    answer = platform.aws("lambda").invoke(
        FunctionName=platform.function_name("async_worker"), Payload=json.dumps({"Records": [record]})
    )
    assert json.loads(answer["Payload"].read()) == {"batchItemFailures": [{"itemIdentifier": "1"}]}


@pytest.mark.parametrize("notice", [read, receive_once_more])
def test_a_job_whose_last_worker_was_lost_is_announced(
    platform: Platform, bus: Subscriber, notice: Callable[[Platform, str], None]
) -> None:
    job_id = lost_job(platform)
    notice(platform, job_id)
    event = bus.wait_for(job_id, "sluice.async.failed")
    jsonschema.validate(event["detail"], SCHEMA)
    assert event["detail"]["error"]["code"] == "worker_lost"
