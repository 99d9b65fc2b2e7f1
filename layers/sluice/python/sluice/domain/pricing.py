"""Prices and costs, exact: decimals in, decimals out, never a float.

A price is quoted in US dollars per million tokens, which is the same number as micro-dollars per token.

What is billed
--------------
========================  ============================================================  =========================
class                     tokens                                                        rate when it has none
========================  ============================================================  =========================
plain input               input, less those read from and written to the cache
cache read                ``cache_read_tokens``                                         input
cache write               ``cache_write_tokens``, less those kept for an hour           input
cache write, one hour     ``cache_write_1h_tokens``                                     cache write, else input
plain output              output, less those spent on reasoning
reasoning                 ``reasoning_tokens``                                          output
========================  ============================================================  =========================

Every count that is part of another one is held to it, so that no token is billed twice whatever a provider reports.

What is not known
-----------------
No price, or a rate that is negative or not a number (how some price lists say "it varies"): the cost is ``None``.
Unknown is never zero. A rate that no token of the request needs does not matter.

Batches
-------
The lines of a batch are charged at the target's batch rates, for long prompts too, and at its ordinary ones where it
has none. Sluice asks the provider's ordinary service for both: the batch rates say what the operator charges for them.

The most it can be
------------------
:func:`ceiling` is what calls cost at the dearest rate that each token of theirs could be billed at. Whoever holds money
for them before they are made holds enough, whatever classes the provider will count.
"""

from collections.abc import Iterable, Sequence
from decimal import Context, Decimal, localcontext

import msgspec

from sluice.domain.inference import Usage

# Rates have a handful of digits and so have counts: far more than either needs, so nothing is ever rounded.
_EXACT = Context(prec=60)


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """What a million tokens of each class cost, in US dollars."""

    input_per_mtok: Decimal
    output_per_mtok: Decimal = Decimal(0)
    cache_read_per_mtok: Decimal | None = None
    cache_write_per_mtok: Decimal | None = None
    cache_write_1h_per_mtok: Decimal | None = None
    reasoning_per_mtok: Decimal | None = None


class Tier(Rates, frozen=True, kw_only=True):
    """The rates of a whole request whose prompt has more than ``above_input_tokens`` tokens."""

    above_input_tokens: int


class Price(Rates, frozen=True, kw_only=True):
    """The price of one target. ``version`` says which price list a stored cost was computed with.

    ``tiers`` replace the rates for long prompts; ``batch`` replaces all of them for the lines of batches, and knows no
    tiers. ``per_request_usd`` is charged once a call, on top of the tokens, in batches too.
    """

    version: str
    tiers: tuple[Tier, ...] = ()
    batch: Rates | None = None
    per_request_usd: Decimal = Decimal(0)


class Charge(msgspec.Struct, frozen=True, kw_only=True):
    """One call that a provider bills: its tokens, and what they cost by which price list (``None``: unknown)."""

    target: str
    usage: Usage
    cost_micro_usd: Decimal | None = None
    price_version: str | None = None


def charge(target: str, usage: Usage, price: Price | None, *, batch: bool = False) -> Charge:
    """What one call of ``target`` costs. The version is told even where the list knows no fixed price."""
    return Charge(
        target=target,
        usage=usage,
        cost_micro_usd=cost_micro_usd(usage, price, batch=batch),
        price_version=price.version if price else None,
    )


def cost_micro_usd(usage: Usage, price: Price | None, *, batch: bool = False) -> Decimal | None:
    """The exact cost in micro-dollars, or ``None`` when it is unknown."""
    rates = _rates(usage, price, batch=batch)
    if price is None or rates is None:
        return None
    billed = [(tokens, rate) for tokens, rate in _classes(usage, rates) if tokens]
    if not all(map(_is_fixed, (price.per_request_usd, *(rate for _, rate in billed)))):
        return None
    with localcontext(_EXACT):
        return sum((tokens * rate for tokens, rate in billed), price.per_request_usd * 1_000_000)


def _rates(usage: Usage, price: Price | None, *, batch: bool) -> Rates | None:
    if price is None:
        return None
    if batch and price.batch is not None:
        return price.batch
    reached = [tier for tier in price.tiers if usage.input_tokens > tier.above_input_tokens]
    return max(reached, key=lambda tier: tier.above_input_tokens, default=price)


