"""IAM is enforced: take a permission from a function's role and the function is refused exactly there.

Each function is invoked as ``$LATEST``, an environment that no API call ever warmed, so that no cache of an earlier
call can answer in its place. The same event succeeds once the permission is back, so it was the cause.
"""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from sluice.testing.invocations import streamed_response, url_event
from tests.integration.batches import begun, ended, jsonl, request
from tests.integration.governance import containers, kill
from tests.integration.support import Platform, eventually, readable

ADMINISTRATOR = "arn:aws:iam::000000000000:user/iam-test"
CHAT = {"model": "bedrock/extractive-v1", "messages": [{"role": "user", "content": "The door is red. Which colour?"}]}
UPLOAD = {"filename": "lines.jsonl", "purpose": "batch", "bytes": 10, "mime_type": "application/jsonl"}
CHAIN = {"steps": [{"prompt": "The door is red. Which colour?", "model": "bedrock/extractive-v1"}]}


def http(platform: Platform, method: str, resource: str, body: object = None, **path: str) -> dict[str, Any]:
    """A REST API proxy event of an authorised caller, or of an administrator."""
    is_admin = resource.startswith("/v1/admin/")
    caller = {} if is_admin else {"key_id": platform.key_id, "key_name": "iam"}
    return {
        "httpMethod": method,
        "resource": resource,
        "path": resource,
        "headers": {"content-type": "application/json"},
        "pathParameters": path or None,
        "queryStringParameters": None,
        "body": None if body is None else json.dumps(body),
        "isBase64Encoded": False,
        "requestContext": {
            "requestId": uuid.uuid4().hex,
            "authorizer": caller,
            "identity": {"userArn": ADMINISTRATOR if is_admin else None},
        },
    }


def authorizer_event(platform: Platform) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {platform.key}"}
    return {"type": "REQUEST", "methodArn": "arn:aws:execute-api:us-east-1:0:api/api/GET/v1/models", "headers": headers}


def stream_request(platform: Platform) -> dict[str, Any]:
    """A request to the streaming function's URL, as it stands before the key was checked."""
    headers = {"Authorization": f"Bearer {platform.key}"}
    return url_event("POST", "/v1/chat/completions", body={**CHAT, "stream": True}, headers=headers)


def started_execution(platform: Platform) -> dict[str, Any]:
    """The state of an execution that exists, as Step Functions hands it to its tasks."""
    answer = invoke(
        platform, "workflow_start", http(platform, "POST", "/v1/workflows/{name}/executions", CHAIN, name="chain")
    )
    return {
        "execution_id": json.loads(answer["body"])["id"],
        "key_id": platform.key_id,
        "step_count": 1,
        "index": 0,
    }


def unfinished_step(platform: Platform) -> dict[str, Any]:
    """The state of a step that still has its work before it, whatever the deployed state machine did of it."""
    state = started_execution(platform)
    partition = f"EXEC#{state['execution_id']}"

    def ended() -> dict[str, Any] | None:
        items = {item["sk"]["S"]: item for item in platform.items(partition)}
        return items if items["META"]["status"]["S"] == "succeeded" else None

    items = eventually(ended, within_s=30, what="the execution succeeded")
    table = {"TableName": platform.env["SLUICE_TABLE"]}
    for sort_key, item in items.items():
        key = {"pk": item["pk"], "sk": item["sk"]}
        if sort_key.startswith("STEP#"):
            platform.aws("dynamodb").delete_item(**table, Key=key)
    platform.aws("dynamodb").update_item(
        **table,
        Key={"pk": {"S": partition}, "sk": {"S": "META"}},
        UpdateExpression="SET #status = :running",
        ExpressionAttributeNames={"#status": "status"},
        ExpressionAttributeValues={":running": {"S": "running"}},
    )
    return state


def finished_job(platform: Platform) -> str:
    """A job that the deployed worker is done with, so that nothing else works on it."""
    answer = invoke(platform, "async_submit", http(platform, "POST", "/v1/async/chat/completions", CHAT))
    job_id = str(json.loads(answer["body"])["id"])
    status = {"S": "completed"}
    eventually(
        lambda: any(item["status"] == status for item in platform.items(f"ASYNC#{job_id}")),
        within_s=30,
        what=f"{job_id} is completed",
    )
    return job_id


def sqs_event(body: object) -> dict[str, Any]:
    record = {
        "messageId": uuid.uuid4().hex,
        "receiptHandle": "none",
        "body": json.dumps(body),
        "attributes": {"ApproximateReceiveCount": "1"},
        "eventSource": "aws:sqs",
    }
    return {"Records": [record]}


def job_message(platform: Platform) -> dict[str, Any]:
    return sqs_event({"id": finished_job(platform), "version": 1})


def batch_message(platform: Platform, **pointer: object) -> dict[str, Any]:
    """A pointer to a batch that the deployed pipeline is done with."""
    client = platform.openai()
    batch = ended(client, begun(client, jsonl([request("one", CHAT)])).id)
    return sqs_event({"batch_id": batch.id, "version": 1, **pointer})


