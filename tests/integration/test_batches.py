"""Batch mode through the public API, by the official client: files, batches, results, and every way they can end."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import urllib3
from openai import BadRequestError, NotFoundError, OpenAI
from pyarrow import parquet

from tests.integration.batches import (
    CHAT,
    EMBEDDINGS,
    answers,
    begun,
    drained,
    ended,
    errors_of,
    jsonl,
    question,
    queued,
    request,
    results,
    send,
    uploaded,
)
from tests.integration.governance import Key, dollars, micro, settled
from tests.integration.support import Platform, eventually

# OpenAI's guide to its Batch API, https://platform.openai.com/docs/guides/batch: the file of step 1 and the calls of
# steps 2 to 5, with the loop that the guide leaves to the reader.
DOCUMENTED_FILE = (
    '{"custom_id": "request-1", "method": "POST", "url": "/v1/chat/completions", "body": {"model":'
    ' "gpt-3.5-turbo-0125", "messages": [{"role": "system", "content": "You are a helpful assistant."},{"role":'
    ' "user", "content": "Hello world!"}],"max_tokens": 1000}}\n'
    '{"custom_id": "request-2", "method": "POST", "url": "/v1/chat/completions", "body": {"model":'
    ' "gpt-3.5-turbo-0125", "messages": [{"role": "system", "content": "You are an unhelpful assistant."},{"role":'
    ' "user", "content": "Hello world!"}],"max_tokens": 1000}}\n'
)
DOCUMENTED_CODE = """
import time
from openai import OpenAI
client = OpenAI()

batch_input_file = client.files.create(
    file=open("batchinput.jsonl", "rb"),
    purpose="batch"
)

batch_input_file_id = batch_input_file.id
batch = client.batches.create(
    input_file_id=batch_input_file_id,
    endpoint="/v1/chat/completions",
    completion_window="24h",
    metadata={
        "description": "nightly eval job"
    }
)

while batch.status not in ("completed", "failed", "expired", "cancelled"):
    time.sleep(1)
    batch = client.batches.retrieve(batch.id)