def _classes(usage: Usage, rates: Rates) -> Iterable[tuple[int, Decimal]]:
    read = min(usage.cache_read_tokens, usage.input_tokens)
    written = min(usage.cache_write_tokens, usage.input_tokens - read)
    for_an_hour = min(usage.cache_write_1h_tokens, written)
    reasoning = min(usage.reasoning_tokens, usage.output_tokens)
    write_rate = _either(rates.cache_write_per_mtok, rates.input_per_mtok)
    return (
        (usage.input_tokens - read - written, rates.input_per_mtok),
        (read, _either(rates.cache_read_per_mtok, rates.input_per_mtok)),
        (written - for_an_hour, write_rate),
        (for_an_hour, _either(rates.cache_write_1h_per_mtok, write_rate)),
        (usage.output_tokens - reasoning, rates.output_per_mtok),
        (reasoning, _either(rates.reasoning_per_mtok, rates.output_per_mtok)),
    )


def _either(rate: Decimal | None, instead: Decimal) -> Decimal:
    return instead if rate is None else rate


def _is_fixed(rate: Decimal) -> bool:
    return rate.is_finite() and rate >= 0


class Ceiling(msgspec.Struct, frozen=True, kw_only=True):
    """The most that calls of one target cost, in micro-dollars: for each call, and for each token of both kinds."""

    per_call: Decimal
    per_input_token: Decimal
    per_output_token: Decimal

    def cost(self, *, calls: int, input_tokens: int, output_tokens: int) -> Decimal:
        """What so many calls with so many tokens, all of them together, come to at most."""
        with localcontext(_EXACT):
            return calls * self.per_call + input_tokens * self.per_input_token + output_tokens * self.per_output_token


def ceiling(price: Price | None, *, input_tokens: int, writes: bool, batch: bool = False) -> Ceiling | None:
    """What calls of up to ``input_tokens`` tokens cost at most; ``None`` when there is no telling.

    Of the tiers those count that so many tokens reach. ``writes`` says whether there will be output at all: the rates
    of tokens that there cannot be do not matter. ``batch`` says that they are calls for lines of a batch.
    """
    if price is None:
        return None
    lists = _lists(price, input_tokens, batch=batch)
    reads = [rate for each in lists for rate in _input_rates(each)] if input_tokens else []
    written = [rate for each in lists for rate in _output_rates(each)] if writes else []
    if not all(map(_is_fixed, (price.per_request_usd, *reads, *written))):
        return None
    with localcontext(_EXACT):
        return Ceiling(
            per_call=price.per_request_usd * 1_000_000,
            per_input_token=max(reads, default=Decimal(0)),
            per_output_token=max(written, default=Decimal(0)),
        )


def _lists(price: Price, input_tokens: int, *, batch: bool) -> Sequence[Rates]:
    """The rates by any of which a call with up to so many tokens may be charged."""
    if batch and price.batch is not None:
        return (price.batch,)
    return (price, *(tier for tier in price.tiers if input_tokens > tier.above_input_tokens))


def _input_rates(rates: Rates) -> Iterable[Decimal]:
    special = (rates.cache_read_per_mtok, rates.cache_write_per_mtok, rates.cache_write_1h_per_mtok)
    return (rates.input_per_mtok, *(rate for rate in special if rate is not None))


def _output_rates(rates: Rates) -> Iterable[Decimal]:
    return (rates.output_per_mtok, _either(rates.reasoning_per_mtok, rates.output_per_mtok))


def total_usage(charges: Sequence[Charge]) -> Usage | None:
    """The tokens of all calls together; estimated when those of any are. ``None`` when there was no call."""
    if not charges:
        return None
    usages = [one.usage for one in charges]
    return Usage(
        input_tokens=sum(usage.input_tokens for usage in usages),
        output_tokens=sum(usage.output_tokens for usage in usages),
        cache_read_tokens=sum(usage.cache_read_tokens for usage in usages),
        cache_write_tokens=sum(usage.cache_write_tokens for usage in usages),
        cache_write_1h_tokens=sum(usage.cache_write_1h_tokens for usage in usages),
        reasoning_tokens=sum(usage.reasoning_tokens for usage in usages),
        estimated=any(usage.estimated for usage in usages),
    )


def total_cost(charges: Sequence[Charge]) -> Decimal | None:
    """What all calls cost together. One that is unknown makes the whole unknown, and so does none at all."""
    costs = [one.cost_micro_usd for one in charges]
    if not costs:
        return None
    with localcontext(_EXACT):
        return None if None in costs else sum((cost for cost in costs if cost is not None), Decimal(0))


def price_versions(charges: Sequence[Charge]) -> str | None:
    """The price lists used, in order of use; joined by a comma in the rare case of several."""
    return ",".join(dict.fromkeys(one.price_version for one in charges if one.price_version)) or None
