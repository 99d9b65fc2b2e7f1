"""List prices in us-east-1, in USD, without free tiers, as they were read at their sources on the day of `AS_OF`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["AS_OF", "LOGS_GB_MONTH", "MEGA", "PRICES", "TABLE_GB_MONTH", "TRANSITION", "Price"]

AS_OF = "2026-11-21"
MEGA = 10**6


@dataclass(frozen=True)
class Price:
    """What a unit costs in us-east-1, in USD, without free tiers.

    `tiers` are pairs of an upper end (units a month) and the price of a unit up to there; the last one has no end.
    """

    unit: str
    tiers: tuple[tuple[float, float], ...]
    source: str

    def of(self, units: float) -> float:
        """USD for so many units in one month."""
        total, below = 0.0, 0.0
        for end, usd in self.tiers:
            total += max(0.0, min(units, end) - below) * usd
            below = end
        return total

    @property
    def first(self) -> float:
        """USD for a unit before any discount for quantity."""
        return self.tiers[0][1]


def _flat(unit: str, usd: float, source: str) -> Price:
    return Price(unit, ((math.inf, usd),), source)


PRICES: Mapping[str, Price] = {
    "API Gateway, REST": Price(
        "request",
        ((333e6, 3.50 / MEGA), (1e9, 2.80 / MEGA), (20e9, 2.38 / MEGA), (math.inf, 1.51 / MEGA)),
        "https://docs.aws.amazon.com/whitepapers/latest/best-practices-api-gateway-private-apis-integration/cost-optimization.html",
    ),
    "Lambda, requests": _flat("request", 0.20 / MEGA, "https://cloudchipr.com/blog/aws-lambda-pricing"),
    "Lambda, time": Price(
        "GB-second, arm64",
        ((7.5e9, 0.0000133334), (math.inf, 0.0000120001)),
        "https://cloudchipr.com/blog/aws-lambda-pricing",
    ),
    "DynamoDB, writes": _flat(
        "write unit", 0.625 / MEGA, "https://airbyte.com/data-engineering-resources/dynamodb-pricing"
    ),
    "DynamoDB, reads": _flat(
        "read unit", 0.125 / MEGA, "https://airbyte.com/data-engineering-resources/dynamodb-pricing"
    ),
    "EventBridge": _flat("event of up to 64 KB", 1.00 / MEGA, "https://cloudburn.io/blog/amazon-eventbridge-pricing"),
    "CloudWatch Logs": _flat("GB taken in", 0.50, "https://cloudburn.io/blog/amazon-cloudwatch-pricing"),
    "WAF": _flat("request", 0.60 / MEGA, "https://c3x.dev/blog/aws-waf-cost-explained"),
    "X-Ray": _flat("trace", 5.00 / MEGA, "https://aws.amazon.com/xray/pricing/"),
    "Traffic out": _flat("GB", 0.09, "https://amnic.com/blogs/aws-api-gateway-pricing"),
}
# Kept data, USD per GB and month.
TABLE_GB_MONTH = _flat("GB-month", 0.25, "https://airbyte.com/data-engineering-resources/dynamodb-pricing")
LOGS_GB_MONTH = _flat("GB-month", 0.03, "https://c3x.dev/blog/cloudwatch-logs-cost-optimization")
# A standard state machine, for each state that is entered.
TRANSITION = _flat("state entered", 25.00 / MEGA, "https://aws.amazon.com/step-functions/pricing/")