def event_message(platform: Platform) -> dict[str, Any]:
    """The end of a job, as EventBridge tells it to the queue of webhooks."""
    job_id = finished_job(platform)
    event = {
        "schema_version": "1.0",
        "id": uuid.uuid4().hex,
        "type": "sluice.async.completed",
        "time": "2026-11-21T00:00:00Z",
        "environment": "local",
        "key_id": platform.key_id,
        "mode": "async",
        "resource_id": job_id,
        "status": "completed",
        "callback": True,
    }
    return sqs_event({"id": event["id"], "source": "sluice", "detail-type": event["type"], "detail": event})


def stream_event(platform: Platform) -> dict[str, Any]:
    """A change of the table as its stream tells it: a real request log entry."""
    platform.call("POST", "/chat/completions", CHAT)
    pages = platform.aws("dynamodb").get_paginator("scan").paginate(TableName=platform.env["SLUICE_TABLE"])
    item = next(item for page in pages for item in page["Items"] if item["pk"]["S"].startswith("REQ#"))
    keys = {"pk": item["pk"], "sk": item["sk"]}
    change = {"NewImage": item, "Keys": keys, "SequenceNumber": "1", "ApproximateCreationDateTime": time.time()}
    return {"Records": [{"eventID": "1", "eventName": "INSERT", "dynamodb": change}]}


def ended_execution(platform: Platform) -> dict[str, Any]:
    """An execution that was stopped, as EventBridge tells it."""
    return {"detail": {"name": started_execution(platform)["execution_id"], "status": "ABORTED"}}


# Conditions on items are not evaluated locally: what lets a function do the same to other items goes as well.
QUERY = ("read-routes", "read-request-log")
UPDATE = ("use-ledger", "replay-responses")
EVENTS: dict[str, tuple[tuple[str, ...], Any]] = {
    "authorizer": (("read-keys",), authorizer_event),
    "chat_completions": (QUERY, lambda p: http(p, "POST", "/v1/chat/completions", CHAT)),
    "completions": (
        QUERY,
        lambda p: http(
            p, "POST", "/v1/completions", {"model": CHAT["model"], "prompt": "The door is red. Which colour?"}
        ),
    ),
    "chat_stream": (("read-keys", "cache-answers"), stream_request),
    "chat": (QUERY, lambda p: http(p, "POST", "/v1/chat", {"prompt": "The door is red. Which colour?"})),
    "classify": (QUERY, lambda p: http(p, "POST", "/v1/classify", {"input": "red", "labels": ["red", "blue"]})),
    "score": (QUERY, lambda p: http(p, "POST", "/v1/score", {"features": [1.0] * 50})),
    "embeddings": (QUERY, lambda p: http(p, "POST", "/v1/embeddings", {"model": "embed", "input": "x"})),
    "models": (("read-routes",), lambda p: http(p, "GET", "/v1/models")),
    "health": (("read-routes",), lambda p: http(p, "GET", "/v1/health")),
    "async_submit": (("send-jobs",), lambda p: http(p, "POST", "/v1/async/chat/completions", CHAT)),
    "async_worker": (("work-on-jobs", "use-ledger", "cache-answers"), job_message),
    "files": (("find-files",), lambda p: http(p, "GET", "/v1/files")),
    "uploads": (("keep-uploads", "create-files", "replay-responses"), lambda p: http(p, "POST", "/v1/uploads", UPLOAD)),
    "batches": (("find-batches",), lambda p: http(p, "GET", "/v1/batches")),
    "batch_splitter": (("split-batches", "read-files", "read-ledger"), batch_message),
    "batch_worker": (
        ("run-chunks", "read-files", "share-pace", "cache-answers"),
        lambda p: batch_message(p, chunk=0),
    ),
    "batch_assembler": (("assemble-batches",), lambda p: batch_message(p, watch=True)),
    "webhooks": (("keep-webhook-secrets",), lambda p: http(p, "GET", "/v1/webhooks/secret")),
    "webhook_sender": (("read-callbacks", "read-webhook-secrets"), event_message),
    "async_status": (("read-jobs",), lambda p: http(p, "GET", "/v1/async/{id}", id=finished_job(p))),
    "workflow_start": (
        ("start-executions",),
        lambda p: http(p, "POST", "/v1/workflows/{name}/executions", CHAIN, name="chain"),
    ),
    "workflow_run_step": (("read-workflow-objects",), unfinished_step),
    "workflow_finish": (("finish-executions",), lambda p: {**started_execution(p), "status": "succeeded"}),
    "workflow_ended": (("finish-executions",), ended_execution),
    "workflow_status": (
        ("read-executions",),
        lambda p: http(p, "GET", "/v1/workflows/executions/{id}", id=started_execution(p)["execution_id"]),
    ),
    "publish_events": (("put-events",), stream_event),
    "roll_up_usage": (("write-usage",), stream_event),
    "usage": (("use-ledger", "read-usage"), lambda p: http(p, "GET", "/v1/usage")),
    "admin_usage": (("find-usage", "find-keys"), lambda p: http(p, "GET", "/v1/admin/usage")),
    "admin_circuits": (("read-circuits",), lambda p: http(p, "GET", "/v1/admin/circuits")),
    "admin_redrive": (
        ("take-dead-letters",),
        lambda p: http(p, "POST", "/v1/admin/queues/{name}/redrive", {}, name="async"),
    ),
    "admin_dead_letters": (
        ("find-reasons",),
        lambda p: http(p, "GET", "/v1/admin/queues/{name}/dead-letters", name="async"),
    ),
    "admin_keys": (("write-keys", "record-actions"), lambda p: http(p, "POST", "/v1/admin/keys", {"name": "iam"})),
}


