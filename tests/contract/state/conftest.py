"""A real local cloud of this folder's own, with the few resources that Sluice's state needs."""

from __future__ import annotations

import json
import socket
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from local import cloud as local_cloud
from local.instance import Instance, Ports, PortVariables
from local.processes import await_ready, launch, stop
from local.venvs import ministack_python
from sluice.adapters.dynamodb import Table

ROOT = Path(__file__).resolve().parents[3]


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in sockets]
    for server in sockets:
        server.close()
    return ports


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """MiniStack with IAM enforced, for the whole session."""
    variables = PortVariables("SLUICE_CLOUD_PORT", "SLUICE_MODELS_PORT", "SLUICE_XRAY_PORT")
    instance = Instance("state", ROOT, tmp_path_factory.mktemp("state"), Ports(*_free_ports(3)), variables)
    instance.temporary.mkdir(parents=True, exist_ok=True)
    spec = local_cloud.spec(instance, ministack_python(instance))
    await_ready(instance, spec, launch(instance, spec))
    yield instance
    stop(instance, local_cloud.NAME)


def repeating(table: Table, between: Callable[[], object] = lambda: None) -> Table:
    """The table, written to twice each time, as botocore does when the first answer was lost; ``between`` the two."""
    return Table(cast("Any", _Repeating(table._client, between)), table._name)


class _Repeating:
    """A client that makes each write twice, and calls ``between`` in between."""

    def __init__(self, client: Any, between: Callable[[], object]) -> None:
        self._client = client
        self._between = between

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._client, name)

        def twice(**arguments: Any) -> Any:
            call(**arguments)
            self._between()
            return call(**arguments)

        return twice if name in {"put_item", "update_item", "delete_item"} else call


class Aws:
    """Clients of the local cloud, and resources under names nobody else has."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._clients: dict[str, Any] = {}

    def client(self, service: str) -> Any:
        if service not in self._clients:
            self._clients[service] = local_cloud.client(self._instance, service)
        return self._clients[service]

    def table(self) -> tuple[Table, str]:
        """A table with Sluice's keys, index and stream, and the ARN of the stream."""
        name = _unique("table")
        keys = ("pk", "HASH"), ("sk", "RANGE")
        index = ("gsi1pk", "HASH"), ("gsi1sk", "RANGE")
        made = self.client("dynamodb").create_table(
            TableName=name,
            AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key, _ in (*keys, *index)],
            KeySchema=[{"AttributeName": key, "KeyType": kind} for key, kind in keys],
            GlobalSecondaryIndexes=[
                {
                    "IndexName": "gsi1",
                    "KeySchema": [{"AttributeName": key, "KeyType": kind} for key, kind in index],
                    "Projection": {"ProjectionType": "ALL"},
                }
            ],
            BillingMode="PAY_PER_REQUEST",
            StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
        )["TableDescription"]
        return Table(self.client("dynamodb"), name), made["LatestStreamArn"]

    def bucket(self) -> str:
        name = _unique("bucket")
        self.client("s3").create_bucket(Bucket=name)
        return name

    def queue(self, *, max_receive_count: int) -> tuple[str, str]:
        """The URLs of a queue and its dead-letter queue."""
        sqs = self.client("sqs")
        dead = sqs.create_queue(QueueName=_unique("dead"))["QueueUrl"]
        arn = self.queue_arn(dead)
        redrive = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": max_receive_count})
        queue = sqs.create_queue(QueueName=_unique("queue"), Attributes={"RedrivePolicy": redrive})["QueueUrl"]
        return queue, dead

    def queue_arn(self, url: str) -> str:
        answer = self.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        return str(answer["Attributes"]["QueueArn"])

    def state_machine(self) -> str:
        """A state machine that waits until it is stopped, or for as long as its timeout."""
        trust = {
            "Version": "2012-10-17",
            "Statement": [
                {"Effect": "Allow", "Principal": {"Service": "states.amazonaws.com"}, "Action": "sts:AssumeRole"}
            ],
        }
        name = _unique("machine")
        role = self.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
        definition = {
            "StartAt": "Which",
            "States": {
                "Which": {
                    "Type": "Choice",
                    "Choices": [{"Variable": "$.step_count", "NumericEquals": 1, "Next": "Done"}],
                    "Default": "Waits",
                },
                "Waits": {"Type": "Wait", "Seconds": 600, "End": True},
                "Done": {"Type": "Succeed"},
            },
        }
        machine = self.client("stepfunctions").create_state_machine(
            name=name, definition=json.dumps(definition), roleArn=role
        )
        return str(machine["stateMachineArn"])

    def bus(self) -> tuple[str, str]:
        """The name of an event bus, and the URL of a queue that receives everything published on it."""
        events, sqs = self.client("events"), self.client("sqs")
        name = _unique("bus")
        events.create_event_bus(Name=name)
        queue = sqs.create_queue(QueueName=_unique("subscriber"))["QueueUrl"]
        pattern = json.dumps({"source": ["sluice"]})
        rule = events.put_rule(Name=name, EventBusName=name, EventPattern=pattern)["RuleArn"]
        arn = self.queue_arn(queue)
        statement = {
            "Effect": "Allow",
            "Principal": {"Service": "events.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": arn,
            "Condition": {"ArnEquals": {"aws:SourceArn": rule}},
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": policy})
        events.put_targets(Rule=name, EventBusName=name, Targets=[{"Id": "queue", "Arn": arn}])
        return name, queue


def _unique(kind: str) -> str:
    return f"{kind}-{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def aws(cloud: Instance) -> Aws:
    return Aws(cloud)
