"""What a key may use, and what is held for it while it is in use. Money is micro-dollars, exact decimals.

Every request takes a *hold* before a provider is asked: one request, the most tokens and the most money that it can
come to. The hold is refused when it does not fit into what the key has left. When the request is over, the hold is
settled: what was really used is *spent*, and the rest goes back. *Committed* is spent and held together; it never
exceeds a budget, so spent never does.

Windows
-------
``rpm`` and ``tpm`` count per minute of the clock (UTC), budgets per month of the calendar (UTC) and over the key's
whole life. A request belongs to the minute and the month in which it was admitted.

Buckets
-------
Holds are added up by the time until which they live at most (:func:`bucket_of`). One that nobody settled, because its
function was killed, comes back when its bucket has expired: what the request log has of it is spent, the rest is free.
What is set aside for a batch (:class:`~sluice.domain.batches.Funds`) is committed and in no bucket: the batch's own
item says how much it is, and every change of the one is a change of the other in the same transaction.

Shards
------
A key that is to do more requests than one item of the table can take is split at its creation (:func:`shards_for`).
Each shard has an equal part of every limit, and room moves between shards, so that nothing is refused that any of them,
or all of them together, could have paid for.
"""

import math
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Final

import msgspec

SECONDS_PER_MINUTE: Final = 60
ZERO: Final = Decimal(0)

# A partition takes 1,000 write units a second, and a request writes its ledger item twice:
# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/bp-partition-key-design.html
REQUESTS_PER_SHARD_AND_MINUTE: Final = 15_000
SHARDS_WITHOUT_LIMITS: Final = 8
MOST_SHARDS: Final = 64

# A hold outlives the function that took it by this much, whatever its clock says.
HOLD_MARGIN_S: Final = 5.0
SHORT_HOLD_S: Final = 60
SHORT_BUCKET_S: Final = 30
LONG_BUCKET_S: Final = 300
# A function lives 15 minutes at most: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
LONGEST_HOLD_S: Final = 960
# A request begins before its hold is taken, by what it takes to choose its targets, and by clock it may be.
BEGUN_BEFORE_S: Final = 120


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a key may use; ``None`` is no limit. ``shards`` is how many items its ledger is spread over."""

    rpm: int | None = None
    tpm: int | None = None
    monthly_budget_micro_usd: Decimal | None = None
    total_budget_micro_usd: Decimal | None = None
    shards: int = 1

    @property
    def has_budget(self) -> bool:
        """Whether money is limited at all."""
        return self.monthly_budget_micro_usd is not None or self.total_budget_micro_usd is not None


NO_LIMITS: Final = Limits()


def shards_for(limits: Limits) -> int:
    """How many items the ledger of a new key with these limits is spread over."""
    if limits.rpm is not None:
        return min(MOST_SHARDS, math.ceil(limits.rpm / REQUESTS_PER_SHARD_AND_MINUTE))
    # Without any limit there is nothing to be exact about, and nothing that says how fast the key will be.
    return 1 if limits.tpm is not None or limits.has_budget else SHARDS_WITHOUT_LIMITS


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """The most that one request can come to.

    ``tokens`` and ``cost_micro_usd`` are of everything but the output, whose every token costs
    ``output_rate_micro_usd``. Of the output there are ``output_tokens`` at most; where less is left, the request makes
    do with less, down to ``least_output_tokens``.
    """

    tokens: int = 0
    cost_micro_usd: Decimal = ZERO
    output_tokens: int = 0
    least_output_tokens: int = 0
    output_rate_micro_usd: Decimal = ZERO
    requests: int = 1

    def tokens_with(self, output_tokens: int) -> int:
        """Tokens in all, with this much output."""
        return self.tokens + output_tokens

    def cost_with(self, output_tokens: int) -> Decimal:
        """Micro-dollars in all, with this much output."""
        return self.cost_micro_usd + output_tokens * self.output_rate_micro_usd


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How a key stands, as of one moment. ``None`` where nothing is limited. Micro-dollars and seconds.

    ``remaining_*`` is what another request could still take, never less than zero. ``spent`` and ``held`` are of the
    month; ``total_*`` of the key's whole life. ``reset_s`` is the time until the minute is over, ``month_reset_s``
    until the month is. ``requests`` and tokens are what was settled this month.
    """

    limits: Limits
    month: str
    reset_s: float
    month_reset_s: float
    remaining_requests: int | None = None
    remaining_tokens: int | None = None
    spent_micro_usd: Decimal = ZERO
    held_micro_usd: Decimal = ZERO
    total_spent_micro_usd: Decimal = ZERO
    total_held_micro_usd: Decimal = ZERO
    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    @property
    def remaining_monthly_micro_usd(self) -> Decimal | None:
        """What is left of the month's budget; ``None`` without one."""
        return _left(self.limits.monthly_budget_micro_usd, self.spent_micro_usd + self.held_micro_usd)

    @property
    def remaining_total_micro_usd(self) -> Decimal | None:
        """What is left of the budget of the key's whole life; ``None`` without one."""
        return _left(self.limits.total_budget_micro_usd, self.total_spent_micro_usd + self.total_held_micro_usd)

    @property
    def remaining_budget_micro_usd(self) -> Decimal | None:
        """What is left of the budgets: of the smaller, if there are two; ``None`` without any."""
        both = (self.remaining_monthly_micro_usd, self.remaining_total_micro_usd)
        return min((left for left in both if left is not None), default=None)


