"""What one request takes, and what follows for many: time, environments, money."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from load_tests.capacity.prices import MEGA, PRICES

__all__ = [
    "BENCH",
    "Assumptions",
    "Cost",
    "Function",
    "Measured",
    "cost",
    "in_flight",
    "kept_gb",
    "peak",
    "sampled_share",
    "units",
]

BENCH = Path(__file__).resolve().parents[1] / "results" / "bench.json"

GIGA = 10**9
SECONDS_PER_HOUR = 3600
HOURS_PER_MONTH = 730
# Lambda gives one vCPU at this memory, and in proportion below:
# https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
MB_PER_VCPU = 1769
# https://docs.aws.amazon.com/lambda/latest/dg/scaling-behavior.html: new environments of a function in 10 seconds, and
# requests a second that each environment counts for.
ENVIRONMENTS_PER_10_S = 1000
REQUESTS_PER_ENVIRONMENT = 10


@dataclass(frozen=True)
class Measured:
    """What `make bench` measured of one warm chat completion.

    `cpu_ms` is time of one whole core of that machine; with `tls` that of TLS to AWS and to the provider is in it.
    `log_bytes` are what the function itself wrote.
    """

    cpu_ms: float
    table_round_trips: float
    write_units: float
    read_units: float
    log_bytes: float
    tls: bool
    taken_at: str

    @classmethod
    def load(cls, path: Path = BENCH) -> Measured:
        """The figures that `make bench` saved. Raises OSError, ValueError or LookupError when there are none."""
        saved = json.loads(path.read_text(encoding="utf-8"))
        request = saved["sluice"]["each_request"]
        return cls(
            cpu_ms=float(saved["sluice"]["cpu_ms_per_request"]),
            table_round_trips=float(request["table_round_trips"]),
            write_units=float(request["write_units"]),
            read_units=float(request["read_units"]),
            log_bytes=float(request["log_bytes"]),
            tls=bool(saved["machine"]["tls"]),
            taken_at=str(saved["taken_at"]),
        )


@dataclass(frozen=True)
class Assumptions:
    """What was not measured on AWS, or depends on who uses it.

    Sizes of log lines, items and answers were read from the local cloud on 2026-11-21, for short prompts.
    """

    requests_per_minute: float = 50_000
    # function_memory_mb of prod.tfvars.
    memory_mb: int = 1024
    # One round trip to DynamoDB.
    table_ms: float = 5.0
    # CPU time on a Lambda vCPU for each unit on the machine of the benchmark.
    core_ratio: float = 1.0
    # Billed time of the authorizer when it knows the key; 0.2 ms of it inside its handler, as its log lines say.
    authorizer_ms: float = 5.0
    # Log lines of one request besides the function's own: Lambda's three about it 0.3 KB, the authorizer's with
    # Lambda's 1.0 KB, the access log's 0.6 KB, and 26 bytes that CloudWatch adds to each of ten.
    other_log_bytes: int = 2200
    # A request log entry, and the 100 bytes that DynamoDB adds.
    item_bytes: int = 530
    # An answer with its headers; 0.9 KB for the shortest.
    answer_bytes: int = 2000
    # request_log_ttl_days and log_retention_days of prod.tfvars.
    table_ttl_days: int = 400
    log_days: int = 365
    # Changes that one invocation of publish_events takes at this rate (its batch size), and its billed time.
    events_per_batch: int = 100
    publish_ms: float = 100.0

    @property
    def per_second(self) -> float:
        """Requests a second."""
        return self.requests_per_minute / 60


@dataclass(frozen=True)
class Function:
    """One synchronous request inside its function. `provider_s` is the wait for the model, in seconds."""

    measured: Measured
    assumed: Assumptions
    provider_s: float

    @property
    def computing_ms(self) -> float:
        """CPU time at this memory's share of a core.

        One request computes in one thread, so more than one vCPU makes nothing faster.
        """
        share = min(1.0, self.assumed.memory_mb / MB_PER_VCPU)
        return self.measured.cpu_ms * self.assumed.core_ratio / share

    @property
    def own_ms(self) -> float:
        """Sluice's own part, in milliseconds: computing, and waiting for the table."""
        return self.computing_ms + self.measured.table_round_trips * self.assumed.table_ms

    def batch_seconds(self, jobs: int) -> float:
        """Time of a worker that runs so many jobs side by side: they wait together, and compute one after the other."""
        return self.seconds + (jobs - 1) * self.computing_ms / 1e3

    @property
    def seconds(self) -> float:
        """Billed time of one request."""
        return self.provider_s + self.own_ms / 1e3

    @property
    def gb_seconds(self) -> float:
        """What Lambda bills for the time of one request, the authorizer's included."""
        return (self.seconds + self.assumed.authorizer_ms / 1e3) * self.assumed.memory_mb / 1024

    @property
    def log_bytes(self) -> float:
        """Log lines of one request, everybody's."""
        return self.measured.log_bytes + self.assumed.other_log_bytes

    @property
    def mean_environments(self) -> float:
        """Environments busy on average."""
        return in_flight(self.assumed.per_second, self.seconds)

    @property
    def quota(self) -> int:
        """Concurrency to ask for: the peaks of the function and of the authorizer, none below a tenth of its rate.

        https://docs.aws.amazon.com/lambda/latest/dg/lambda-concurrency.html: an environment counts for ten requests a
        second at most, however short they are.
        """
        rate = self.assumed.per_second
        authorizer = in_flight(rate, self.assumed.authorizer_ms / 1e3)
        return sum(
            max(peak(mean), math.ceil(rate / REQUESTS_PER_ENVIRONMENT)) for mean in (self.mean_environments, authorizer)
        )

    @property
    def ramp_s(self) -> float:
        """Seconds from nothing to all environments, at the pace at which Lambda starts them."""
        return peak(self.mean_environments) / ENVIRONMENTS_PER_10_S * 10


