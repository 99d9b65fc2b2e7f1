"""The tables of docs/capacity.md."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from load_tests.capacity.formulae import (
    SECONDS_PER_HOUR,
    Assumptions,
    Function,
    Measured,
    cost,
    in_flight,
    kept_gb,
    peak,
    units,
)
from load_tests.capacity.prices import AS_OF, LOGS_GB_MONTH, MEGA, PRICES, TABLE_GB_MONTH, TRANSITION, Price
from load_tests.capacity.quotas import CHAIN_STATES, quotas
from sluice.services.run_job import CONCURRENT_RECORDS

__all__ = ["WORKERS", "tables"]

_WAITS_S = (0.1, 1.0, 3.0)
_MEMORIES_MB = (512, 1024, 1769)
# worker_maximum_concurrency of prod.tfvars.
WORKERS = 100


def tables(measured: Measured, assumed: Assumptions) -> str:
    """The tables as Markdown."""
    functions = [Function(measured, assumed, seconds) for seconds in _WAITS_S]
    parts = [
        _measured_table(measured, assumed),
        "### Sync\n",
        _waits_table(functions),
        _memories_table(measured, assumed),
        _cost_lead(functions[1]),
        _cost_table(functions[1]),
        _kept_table(functions[1]),
        "### Batch and workflow\n",
        _later_table(measured, assumed),
        "### Quotas\n",
        _quota_table(functions[1]),
        f"Prices and quotas of {AS_OF}, us-east-1:\n",
        _price_list(),
    ]
    return "\n".join(parts)


def _cost_lead(function: Function) -> str:
    return (
        f"What a million requests cost at list price, and a month of {function.assumed.requests_per_minute:,.0f} a "
        f"minute with discounts for quantity, when the model takes {function.provider_s:g} s (models not included):\n"
    )


def _measured_table(measured: Measured, assumed: Assumptions) -> str:
    bench = f"`make bench`, {measured.taken_at[:10]}"
    rows = [
        ["CPU of one request", f"{measured.cpu_ms:.2f} ms", f"{bench}, {'with' if measured.tls else 'without'} TLS"],
        ["its round trips to the table", f"{measured.table_round_trips:g}", bench],
        ["its write and read units", f"{measured.write_units:g} and {measured.read_units:g}", bench],
        ["log lines of its function", f"{measured.log_bytes / 1e3:.1f} KB", bench],
        ["log lines of the others", f"{assumed.other_log_bytes / 1e3:.1f} KB", f"read from the local cloud, {AS_OF}"],
        ["its entry in the table", f"{assumed.item_bytes} bytes", f"read from the local cloud, {AS_OF}"],
        ["a round trip to the table", f"{assumed.table_ms:g} ms", "assumed"],
        ["billed time of the authorizer", f"{assumed.authorizer_ms:g} ms", "assumed; 0.2 ms inside its handler"],
        ["CPU of a Lambda vCPU", f"{assumed.core_ratio:g} x that of the benchmark's machine", "assumed"],
        ["an answer", f"{assumed.answer_bytes / 1e3:.1f} KB", "assumed"],
        ["memory of a function", f"{assumed.memory_mb} MB", "`infra/environments/prod.tfvars`"],
    ]
    return _markdown(["", "", "from"], rows)


def _waits_table(functions: Sequence[Function]) -> str:
    rows = [
        ["Sluice's own part", *(f"{each.own_ms:.1f} ms" for each in functions)],
        ["billed time of a request", *(f"{each.seconds:.3f} s" for each in functions)],
        ["environments busy, on average", *(f"{each.mean_environments:,.0f}" for each in functions)],
        ["the same, exceeded in 1 of 1,000 moments", *(f"{peak(each.mean_environments):,}" for each in functions)],
        ["Lambda concurrency, authorizer included", *(f"{each.quota:,}" for each in functions)],
        ["from nothing to all of it", *(f"{each.ramp_s:.0f} s" for each in functions)],
        ["USD for a million requests", *(f"{sum(cost(each).per_million.values()):.2f}" for each in functions)],
        ["USD for an hour", *(f"{_hour(each):,.0f}" for each in functions)],
        ["USD for a month without a pause", *(f"{sum(cost(each).per_month.values()):,.0f}" for each in functions)],
    ]
    rate = functions[0].assumed
    head = f"{rate.requests_per_minute:,.0f} a minute, {rate.per_second:,.0f} a second"
    return _markdown([head, *(f"model: {each.provider_s:g} s" for each in functions)], rows)


def _hour(function: Function) -> float:
    return sum(cost(function).per_million.values()) * function.assumed.per_second * SECONDS_PER_HOUR / MEGA


def _memories_table(measured: Measured, assumed: Assumptions) -> str:
    functions = [Function(measured, replace(assumed, memory_mb=memory), _WAITS_S[1]) for memory in _MEMORIES_MB]
    rows = [
        ["Sluice's own part", *(f"{each.own_ms:.1f} ms" for each in functions)],
        ["USD for a million requests", *(f"{sum(cost(each).per_million.values()):.2f}" for each in functions)],
    ]
    return _markdown(
        [f"memory, with a model that takes {_WAITS_S[1]:g} s", *(f"{memory} MB" for memory in _MEMORIES_MB)], rows
    )


def _cost_table(function: Function) -> str:
    costs, taken = cost(function), units(function)
    rows = [
        [
            name,
            f"{taken[name]:.4g} x {PRICES[name].unit}",
            f"{costs.per_million[name]:.2f}",
            f"{costs.per_month[name]:,.0f}",
        ]
        for name in PRICES
    ]
    rows.append(
        ["**all**", "", f"**{sum(costs.per_million.values()):.2f}**", f"**{sum(costs.per_month.values()):,.0f}**"]
    )
    return _markdown(["", "a request takes", "USD a million", "USD a month"], rows)


def _kept_table(function: Function) -> str:
    assumed = function.assumed
    table = kept_gb(assumed.item_bytes, assumed.table_ttl_days, assumed.per_second)
    logs = kept_gb(function.log_bytes, assumed.log_days, assumed.per_second)
    rows = [
        ["request log", f"{assumed.table_ttl_days} days", f"{table:,.0f} GB", f"{TABLE_GB_MONTH.of(table):,.0f}"],
        ["log lines", f"{assumed.log_days} days", f"{logs:,.0f} GB", f"{LOGS_GB_MONTH.of(logs):,.0f}"],
    ]
    return _markdown(["kept, without a pause", "for", "grows to", "USD a month then"], rows)


def _later_table(measured: Measured, assumed: Assumptions) -> str:
    head = [
        f"model, {assumed.requests_per_minute:,.0f} a minute",
        "workers that keep up with as many jobs",
        f"jobs a minute with {WORKERS} workers",
        "environments for as many chains of two prompts",
    ]
    rows = [_later_row(Function(measured, assumed, wait)) for wait in _WAITS_S]
    transitions = TRANSITION.first * CHAIN_STATES * MEGA
    chain = (
        f"A worker takes {CONCURRENT_RECORDS} jobs at once. A chain of two prompts enters {CHAIN_STATES} states: "
        f"{transitions:.0f} USD a million, besides its calls."
    )
    return f"{_markdown(head, rows)}\n{chain}\n"


def _later_row(function: Function) -> list[str]:
    seconds = function.batch_seconds(CONCURRENT_RECORDS)
    keep_up = in_flight(function.assumed.per_second / CONCURRENT_RECORDS, seconds)
    pace = WORKERS * CONCURRENT_RECORDS / seconds * 60
    chains = 2 * function.mean_environments
    return [f"{function.provider_s:g} s", f"{math.ceil(keep_up):,}", f"{pace:,.0f}", f"{math.ceil(chains):,}"]


def _quota_table(function: Function) -> str:
    rows = [
        [
            each.name,
            f"{each.default:,.0f}",
            f"{math.ceil(each.needed):,} {each.unit}",
            "yes" if each.enough else "**no: ask for more**",
            _link(each.source),
        ]
        for each in quotas(function)
    ]
    return _markdown(["quota", "default", f"needed, model: {function.provider_s:g} s", "enough", "source"], rows)


def _link(source: str) -> str:
    return f"[source]({source})" if source.startswith("https:") else f"`{source}`"


def _price_list() -> str:
    others = {
        "DynamoDB, kept": TABLE_GB_MONTH,
        "CloudWatch Logs, kept": LOGS_GB_MONTH,
        "Step Functions, standard": TRANSITION,
    }
    rows = [[name, price.unit, _price(price), _link(price.source)] for name, price in {**PRICES, **others}.items()]
    return _markdown(["price", "unit", "USD", "read at"], rows)


def _price(price: Price) -> str:
    scale, word = (MEGA, " a million") if price.first < 0.001 else (1, "")
    return ", then ".join(f"{usd * scale:.4g}" for _, usd in price.tiers) + word


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
