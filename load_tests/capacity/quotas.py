"""Default quotas of an account in us-east-1, read on the day of `prices.AS_OF`, and what a load needs of each.

The two of Step Functions are from memory: the tables of their page could not be read on that day.
"""

from __future__ import annotations

from dataclasses import dataclass

from load_tests.capacity.formulae import Function, peak
from sluice.adapters.dynamodb_request_log import SHARDS

__all__ = ["CHAIN_STATES", "Quota", "quotas"]

# States that a chain of two prompts enters, as its history says: two steps and a choice after each, the mark, the
# finish, the end.
CHAIN_STATES = 7


@dataclass(frozen=True)
class Quota:
    """A default quota of an account in us-east-1 and what the load needs of it."""

    name: str
    default: float
    needed: float
    unit: str
    source: str

    @property
    def enough(self) -> bool:
        """True when nobody has to be asked."""
        return self.needed <= self.default


_LAMBDA = "https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html"
_TABLE = "https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ServiceQuotas.html"
_ON_DEMAND = "https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/on-demand-capacity-mode.html"
_STATES = "https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html"


def quotas(function: Function) -> list[Quota]:
    """What the load needs of each quota that it comes near to."""
    rate, writes = function.assumed.per_second, function.measured.write_units
    gateway = "https://docs.aws.amazon.com/apigateway/latest/developerguide/limits.html"
    partition = "https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/bp-partition-key-design.html"
    bus = "https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-quota.html"
    return [
        Quota("API Gateway: requests of the account", 10_000, peak(rate), "a second", gateway),
        Quota(
            "this stage: requests of one route (`throttling`)",
            1_000,
            peak(rate),
            "a second",
            "infra/environments/prod.tfvars",
        ),
        Quota("Lambda: concurrent executions of the account", 1_000, function.quota, "environments", _LAMBDA),
        Quota("DynamoDB: writes of one on-demand table", 40_000, rate * writes, "units a second", _TABLE),
        Quota(
            "DynamoDB: writes of a new table, before it has grown", 4_000, rate * writes, "units a second", _ON_DEMAND
        ),
        Quota("DynamoDB: request log of one key, a shard of it", 1_000, rate / SHARDS, "units a second", partition),
        Quota("EventBridge: events", 10_000, rate, "a second", bus),
        Quota("Step Functions: executions started (all requests being chains)", 300, rate, "a second", _STATES),
        Quota(
            "Step Functions: states entered (chains of two prompts)", 5_000, rate * CHAIN_STATES, "a second", _STATES
        ),
    ]