def _left(budget: Decimal | None, committed: Decimal) -> Decimal | None:
    return None if budget is None else max(budget - committed, ZERO)


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """What was reserved for one request, and where. ``output_tokens`` is how much output it may have.

    ``minute`` is minutes since 1970, ``month`` is ``yyyymm``. ``until`` (epoch seconds) is how long whoever has it may
    be at work; ``bucket`` names the holds that expire together, some time later (:func:`expiry_of`).
    """

    key_id: str
    shard: int
    minute: int
    month: str
    bucket: str
    until: float
    tokens: int
    output_tokens: int
    cost_micro_usd: Decimal
    standing: Standing

    @property
    def reference(self) -> str:
        """What the request log remembers of the hold, so that what was not settled can be found."""
        return reference_of(self.shard, self.month, self.bucket)


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """What a request really used. ``cost_micro_usd`` counts what is known of it; ``requests`` is 1 or more."""

    requests: int = 1
    input_tokens: int = 0
    output_tokens: int = 0
    cost_micro_usd: Decimal = ZERO


class Limit(StrEnum):
    """What a hold did not fit into."""

    REQUESTS = "requests"
    TOKENS = "tokens"
    MONTHLY_BUDGET = "monthly_budget"
    TOTAL_BUDGET = "total_budget"

    @property
    def is_budget(self) -> bool:
        """Whether it is about money."""
        return self in (Limit.MONTHLY_BUDGET, Limit.TOTAL_BUDGET)


def minute_of(now: float) -> int:
    """The minute of the clock, counted from 1970."""
    return int(now // SECONDS_PER_MINUTE)


def month_of(now: float) -> str:
    """The calendar month in UTC, as ``yyyymm``."""
    return f"{datetime.fromtimestamp(now, UTC):%Y%m}"


def seconds_to_next_minute(now: float) -> float:
    """Until the windows of ``rpm`` and ``tpm`` start anew."""
    return SECONDS_PER_MINUTE - now % SECONDS_PER_MINUTE


def seconds_to_next_month(now: float) -> float:
    """Until the monthly budget starts anew."""
    here = datetime.fromtimestamp(now, UTC)
    first = here.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    following = first.replace(year=here.year + here.month // 12, month=here.month % 12 + 1)
    return following.timestamp() - now


def bucket_of(now: float, until: float) -> tuple[str, int]:
    """The bucket of a hold taken ``now`` that has to live ``until`` (epoch seconds), and when the bucket expires.

    Buckets of long holds are wide, so that an item never has more than a handful of them.

    :raises ValueError: no function lives that long.
    """
    if until - now > LONGEST_HOLD_S:
        raise ValueError(f"A hold lives {LONGEST_HOLD_S} seconds at most.")
    width = SHORT_BUCKET_S if until - now <= SHORT_HOLD_S else LONG_BUCKET_S
    number = math.ceil((until + HOLD_MARGIN_S) / width)
    return f"{width}x{number}", number * width


def expiry_of(bucket: str) -> int:
    """When the bucket with this name expires, in epoch seconds."""
    width, number = bucket.split("x")
    return int(width) * int(number)


def begun_between(bucket: str) -> tuple[float, float]:
    """When the requests began whose holds are in the bucket with this name, in epoch seconds: the first, the last."""
    expiry = expiry_of(bucket)
    width = int(bucket.split("x", maxsplit=1)[0])
    longest = SHORT_HOLD_S if width == SHORT_BUCKET_S else LONGEST_HOLD_S
    return expiry - width - HOLD_MARGIN_S - longest - BEGUN_BEFORE_S, float(expiry)


def reference_of(shard: int, month: str, bucket: str) -> str:
    """What the request log remembers of the holds of a bucket."""
    return f"{shard}:{month}:{bucket}"
