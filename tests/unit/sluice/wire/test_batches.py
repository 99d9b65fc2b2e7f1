from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from sluice.domain.batches import Batch, BatchEndpoint, BatchError, BatchStatus, OutputFormat
from sluice.domain.errors import InvalidRequestError
from sluice.domain.inference import Usage
from sluice.wire.batches import BatchList, BatchObject, new_batch
from sluice.wire.pages import newest_first, page_limit

ASKED: dict[str, Any] = {
    "input_file_id": "file_1",
    "endpoint": "/v1/embeddings",
    "completion_window": "24h",
}
BATCH = Batch(
    id="batch_1",
    key_id="key_1",
    endpoint=BatchEndpoint.EMBEDDINGS,
    input_file_id="file_1",
    input_key="files/key_1/file_1",
    completion_window="24h",
    status=BatchStatus.FAILED,
    created_at=100,
    updated_at=100,
    expires_at=200,
    forget_at=300,
)


def asked(**changes: Any) -> bytes:
    return json.dumps(ASKED | changes).encode()


def test_what_openai_documents_is_taken() -> None:
    expiry = {"anchor": "created_at", "seconds": 3_600}
    new = new_batch(asked(metadata={"k" * 64: "v" * 512}, output_expires_after=expiry))
    assert (new.endpoint, new.input_file_id, new.window_s) == (BatchEndpoint.EMBEDDINGS, "file_1", 86_400)
    assert (new.metadata, new.output_ttl_s) == ({"k" * 64: "v" * 512}, 3_600)
    assert (new.output_format, new.callback_url) == (OutputFormat.JSONL, None)


def test_what_sluice_adds_is_taken() -> None:
    new = new_batch(asked(output_format="parquet", callback_url="https://example.com/", metadata=None))
    assert (new.output_format, new.callback_url, new.metadata) == (OutputFormat.PARQUET, "https://example.com/", None)


@pytest.mark.parametrize(("window", "seconds"), [("1m", 60), ("90m", 5_400), ("6h", 21_600), ("1440m", 86_400)])
def test_a_window_may_be_shorter(window: str, seconds: int) -> None:
    new = new_batch(asked(completion_window=window))
    assert (new.window_s, new.completion_window) == (seconds, window)


@pytest.mark.parametrize(
    "window", ["25h", "1441m", "0h", "00m", "24", "1d", "-1h", "24h\n", "٢h", "", "1.5h", "99999h"]
)
def test_any_other_window_is_refused(window: str) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        new_batch(asked(completion_window=window))
    assert raised.value.param == "completion_window"


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"endpoint": "/v1/images/generations"}, "endpoint"),
        ({"endpoint": "/v1/chat"}, "endpoint"),
        ({"metadata": {"k" * 65: "v"}}, "metadata"),
        ({"metadata": {"k": "v" * 513}}, "metadata"),
        ({"metadata": {"k": 1}}, "metadata"),
        ({"metadata": {f"k{number}": "v" for number in range(17)}}, "metadata"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 3_599}}, "output_expires_after.seconds"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 2_592_001}}, "output_expires_after.seconds"),
        ({"output_expires_after": {"anchor": "now", "seconds": 3_600}}, "output_expires_after.anchor"),
        ({"output_format": "csv"}, "output_format"),
        ({"input_file_id": 1}, "input_file_id"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        new_batch(asked(**changes))
    assert raised.value.param == param


@pytest.mark.parametrize("missing", ASKED)
def test_what_is_missing_is_named(missing: str) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        new_batch(json.dumps({name: value for name, value in ASKED.items() if name != missing}).encode())
    assert (raised.value.code, raised.value.param) == ("missing_required_parameter", missing)


def test_a_field_that_nobody_knows_is_refused_by_name() -> None:
    with pytest.raises(InvalidRequestError, match="`prority`"):
        new_batch(asked(prority="high"))


def test_a_batch_shows_every_field_of_openais() -> None:
    shown = json.loads(msgspec.json.encode(BatchObject.of(BATCH)))
    assert {name for name, value in shown.items() if value is None} >= {
        "errors", "output_file_id", "error_file_id", "in_progress_at", "completed_at", "model", "metadata",
    }  # fmt: skip
    assert shown["request_counts"] == {"total": 0, "completed": 0, "failed": 0}
    assert shown["usage"]["total_tokens"] == 0
    assert (shown["cost_usd"], shown["status"], shown["endpoint"]) == ("0", "failed", "/v1/embeddings")
    assert "key_1" not in json.dumps(shown)


def test_a_batch_shows_its_errors_counts_and_cost() -> None:
    batch = msgspec.structs.replace(
        BATCH,
        lines=3,
        completed=2,
        failed=1,
        usage=Usage(input_tokens=5, output_tokens=7, cache_read_tokens=2, reasoning_tokens=3),
        cost_micro_usd=Decimal("1.5"),
        errors=(BatchError(code="invalid_json_line", message="No.", line=2, param="body"),),
    )
    shown = json.loads(msgspec.json.encode(BatchObject.of(batch)))
    error = {"code": "invalid_json_line", "message": "No.", "line": 2, "param": "body"}
    assert shown["errors"] == {"object": "list", "data": [error]}
    assert shown["request_counts"] == {"total": 3, "completed": 2, "failed": 1}
    assert shown["usage"] == {
        "input_tokens": 5,
        "input_tokens_details": {"cached_tokens": 2},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 3},
        "total_tokens": 12,
    }
    assert shown["cost_usd"] == "0.0000015"


def test_a_list_tells_its_ends() -> None:
    other = msgspec.structs.replace(BATCH, id="batch_2")
    listed = BatchList.of([BATCH, other], has_more=True)
    assert (listed.first_id, listed.last_id, listed.has_more) == ("batch_1", "batch_2", True)
    assert BatchList.of([], has_more=False).first_id is None


@pytest.mark.parametrize(("text", "limit"), [(None, 20), ("1", 1), ("100", 100)])
def test_a_page_has_the_limit_that_is_asked_for(text: str | None, limit: int) -> None:
    assert page_limit({} if text is None else {"limit": text}) == limit


def test_a_list_may_have_limits_of_its_own() -> None:
    assert [page_limit(query, default=500, most=1_000) for query in ({}, {"limit": "1000"})] == [500, 1_000]


@pytest.mark.parametrize("text", ["0", "101", "-1", "1.0", "", "x", "9" * 5000, "²", "٣"])
def test_any_other_limit_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        page_limit({"limit": text})
    assert (raised.value.code, raised.value.param) == ("invalid_value", "limit")


def test_an_order_is_one_of_two() -> None:
    assert (newest_first({}), newest_first({"order": "desc"}), newest_first({"order": "asc"})) == (True, True, False)
    with pytest.raises(InvalidRequestError) as raised:
        newest_first({"order": "down"})
    assert raised.value.param == "order"
