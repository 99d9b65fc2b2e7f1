"""Asynchronous requests through the public API: accepted at once, done later, never lost."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tests.integration.governance import Key
from tests.integration.support import Platform, eventually, local

CONTEXT = "The ferry leaves at seven. Bicycles travel free of charge. Dogs need a lead."
SECRET_MARK = "canary-9f1c"


def submit(
    platform: Platform,
    question: str = "Do bicycles cost anything?",
    model: str = "auto",
    headers: dict[str, str] | None = None,
) -> dict[str, Any]:
    messages = [{"role": "system", "content": CONTEXT}, {"role": "user", "content": question}]
    body = {"model": model, "messages": messages}
    answer = platform.call("POST", "/async/chat/completions", body, headers=headers)
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


def test_leads_are_scored_later_by_the_megabyte(platform: Platform) -> None:
    body = {"rows": [[1.2345678] * 50 for _ in range(7000)]}
    assert len(json.dumps(body)) > 3 * 1_048_576
    answer = platform.call("POST", "/async/score", body)
    assert answer.status == 202, answer.body
    done = settled(platform, answer.body["id"], "completed", "failed")
    assert done["status"] == "completed"
    assert len(done["response"]["scores"]) == 7000


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


# ---- any route ----

FEATURES = [0.5] * 50
ROUTES: dict[str, dict[str, Any]] = {
    "/chat/completions": {"model": "auto", "messages": [{"role": "user", "content": CONTEXT}]},
    "/completions": {"model": "auto", "prompt": f"{CONTEXT} Do dogs need a lead?"},
    "/chat": {"model": "auto", "prompt": f"{CONTEXT} Do dogs need a lead?"},
    "/embeddings": {"model": "embed", "input": ["a ferry", "a bicycle"]},
    "/classify": {"model": "classify", "input": "The ferry was late.", "labels": ["praise", "complaint"]},
    "/score": {"model": "score", "features": FEATURES},
}
# What no two answers have in common, even to the same question.
VOLATILE = {"id", "created", "latency_ms"}


@pytest.mark.parametrize("route", ROUTES)
def test_the_answer_is_the_one_that_the_sync_route_gives(platform: Platform, route: str) -> None:
    sync = platform.call("POST", route, ROUTES[route])
    assert sync.status == 200, sync.body
    accepted = platform.call("POST", f"/async{route}", ROUTES[route])
    assert (accepted.status, accepted.body["endpoint"]) == (202, f"/v1{route}")
    done = settled(platform, accepted.body["id"], "completed", "failed")
    assert done["status"] == "completed", done
    told = {name: value for name, value in done["response"].items() if name not in VOLATILE}
    assert told == {name: value for name, value in sync.body.items() if name not in VOLATILE}


def test_a_text_is_summarised(platform: Platform) -> None:
    accepted = platform.call("POST", "/async/summarize", {"model": "auto", "input": f"{CONTEXT} Tickets cost a euro."})
    assert accepted.status == 202, accepted.body
    done = settled(platform, accepted.body["id"], "completed", "failed")
    assert done["response"]["summary"]
    assert platform.call("POST", "/summarize", {"model": "auto", "input": CONTEXT}).status == 404


# ---- listed, cancelled, forgotten ----


def test_a_keys_requests_are_listed_newest_first(platform: Platform) -> None:
    key = Key.new(platform)
    made = []
    for _ in range(3):
        made.append(key.served("POST", "/async/chat", {"model": "auto", "prompt": CONTEXT}).body["id"])
        time.sleep(1.1)  # those of one second are in no promised order

    def page() -> dict[str, Any] | None:
        body = key.call("GET", "/async?limit=2").body
        return dict(body) if [each["id"] for each in body["data"]] == made[:0:-1] else None

    first = eventually(page, within_s=10, what="the newest two")
    assert (first["object"], first["has_more"]) == ("list", True)
    rest = key.call("GET", f"/async?limit=2&after={first['last_id']}").body
    assert ([each["id"] for each in rest["data"]], rest["has_more"]) == (made[:1], False)
    assert not {each["id"] for each in platform.call("GET", "/async").body["data"]} & set(made)


def test_a_request_under_way_is_cancelled_and_its_answer_dropped(healthy: Platform) -> None:
    healthy.fault("extractive-v1", kind="latency", seconds=4)
    job = submit(healthy)
    settled(healthy, job["id"], "in_progress")
    headers = {"idempotency-key": f"cancel-{job['id']}"}
    cancelled, again = (healthy.call("POST", f"/async/{job['id']}/cancel", headers=headers) for _ in range(2))
    assert (cancelled.status, cancelled.body["status"]) == (200, "cancelled")
    assert (again.raw, again.headers["idempotent-replayed"]) == (cancelled.raw, "true")

    def billed() -> dict[str, Any] | None:
        body = healthy.call("GET", f"/async/{job['id']}").body
        return body if "cost_usd" in body else None

    told = eventually(billed, within_s=30, what="what the model had been asked is billed")
    assert told["status"] == "cancelled"
    assert not {"response", "error"} & told.keys()
    assert healthy.call("POST", f"/async/{job['id']}/cancel").body == told


def test_what_is_over_cannot_be_cancelled(platform: Platform) -> None:
    job = submit(platform)
    settled(platform, job["id"], "completed")
    refused = platform.call("POST", f"/async/{job['id']}/cancel")
    assert (refused.status, refused.body["error"]["code"]) == (409, "already_ended")


def test_an_answer_is_kept_for_as_long_as_was_asked(platform: Platform) -> None:
    job = submit(platform, headers={"x-sluice-result-ttl": "60"})
    done = settled(platform, job["id"], "completed")
    assert done["expires_at"] == done["completed_at"] + 60
    refused = platform.call(
        "POST", "/async/chat", {"model": "auto", "prompt": "x"}, headers={"x-sluice-result-ttl": "1"}
    )
    assert (refused.status, refused.body["error"]["param"]) == (400, "x-sluice-result-ttl")