file_response = client.files.content(batch.output_file_id)
print(file_response.text)
"""
SMALL: dict[str, dict[str, Any]] = {
    CHAT: question(1),
    "/v1/completions": {"model": "auto", "prompt": "The harbour opens at eight. When does the harbour open?"},
    EMBEDDINGS: {"model": "embed", "input": "The harbour opens at eight."},
    "/v1/classify": {"model": "auto", "input": "My parcel is late", "labels": ["delivery", "payment"]},
    "/v1/summarize": {
        "model": "auto",
        "input": "The harbour opens at eight. Kayaks are blue. The harbour is closed in winter, when there is ice.",
    },
}


@pytest.fixture
def client(platform: Platform) -> OpenAI:
    return platform.openai()


# ---- From files to results ----


def test_the_documented_example_works_unchanged(platform: Platform, tmp_path: Path) -> None:
    (tmp_path / "batchinput.jsonl").write_text(DOCUMENTED_FILE)
    told = {name: platform.env[name] for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY")}
    ran = subprocess.run(
        [sys.executable, "-c", DOCUMENTED_CODE],
        cwd=tmp_path,
        env=os.environ | told,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    rows = [json.loads(line) for line in ran.stdout.strip().splitlines()]
    assert sorted(row["custom_id"] for row in rows) == ["request-1", "request-2"]
    assert all(row["response"]["status_code"] == 200 and row["error"] is None for row in rows)


@pytest.mark.parametrize("endpoint", SMALL)
def test_every_endpoint_answers_as_its_sync_route_does(platform: Platform, client: OpenAI, endpoint: str) -> None:
    body = SMALL[endpoint]
    content = jsonl(request(f"line-{number}", body, url=endpoint) for number in range(3))
    batch = ended(client, begun(client, content, endpoint=endpoint).id)
    assert (batch.status, batch.error_file_id) == ("completed", None)
    assert batch.request_counts is not None
    assert (batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed) == (3, 3, 0)
    rows = results(client, batch.output_file_id)
    assert sorted(rows) == ["line-0", "line-1", "line-2"]
    for row in rows.values():
        assert (row["response"]["status_code"], row["error"]) == (200, None)
    answer = rows["line-0"]["response"]["body"]
    if endpoint == "/v1/summarize":
        assert answer["summary"] in body["input"] or "harbour" in answer["summary"]
        return
    sync = platform.call("POST", endpoint.removeprefix("/v1"), body)
    varying = {"id", "created"}
    assert {k: v for k, v in answer.items() if k not in varying} == {
        k: v for k, v in sync.body.items() if k not in varying
    }


def test_scores_come_for_every_row(platform: Platform, client: OpenAI) -> None:
    body = {"model": "score", "rows": [[0.5] * 50, [0.25] * 50]}
    content = jsonl([request("leads", body, url="/v1/score")])
    batch = ended(client, begun(client, content, endpoint="/v1/score").id)
    [row] = results(client, batch.output_file_id).values()
    assert row["response"]["body"]["scores"] == platform.call("POST", "/score", body).body["scores"]


def test_a_batch_tells_where_it_stands_and_when_it_got_there(client: OpenAI) -> None:
    content = jsonl(request(f"q{number}", question(number)) for number in range(40))
    batch = client.batches.create(
        input_file_id=uploaded(client, content),
        endpoint=CHAT,
        completion_window="24h",
        metadata={"team": "harbour"},
    )
    assert (batch.status, batch.object, batch.metadata) == ("validating", "batch", {"team": "harbour"})
    assert batch.expires_at == batch.created_at + 24 * 3600
    done = ended(client, batch.id)
    moments = [done.created_at, done.in_progress_at, done.finalizing_at, done.completed_at]
    assert None not in moments
    assert moments == sorted(moment for moment in moments if moment is not None)
    assert (done.failed_at, done.expired_at, done.cancelled_at) == (None, None, None)
    found = answers(results(client, done.output_file_id))
    assert all(f"Locker {number} " in found[f"q{number}"] for number in range(40))
    assert done.usage is not None
    assert done.usage.total_tokens == done.usage.input_tokens + done.usage.output_tokens > 0


def test_lines_that_fail_are_in_the_error_file_and_the_others_are_not(client: OpenAI) -> None:
    too_long = question(1) | {"max_completion_tokens": 10_000_000}
    content = jsonl([request("good", question(7)), request("bad", too_long)])
    batch = ended(client, begun(client, content).id)
    assert batch.status == "completed"
    assert batch.request_counts is not None
    assert (batch.request_counts.completed, batch.request_counts.failed) == (1, 1)
    assert list(results(client, batch.output_file_id)) == ["good"]
    [bad] = results(client, batch.error_file_id).values()
    assert bad["custom_id"] == "bad"
    assert bad["response"]["status_code"] == 400
    assert bad["response"]["body"]["error"]["code"]


def test_files_and_batches_belong_to_their_key(platform: Platform, client: OpenAI) -> None:
    mine = begun(client, jsonl([request("one", question(1))]))
    done = ended(client, mine.id)
    assert done.output_file_id is not None
    other = platform.openai(key=Key.new(platform).secret)
    for look in (
        lambda: other.batches.retrieve(mine.id),
        lambda: other.batches.cancel(mine.id),
        lambda: other.files.retrieve(mine.input_file_id),
        lambda: other.files.content(done.output_file_id or ""),
        lambda: other.files.delete(mine.input_file_id),
        lambda: other.batches.create(input_file_id=mine.input_file_id, endpoint=CHAT, completion_window="24h"),
    ):
        with pytest.raises((NotFoundError, BadRequestError)):
            look()
    assert not list(other.batches.list())
    assert not list(other.files.list())


def test_lists_come_in_pages(platform: Platform) -> None:
    client = platform.openai(key=Key.new(platform).secret)
    made = [begun(client, jsonl([request("one", question(number))])).id for number in range(3)]
    first = client.batches.list(limit=2)
    assert first.has_more
    listed = list(client.batches.list(limit=2))
    assert sorted(batch.id for batch in listed) == sorted(made)
    assert [batch.created_at for batch in listed] == sorted((batch.created_at for batch in listed), reverse=True)
    files = {file.id for file in client.files.list(purpose="batch", limit=1)}
    assert len(files) == 3
    for batch_id in made:
        ended(client, batch_id)


def test_a_large_file_comes_in_parts_and_goes_by_a_link(platform: Platform, client: OpenAI) -> None:
    filler = "kayak " * 400
    lines = [
        request(f"q{number}", {"model": "embed-static", "input": f"{number} {filler}"}, url=EMBEDDINGS)
        for number in range(4_000)
    ]
    content = jsonl(lines)
    assert len(content) > 9_000_000
    file_id = uploaded(client, content)
    assert client.files.retrieve(file_id).bytes == len(content)
    assert client.files.content(file_id).content == content
    with pytest.raises(Exception, match=r"413|[Tt]oo large|/uploads"):
        client.files.create(file=("input.jsonl", content), purpose="batch")
    batch = client.batches.create(input_file_id=file_id, endpoint=EMBEDDINGS, completion_window="24h")
    done = ended(client, batch.id)
    assert done.status == "completed"
    assert len(results(client, done.output_file_id)) == 4_000


def test_a_file_goes_straight_to_s3_by_presigned_parts(platform: Platform, client: OpenAI) -> None:
    content = jsonl(request(f"q{number}", question(number)) for number in range(20))
    asked = {"bytes": len(content), "filename": "input.jsonl", "mime_type": "application/jsonl", "purpose": "batch"}
    upload = platform.call("POST", "/uploads", {**asked, "presigned": True}).body
    [part] = upload["part_urls"]
    put = urllib3.request("PUT", part["url"], body=content, retries=False)
    assert put.status == 200, put.data
    done = platform.call("POST", f"/uploads/{upload['id']}/complete", {"part_ids": []}).body
    assert done["status"] == "completed", done
    assert client.files.content(done["file"]["id"]).content == content
    again = urllib3.request("PUT", part["url"], body=b"something else", retries=False)
    assert client.files.content(done["file"]["id"]).content == content, again.status


def test_vectors_come_as_one_parquet_file(client: OpenAI) -> None:
    texts = {f"q{number}": f"Kayak {number} left pier {number % 97}." for number in range(3_000)}
    lines = [
        request(custom_id, {"model": "embed-static", "input": text}, url=EMBEDDINGS)
        for custom_id, text in texts.items()
    ]
    done = ended(client, begun(client, jsonl(lines), endpoint=EMBEDDINGS, output_format="parquet").id)
    assert done.status == "completed"
    assert done.output_file_id is not None
    rows = parquet.read_table(io.BytesIO(client.files.content(done.output_file_id).content)).to_pylist()
    assert sorted(row["custom_id"] for row in rows) == sorted(texts)
    found = {row["custom_id"]: row["embedding"] for row in rows}
    some = [f"q{number}" for number in (0, 1_499, 2_999)]
    told = client.embeddings.create(model="embed-static", input=[texts[custom_id] for custom_id in some]).data
    for custom_id, one in zip(some, told, strict=True):
        assert found[custom_id] == pytest.approx(one.embedding, abs=1e-6)


# ---- Input that is not as it should be ----


def test_a_file_of_only_bad_lines_says_what_is_wrong_with_each(client: OpenAI) -> None:
    rows = [
        b"not json",
        b'{"method": "POST", "url": "/v1/chat/completions", "body": {"model": "auto", "messages": []}}',
        json.dumps(request("a", question(1), url="/v1/embeddings")).encode(),
        json.dumps(request("b", question(1), method="GET")).encode(),
        json.dumps(request("c", question(1, model="nobody/knows"))).encode(),
        json.dumps(request("c", question(1))).encode(),
        json.dumps(request("d", {"model": "auto", "messages": "x"})).encode(),
    ]
    batch = ended(client, begun(client, b"\n".join(rows) + b"\n").id)
    assert batch.status == "failed"
    assert batch.failed_at is not None
    found = errors_of(batch)
    assert [line for _, line in found] == [1, 2, 3, 4, 5, 6, 7]
    assert (batch.output_file_id, batch.error_file_id) == (None, None)
    assert batch.errors is not None
    assert all(error.message for error in batch.errors.data or ())
    by_line = {line: code for code, line in found}
    assert (by_line[1], by_line[6]) == ("invalid_json_line", "duplicate_custom_id")


def test_an_empty_file_fails_and_says_so(client: OpenAI) -> None:
    batch = ended(client, begun(client, b"\n").id)
    assert batch.status == "failed"
    assert errors_of(batch) == [("empty_file", None)]


@pytest.mark.parametrize("shape", ["no-final-newline", "crlf", "bom", "blank-lines"])
def test_what_editors_do_to_files_does_no_harm(client: OpenAI, shape: str) -> None:
    content = jsonl(request(f"q{number}", question(number)) for number in range(3))
    shaped = {
        "no-final-newline": content.rstrip(b"\n"),
        "crlf": content.replace(b"\n", b"\r\n"),
        "bom": b"\xef\xbb\xbf" + content,
        "blank-lines": b"\n" + content.replace(b"\n", b"\n\n"),
    }[shape]
    batch = ended(client, begun(client, shaped).id)
    assert batch.status == "completed"
    assert sorted(results(client, batch.output_file_id)) == ["q0", "q1", "q2"]


def test_a_line_of_6_mb_is_refused_with_its_number(client: OpenAI) -> None:
    huge = request("huge", question(1) | {"user": "x" * 6_291_456})
    batch = ended(client, begun(client, jsonl([request("fine", question(1)), huge])).id)
    assert batch.status == "failed"
    assert errors_of(batch) == [("line_too_long", 2)]


def test_an_input_that_is_deleted_while_it_is_worked_on_ends_the_batch(healthy: Platform, client: OpenAI) -> None:
    healthy.fault("extractive-v1", kind="latency", seconds=0.5)
    content = jsonl(request(f"q{number}", question(number)) for number in range(3_000))
    batch = begun(client, content)
    eventually(
        lambda: client.batches.retrieve(batch.id).status == "in_progress" or None,
        within_s=60,
        what="it is in progress",
    )
    client.files.delete(batch.input_file_id)
    done = ended(client, batch.id, within_s=180)
    assert done.status == "failed"
    assert ("input_file_gone", None) in errors_of(done)
    assert done.request_counts is not None
    assert len(results(client, done.output_file_id)) == done.request_counts.completed < 3_000


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"endpoint": "/v1/images/generations"}, "endpoint"),
        ({"completion_window": "25h"}, "completion_window"),
        ({"input_file_id": "file_00000000000000000000000000000000"}, "input_file_id"),
        ({"metadata": {"k" * 65: "v"}}, "metadata"),
        ({"callback_url": "http://127.0.0.1:1/hook"}, "callback_url"),
    ],
)
def test_a_batch_that_cannot_be_is_refused_at_once(
    platform: Platform, client: OpenAI, wrong: dict[str, Any], param: str
) -> None:
    file_id = uploaded(client, jsonl([request("one", question(1))]))
    body = {"input_file_id": file_id, "endpoint": CHAT, "completion_window": "24h"} | wrong
    answer = platform.call("POST", "/batches", body)
    assert answer.status in (400, 404), answer.body
    assert answer.body["error"]["param"].startswith(param)


# ---- Ending early ----


def test_cancelling_stops_within_seconds_and_keeps_what_is_done(healthy: Platform, client: OpenAI) -> None:
    healthy.fault("extractive-v1", kind="latency", seconds=0.3)
    batch = begun(client, jsonl(request(f"q{number}", question(number)) for number in range(3_000)))

    def under_way() -> bool | None:
        now = client.batches.retrieve(batch.id)
        return bool(now.request_counts and now.request_counts.completed) or None

    eventually(under_way, within_s=120, what="some lines are done")
    asked = time.monotonic()
    assert client.batches.cancel(batch.id).status == "cancelling"
    done = ended(client, batch.id, within_s=60)
    assert (done.status, time.monotonic() - asked < 30) == ("cancelled", True)
    assert done.cancelling_at is not None
    assert done.cancelled_at is not None
    assert done.request_counts is not None
    assert 0 < done.request_counts.completed < 3_000
    rows = results(client, done.output_file_id)
    assert len(rows) == done.request_counts.completed
    assert all(f"Locker {custom_id[1:]} " in text for custom_id, text in answers(rows).items())
    assert client.batches.cancel(batch.id).status == "cancelled"


def test_a_batch_whose_time_is_over_answers_every_line_all_the_same(healthy: Platform, client: OpenAI) -> None:
    healthy.fault("extractive-v1", kind="latency", seconds=2)
    batch = begun(client, jsonl(request(f"q{number}", question(number)) for number in range(4_000)), window="1m")
    done = ended(client, batch.id, within_s=240)
    assert done.status == "expired"
    assert done.expired_at is not None
    assert done.request_counts is not None
    finished, unfinished = results(client, done.output_file_id), results(client, done.error_file_id)
    assert len(finished) == done.request_counts.completed
    assert sorted([*finished, *unfinished]) == sorted(f"q{number}" for number in range(4_000))
    assert {row["error"]["code"] for row in unfinished.values()} == {"batch_expired"}


# ---- Money ----


def test_a_batch_holds_its_money_and_gives_back_what_it_does_not_use(healthy: Platform) -> None:
    key = Key.new(healthy, total_budget_usd="1")
    client = healthy.openai(key=key.secret)
    healthy.fault("extractive-v1", kind="latency", seconds=1)
    model = "openai/extractive-v1"
    batch = begun(client, jsonl(request(f"q{number}", question(number, model=model)) for number in range(200)))
    held = eventually(lambda: micro(key.usage()["reserved_usd"]) or None, within_s=60, what="money is held")
    healthy.end_faults()
    done = ended(client, batch.id)
    assert done.status == "completed"
    usage = settled(key, within_s=30)
    spent = micro(usage["cost_usd"])
    assert 0 < spent < held
    # $0.0175 and $0.07 for a million tokens: the price class of work in batches.
    expected = sum(
        (
            Decimal("0.0175") * row["response"]["body"]["usage"]["prompt_tokens"]
            + Decimal("0.07") * row["response"]["body"]["usage"]["completion_tokens"]
            for row in results(client, done.output_file_id).values()
        ),
        Decimal(0),
    )
    assert spent == expected == key.logged_cost()
    assert usage["requests"] == 200


def test_a_batch_that_the_budget_does_not_hold_never_starts(platform: Platform) -> None:
    key = Key.new(platform, total_budget_usd=dollars(Decimal(10)))
    client = platform.openai(key=key.secret)
    batch = ended(client, begun(client, jsonl(request(f"q{n}", question(n)) for n in range(200))).id)
    assert batch.status == "failed"
    assert errors_of(batch) == [("insufficient_quota", None)]
    usage = key.usage()
    assert micro(usage["reserved_usd"]) == micro(usage["cost_usd"]) == 0


# ---- Messages that come again ----


def test_redelivery_of_any_message_changes_nothing(platform: Platform, client: OpenAI) -> None:
    key = Key.new(platform)
    client = platform.openai(key=key.secret)
    batch = begun(client, jsonl(request(f"q{number}", question(number)) for number in range(60)))
    done = ended(client, batch.id)
    before = (done, platform.items(f"BATCH#{batch.id}"), key.logged_cost(), len(key.log()))
    chunks = [int(item["sk"]["S"].removeprefix("CHUNK#")) for item in before[1] if item["sk"]["S"] != "META"]
    assert chunks
    queues = ("batches_queue", "chunks_queue", "assembly_queue")
    for queue in queues:
        drained(platform, queue, in_flight=False)
    # What a killed worker had in hand is in flight until its visibility timeout ends, which is longer than any test.
    depths = {queue: queued(platform, queue) for queue in queues}
    for _ in range(2):
        send(platform, "batches", [{"batch_id": batch.id, "version": 1}])
        send(platform, "chunks", [{"batch_id": batch.id, "chunk": chunk, "version": 1} for chunk in chunks])
        send(platform, "assembly", [{"batch_id": batch.id, "version": 1, "watch": watch} for watch in (False, True)])
    for queue, depth in depths.items():
        drained(platform, queue, to=depth)
    after = (client.batches.retrieve(batch.id), platform.items(f"BATCH#{batch.id}"), key.logged_cost(), len(key.log()))
    assert after == before
    assert len(results(client, done.output_file_id)) == 60


# ---- Beside other traffic ----


def test_a_throttled_batch_waits_and_whoever_waits_for_an_answer_does_not(healthy: Platform, client: OpenAI) -> None:
    target = "openai/extractive-v1"
    healthy.fault("extractive-v1", kind="throttle", retry_after=10, times=30, protocol="openai")
    batch = begun(client, jsonl(request(f"q{n}", question(n, model=target)) for n in range(200)))

    def paused() -> bool | None:
        pace = healthy.items(f"PACE#{target}")
        return bool(pace and float(pace[0]["paused_until"]["N"]) > time.time() + 3) or None

    eventually(paused, within_s=60, every_s=0.1, what="the batch leaves the provider alone")
    healthy.end_faults()
    asked = time.monotonic()
    answer = healthy.call("POST", "/chat/completions", question(9, model=target))
    assert (answer.status, answer.headers["x-sluice-attempts"]) == (200, "1")
    assert time.monotonic() - asked < 3
    assert all(item["state"]["S"] == "closed" for item in healthy.items(f"CIRCUIT#{target}"))

    done = ended(client, batch.id)
    assert done.status == "completed"
    assert done.request_counts is not None
    assert (done.request_counts.completed, done.request_counts.failed) == (200, 0)
    assert done.completed_at is not None
    assert done.completed_at - done.created_at >= 10


def test_whoever_waits_for_an_answer_gets_it_while_a_batch_takes_all_it_may(healthy: Platform, client: OpenAI) -> None:
    target = "openai/extractive-v1"
    healthy.fault("extractive-v1", kind="latency", seconds=1, protocol="openai")
    batch = begun(client, jsonl(request(f"q{n}", question(n, model=target)) for n in range(600)))

    def is_busy() -> bool | None:
        pace = healthy.items(f"PACE#{target}")
        return bool(pace and len(pace[0]["slots"]["M"]) >= 4) or None

    eventually(is_busy, within_s=60, every_s=0.1, what="as many chunks as the window has room for are at work")
    for _ in range(3):
        asked = time.monotonic()
        answer = healthy.call("POST", "/chat/completions", question(9, model=target))
        assert (answer.status, answer.headers["x-sluice-attempts"]) == (200, "1")
        assert time.monotonic() - asked < 4, "a second is the model's own"
    assert client.batches.retrieve(batch.id).status == "in_progress"
    healthy.end_faults()
    assert ended(client, batch.id).status == "completed"
