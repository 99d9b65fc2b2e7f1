import json
import logging
from decimal import Decimal
from typing import Any

import pytest
from botocore.exceptions import ClientError

from sluice.domain.errors import InvalidRequestError
from sluice.telemetry import logs

CANARY = "canary-that-must-not-be-logged"


def written(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_line_is_json_with_time_level_identity_and_context(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(function="f", environment="test", level="INFO")
    logs.begin(request_id="r", trace_id=None)
    logs.bind(key_id="k")
    logs.get_logger().info("happened", amount=Decimal("1.50"), thing=object())
    [line] = written(capsys)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "happened",
        "level": "info",
        "function": "f",
        "environment": "test",
        "request_id": "r",
        "key_id": "k",
        "amount": "1.50",
        "thing": "<object>",
    }


def test_the_level_is_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(function="f", environment="test", level="WARNING")
    logs.get_logger().info("quiet")
    logs.get_logger().warning("loud")
    assert [line["event"] for line in written(capsys)] == ["loud"]
    logs.configure(function="f", environment="test", level="INFO")


def test_what_is_configured_already_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    logs.configure(function="f", environment="test", level="ERROR")
    applied: list[int] = []
    monkeypatch.setattr(logs, "_apply", applied.append)
    logs.configure(function="f", environment="test", level="ERROR")
    assert applied == []
    logs.configure(function="f", environment="test", level="INFO")
    assert applied == [logging.INFO]
    monkeypatch.undo()
    logs.configure(function="f", environment="test", level="ERROR")
    logs.configure(function="f", environment="test", level="INFO")


def test_libraries_that_log_bodies_stay_silent_at_every_level() -> None:
    logs.configure(function="f", environment="test", level="DEBUG")
    for name in ("botocore.endpoint", "botocore.parsers", "urllib3.connectionpool", "boto3"):
        assert not logging.getLogger(name).isEnabledFor(logging.INFO)
    logs.configure(function="f", environment="test", level="INFO")


def test_an_exception_is_logged_without_its_text(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise ValueError(CANARY)
    except ValueError:
        logs.get_logger().exception("failed")
    output = capsys.readouterr().out
    assert CANARY not in output
    assert json.loads(output)["error_type"] == "ValueError"


def test_an_error_of_ours_is_described_by_its_own_words() -> None:
    described = logs.describe(InvalidRequestError("'model' is required.", code="missing", param="model"))
    assert described == {
        "error_type": "InvalidRequestError",
        "error_code": "missing",
        "error_message": "'model' is required.",
        "error_param": "model",
    }


def test_an_aws_error_is_described_by_operation_and_code() -> None:
    error = RuntimeError(CANARY)
    error.__cause__ = ClientError({"Error": {"Code": "AccessDeniedException", "Message": CANARY}}, "PutItem")
    described = logs.describe(error)
    assert described["error_causes"] == ["ClientError: AccessDeniedException from PutItem"]
    assert CANARY not in json.dumps(described)


def test_canonical_fields_are_collected_and_forgotten_with_the_next_invocation() -> None:
    logs.begin()
    logs.canonical(model="auto", target=None)
    logs.canonical(status=200)
    assert logs.canonical_fields() == {"model": "auto", "status": 200}
    logs.begin()
    assert logs.canonical_fields() == {}
