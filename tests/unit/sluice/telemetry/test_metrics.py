import json
from decimal import Decimal

import pytest

from sluice.telemetry import logs, metrics


def test_a_metric_line_is_in_cloudwatchs_embedded_format(capsys: pytest.CaptureFixture[str]) -> None:
    metrics.configure(function="chat_completions", environment="test")
    logs.begin(request_id="r")
    metrics.emit({"Operation": "chat", "Target": "a/one"}, LatencyMs=12.5, CostMicroUsd=Decimal("0.665"), Errors=None)
    line = json.loads(capsys.readouterr().out)
    assert line["_aws"].pop("Timestamp") > 1_700_000_000_000
    assert line == {
        "_aws": {
            "CloudWatchMetrics": [
                {
                    "Namespace": "Sluice/test",
                    "Dimensions": [["Operation", "Target"]],
                    "Metrics": [
                        {"Name": "LatencyMs", "Unit": "Milliseconds"},
                        {"Name": "CostMicroUsd", "Unit": "None"},
                    ],
                }
            ]
        },
        "Operation": "chat",
        "Target": "a/one",
        "LatencyMs": 12.5,
        "CostMicroUsd": 0.665,
        "request_id": "r",
    }


def test_without_dimensions_a_metric_is_the_functions(capsys: pytest.CaptureFixture[str]) -> None:
    metrics.configure(function="health", environment="test")
    metrics.emit(Requests=1)
    assert json.loads(capsys.readouterr().out)["Function"] == "health"


def test_nothing_to_say_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    metrics.emit(Requests=None)
    assert capsys.readouterr().out == ""


def test_dimensions_that_would_multiply_the_bill_are_refused() -> None:
    with pytest.raises(ValueError, match="key_id"):
        metrics.emit({"key_id": "k"}, Requests=1)