def in_flight(per_second: float, seconds: float) -> float:
    """Mean number in flight (Little's law)."""
    return per_second * seconds


def peak(mean: float) -> int:
    """The number in flight that is exceeded in about a thousandth of the time.

    With Poisson arrivals and nobody waiting for anybody the number in flight is Poisson itself, whatever the service
    times are (M/G/infinity), so its deviation is the root of its mean.
    """
    return math.ceil(mean + 3.09 * math.sqrt(mean))


def sampled_share(per_second: float) -> float:
    """The share of requests that X-Ray's default rule records: one a second and 5 % of the others."""
    return min(1.0, (1 + 0.05 * max(0.0, per_second - 1)) / per_second)


@dataclass(frozen=True)
class Cost:
    """What requests cost, by the name of the price, in USD: a million of them at list price, and a month of them."""

    per_million: Mapping[str, float]
    per_month: Mapping[str, float]


def units(function: Function) -> dict[str, float]:
    """Units of each price that one request takes."""
    assumed = function.assumed
    batches = 1 / assumed.events_per_batch
    return {
        "API Gateway, REST": 1,
        # The function, the authorizer, and its part of a batch that publish_events takes from the stream.
        "Lambda, requests": 2 + batches,
        "Lambda, time": function.gb_seconds + batches * assumed.publish_ms / 1e3 * assumed.memory_mb / 1024,
        "DynamoDB, writes": function.measured.write_units,
        "DynamoDB, reads": function.measured.read_units,
        "EventBridge": 1,
        "CloudWatch Logs": function.log_bytes / GIGA,
        "WAF": 1,
        "X-Ray": sampled_share(assumed.per_second),
        "Traffic out": assumed.answer_bytes / GIGA,
    }


def cost(function: Function) -> Cost:
    """The cost of a function's requests, models excepted."""
    taken = units(function)
    requests = function.assumed.per_second * SECONDS_PER_HOUR * HOURS_PER_MONTH
    return Cost(
        per_million={name: PRICES[name].first * each * MEGA for name, each in taken.items()},
        per_month={name: PRICES[name].of(each * requests) for name, each in taken.items()},
    )


def kept_gb(bytes_each: float, days: int, per_second: float) -> float:
    """GB that are kept once the oldest are deleted as fast as new ones come."""
    return bytes_each * per_second * 86_400 * days / GIGA