def invoke(platform: Platform, function: str, event: dict[str, Any]) -> dict[str, Any]:
    answer = platform.aws("lambda").invoke(FunctionName=platform.function_name(function), Payload=json.dumps(event))
    body = json.loads(answer["Payload"].read())
    if isinstance(body, str):
        return streamed_response(body)[0]
    return {"failed": True, **body} if answer.get("FunctionError") else dict(body or {})


def refused(answer: dict[str, Any]) -> bool:
    """Whether the function could not do its work."""
    return bool(
        answer.get("failed")
        or answer.get("batchItemFailures")
        or answer.get("outcome") == "failed"
        or answer.get("statusCode", 200) >= 500
    )


def test_every_function_is_covered(platform: Platform) -> None:
    deployed = {entry["FunctionName"] for entry in platform.aws("lambda").list_functions()["Functions"]}
    assert deployed == {platform.function_name(function) for function in EVENTS}


# What governance adds to functions that are there for something else.
GOVERNED = [
    ("chat_completions", UPDATE),
    ("score", UPDATE),
    ("workflow_run_step", ("use-ledger",)),
    ("workflow_run_step", ("find-keys",)),
]


@pytest.mark.parametrize(
    ("function", "policies"),
    [*((function, policies) for function, (policies, _) in EVENTS.items()), *GOVERNED],
    ids=lambda value: value if isinstance(value, str) else "+".join(value),
)
def test_without_a_permission_the_function_is_refused(
    platform: Platform, function: str, policies: tuple[str, ...]
) -> None:
    make_event = EVENTS[function][1]
    event = make_event(platform)
    # None that remembers what it was allowed to read when another permission was missing.
    kill(containers(platform, function))
    began_ms = int(time.time() * 1000) - 1000
    with without(platform, function, policies):
        denied = invoke(platform, function, event)

    assert refused(denied), denied
    assert not refused(invoke(platform, function, make_event(platform)))

    def told() -> list[str]:
        lines = platform.logs(function, containing="AccessDenied", since_ms=began_ms)
        if not lines:
            # Brings out what the local cloud still holds back of the log: see ``Platform.bring_out_logs``.
            invoke(platform, function, make_event(platform))
        return lines

    assert eventually(told, within_s=10, what=f"{function} says why it was refused")


@contextmanager
def without(platform: Platform, function: str, policies: tuple[str, ...]) -> Iterator[None]:
    """The role of the function lacks these for a moment."""
    iam = platform.aws("iam")
    config = platform.aws("lambda").get_function_configuration(FunctionName=platform.function_name(function))
    role = config["Role"].rsplit("/", 1)[-1]
    documents = {policy: iam.get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"] for policy in policies}
    for policy in documents:
        iam.delete_role_policy(RoleName=role, PolicyName=policy)
    try:
        yield
    finally:
        for policy, document in documents.items():
            iam.put_role_policy(RoleName=role, PolicyName=policy, PolicyDocument=json.dumps(document))


def test_an_unsigned_call_cannot_create_keys(platform: Platform) -> None:
    unsigned = platform.call("POST", "/admin/keys", {"name": "thief"}, key="")
    with_an_api_key = platform.call("POST", "/admin/keys", {"name": "thief"})
    for answer in (unsigned, with_an_api_key):
        # API Gateway tells an unsigned call to a guarded route and a call to no route at all by the same error.
        assert answer.status in {401, 403, 404}
        assert set(answer.body) == {"error"}


def test_an_api_key_is_stored_as_a_hash_only(platform: Platform) -> None:
    pages = platform.aws("dynamodb").get_paginator("scan").paginate(TableName=platform.env["SLUICE_TABLE"])
    everything = json.dumps([item for page in pages for item in page["Items"]], default=readable)
    assert platform.key not in everything
    assert base64.b64encode(platform.key.encode()).decode() not in everything
    for function in ("authorizer", "admin_keys"):
        assert platform.logs(function)
        assert not platform.logs(function, containing=platform.key.removeprefix("sk-sluice-"))
