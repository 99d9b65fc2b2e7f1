"""Batch mode through the public API: accepted at once, done later, never lost."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.integration.support import Platform, eventually, local

CONTEXT = "The ferry leaves at seven. Bicycles travel free of charge. Dogs need a lead."
SECRET_MARK = "canary-9f1c"


def submit(platform: Platform, question: str = "Do bicycles cost anything?", model: str = "auto") -> dict[str, Any]:
    messages = [{"role": "system", "content": CONTEXT}, {"role": "user", "content": question}]
    answer = platform.call("POST", "/async/chat/completions", {"model": model, "messages": messages})
    assert answer.status == 202, answer.body
    assert answer.headers["location"].endswith(f"/v1/async/{answer.body['id']}")
    return dict(answer.body)


def settled(platform: Platform, job_id: str, *statuses: str, within_s: float = 60) -> dict[str, Any]:
    def probe() -> dict[str, Any] | None:
        body = platform.call("GET", f"/async/{job_id}").body
        return body if body["status"] in statuses else None

    return eventually(probe, within_s=within_s, what=f"{job_id} in {statuses}")


def queued(platform: Platform, queue: str) -> int:
    answer = platform.aws("sqs").get_queue_attributes(
        QueueUrl=platform.env[queue],
        AttributeNames=["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"],
    )
    return sum(int(value) for value in answer["Attributes"].values())


def test_an_accepted_request_is_answered_later_with_the_whole_completion(platform: Platform) -> None:
    job = submit(platform)
    assert job["status"] == "queued"
    done = settled(platform, job["id"], "completed")
    assert "free of charge" in done["response"]["choices"][0]["message"]["content"]
    assert done["response"]["object"] == "chat.completion"
    assert done["usage"]["total_tokens"] > 0
    stored = platform.aws("s3").list_objects_v2(Bucket=platform.env["SLUICE_BUCKET"], Prefix="async/")["Contents"]
    assert any(job["id"] in entry["Key"] and entry["Key"].endswith("response.json") for entry in stored)


def test_what_the_sync_route_refuses_is_refused_before_it_is_queued(platform: Platform) -> None:
    before = queued(platform, "SLUICE_ASYNC_QUEUE_URL")
    unknown = platform.call(
        "POST", "/async/chat/completions", {"model": "nope", "messages": [{"role": "user", "content": "x"}]}
    )
    malformed = platform.call("POST", "/async/chat/completions", {"model": "auto", "messages": "x"})
    assert (unknown.status, unknown.body["error"]["code"]) == (404, "model_not_found")
    assert (malformed.status, malformed.body["error"]["param"]) == (400, "messages")
    assert queued(platform, "SLUICE_ASYNC_QUEUE_URL") == before


def test_another_keys_job_is_not_found(platform: Platform) -> None:
    job = submit(platform)
    made = local("key", "another-tenant")
    assert made.returncode == 0, made.stderr
    other = next(word for word in made.stdout.split() if word.startswith("sk-sluice-"))
    assert platform.call("GET", f"/async/{job['id']}", key=other).status == 404
    assert platform.call("GET", "/async/async_00000000000000000000000000000000").status == 404


def test_a_redelivered_message_changes_nothing(platform: Platform) -> None:
    job = submit(platform)
    done = settled(platform, job["id"], "completed")
    platform.aws("sqs").send_message(
        QueueUrl=platform.env["SLUICE_ASYNC_QUEUE_URL"], MessageBody=json.dumps({"id": job["id"], "version": 1})
    )
    eventually(lambda: queued(platform, "SLUICE_ASYNC_QUEUE_URL") == 0, within_s=30, what="the duplicate is consumed")
    assert platform.call("GET", f"/async/{job['id']}").body == done


def test_a_poisoned_message_ends_in_the_dlq_says_why_and_comes_back(healthy: Platform) -> None:
    healthy.fault("extractive-v1", kind="error", status=500)
    job = submit(healthy, question=f"Do dogs need a lead? {SECRET_MARK}")
    failed = settled(healthy, job["id"], "failed", within_s=120)
    assert failed["error"]["code"].startswith("provider_")
    assert failed["error"]["message"]
    assert failed["attempts"] == 5
    eventually(lambda: queued(healthy, "SLUICE_ASYNC_DLQ_URL") == 1, within_s=60, what="the message is in the DLQ")

    healthy.heal()
    redriven = local("redrive")
    assert redriven.returncode == 0, redriven.stderr
    assert "1" in redriven.stdout
    done = settled(healthy, job["id"], "completed")
    assert "lead" in done["response"]["choices"][0]["message"]["content"]
    assert queued(healthy, "SLUICE_ASYNC_DLQ_URL") == 0


def test_the_prompt_is_only_in_the_bucket(platform: Platform) -> None:
    job = submit(platform, question=f"Do bicycles cost anything? {SECRET_MARK}")
    settled(platform, job["id"], "completed")
    [meta] = platform.items(f"ASYNC#{job['id']}")
    assert SECRET_MARK not in json.dumps(meta)
    for function in ("async_submit", "async_worker", "async_status"):
        assert platform.logs(function)
        assert not platform.logs(function, containing=SECRET_MARK)


@pytest.mark.parametrize("body", ["not json", "{}", '{"id": "async_unknown", "version": 1}'])
def test_a_message_nobody_can_read_ends_in_the_dlq(platform: Platform, body: str) -> None:
    sqs = platform.aws("sqs")
    sqs.send_message(QueueUrl=platform.env["SLUICE_ASYNC_QUEUE_URL"], MessageBody=body)

    def arrived() -> bool:
        got = sqs.receive_message(QueueUrl=platform.env["SLUICE_ASYNC_DLQ_URL"], WaitTimeSeconds=0).get("Messages", [])
        for message in got:
            sqs.delete_message(QueueUrl=platform.env["SLUICE_ASYNC_DLQ_URL"], ReceiptHandle=message["ReceiptHandle"])
        return any(message["Body"] == body for message in got)

    eventually(arrived, within_s=90, what="the message in the DLQ")
