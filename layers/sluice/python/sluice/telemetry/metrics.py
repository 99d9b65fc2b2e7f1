"""Metrics by CloudWatch's Embedded Metric Format: a log line that CloudWatch turns into numbers, no API call.

Only two sets of dimensions exist, because every distinct combination of values is billed as a metric of its own:
``{Function}`` and ``{Operation, Target}``. Whatever else one wants to know by key, model or request is in the logs.
Format: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

import sys
import time
from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from sluice.telemetry import logs
from sluice.telemetry.redaction import redacted_fields

FUNCTION: Final = frozenset({"Function"})
TARGET: Final = frozenset({"Operation", "Target"})

_UNITS: Final[Mapping[str, str]] = {
    "Requests": "Count",
    "Errors": "Count",
    "Throttles": "Count",
    "LatencyMs": "Milliseconds",
    "InputTokens": "Count",
    "OutputTokens": "Count",
    "CostMicroUsd": "None",
    "LedgerWriteFailed": "Count",
}
_identity = {"namespace": "Sluice", "function": "unknown"}


def configure(*, function: str, environment: str) -> None:
    """Say whose metrics these are. The environment is in the namespace, so that two in one account stay apart."""
    _identity.update(namespace=f"Sluice/{environment}", function=function)


def emit(dimensions: Mapping[str, str] | None = None, **values: float | Decimal | None) -> None:
    """Write one metric line; without ``dimensions`` they are this function's. Values of ``None`` are left out.

    :raises ValueError: dimensions other than the two sets above, which would multiply the bill.
    """
    dimensions = {"Function": _identity["function"]} if dimensions is None else dimensions
    if dimensions.keys() not in (FUNCTION, TARGET):
        raise ValueError(f"These dimensions are not allowed: {sorted(dimensions)}.")
    # CloudWatch takes JSON numbers only. The exact cost is in the request log; here a float will do.
    numbers = {
        name: float(value) if isinstance(value, Decimal) else value
        for name, value in values.items()
        if value is not None
    }
    if numbers:
        sys.stdout.write(logs.encode(_line(dimensions, numbers)) + "\n")
        sys.stdout.flush()


def _line(dimensions: Mapping[str, str], numbers: Mapping[str, float]) -> dict[str, object]:
    return {
        "_aws": {
            "Timestamp": int(time.time() * 1000),
            "CloudWatchMetrics": [
                {
                    "Namespace": _identity["namespace"],
                    "Dimensions": [list(dimensions)],
                    "Metrics": [{"Name": name, "Unit": _UNITS.get(name, "Count")} for name in numbers],
                }
            ],
        },
        **numbers,
        **redacted_fields({**dimensions, "request_id": logs.bound("request_id")}),
    }
