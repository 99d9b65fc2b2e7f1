"""Lines of batches in OpenAI's format."""

import json
from typing import Any

import pytest

from sluice.domain.errors import InvalidRequestError
from sluice.wire.batch_lines import LONGEST_CUSTOM_ID, answered_line, read_line, result_id, unanswered_line

BATCH = "batch_" + "0" * 32
LINE: dict[str, Any] = {
    "custom_id": "request-1",
    "method": "POST",
    "url": "/v1/chat/completions",
    "body": {"model": "auto", "messages": [{"role": "user", "content": "Hello \u00fc\n"}]},
}


def test_a_line_is_read_and_its_body_left_for_its_endpoint() -> None:
    asked = read_line(json.dumps(LINE | {"unknown": [1]}).encode())
    assert (asked.custom_id, asked.method, asked.url) == ("request-1", "POST", "/v1/chat/completions")
    assert json.loads(asked.body) == LINE["body"]


@pytest.mark.parametrize(
    ("line", "code", "param"),
    [
        (b"not json", "invalid_json_line", None),
        (b"{", "invalid_json_line", None),
        (b'["a"]', "invalid_json_line", None),
        (b'"a"', "invalid_json_line", None),
        (b'{"custom_id": "\xff"}', "invalid_json_line", None),
        (json.dumps(LINE).encode() * 2, "invalid_json_line", None),
        (b"[" * 100_000, "invalid_json_line", None),
        *((json.dumps({k: v for k, v in LINE.items() if k != name}).encode(), "missing_required_parameter", name)
          for name in LINE),
        (json.dumps(LINE | {"custom_id": ""}).encode(), "invalid_value", "custom_id"),
        (json.dumps(LINE | {"custom_id": 1}).encode(), "invalid_value", "custom_id"),
        (json.dumps(LINE | {"custom_id": "x" * (LONGEST_CUSTOM_ID + 1)}).encode(), "invalid_value", "custom_id"),
        (json.dumps(LINE | {"url": None}).encode(), "invalid_value", "url"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_says_what_is_wrong(line: bytes, code: str, param: str | None) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        read_line(line)
    assert (raised.value.code, raised.value.param) == (code, param)
    assert raised.value.message


def test_an_answered_line_has_the_response_and_no_error() -> None:
    line = answered_line(
        BATCH, 7, "request-7", status_code=200, request_id="req-1", body=b'{"object":"chat.completion"}'
    )
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    assert json.loads(line) == {
        "id": result_id(BATCH, 7),
        "custom_id": "request-7",
        "response": {"status_code": 200, "request_id": "req-1", "body": {"object": "chat.completion"}},
        "error": None,
    }


def test_an_unanswered_line_has_the_error_and_no_response() -> None:
    line = unanswered_line(BATCH, 7, "a\nb", code="batch_expired", message="Too late.")
    assert line.count(b"\n") == 1
    assert json.loads(line) == {
        "id": result_id(BATCH, 7),
        "custom_id": "a\nb",
        "response": None,
        "error": {"code": "batch_expired", "message": "Too late."},
    }


def test_ids_of_results_differ_by_batch_and_line_and_never_change() -> None:
    ids = {result_id(batch, line) for batch in (BATCH, BATCH[:-1] + "1") for line in range(100)}
    assert len(ids) == 200
    assert result_id(BATCH, 1) == "batch_req_" + "90e3b3e40bfebf55eccdd892aaacbce7"
