"""The results: a table for people, JSON for programs, a picture for readers of the documentation."""

from __future__ import annotations

import json
import os
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from load_tests.bench.figures import Cold, Gate, Memory, Times, Warm, ratio
from load_tests.bench.layout import Size
from load_tests.bench.litellm import COMPARISON
from load_tests.bench.measure import Effort, Footprint
from load_tests.bench.picture import Bar, Chart, draw

__all__ = ["BEGIN", "END", "Beside", "Results", "document", "gates", "save", "table"]

_MB = 2**20
BEGIN = "<!-- make bench writes from here -->"
END = "<!-- to here -->"
_NAMES = {
    "sluice": "Sluice, as packaged",
    "floor": "floor: bare boto3, same layer",
    "floor-plain": "floor, by pip install -t alone",
    "empty": "empty handler: the runtime",
    "sleeper": "Sluice, slowed on purpose",
}


@dataclass(frozen=True)
class Beside:
    """LiteLLM, over the same provider in the same rounds. Seconds to its start, megabytes when it had done all."""

    version: str
    direct: Warm
    proxied: Warm
    start_s: float
    rss_mb: float

    @property
    def added(self) -> Times:
        """What the proxy adds to a request: each round's median through it, less that past it."""
        pairs = zip(self.proxied.medians.rounds, self.direct.medians.rounds, strict=True)
        return Times(tuple(through - past for through, past in pairs))

    def summary(self) -> dict[str, Any]:
        """For the results file."""
        return {
            "version": self.version,
            "added": self.added.summary(),
            "direct": self.direct.summary(),
            "proxied": self.proxied.summary(),
            "start_s": round(self.start_s, 1),
            "rss_mb": round(self.rss_mb, 1),
            "what_is_compared": list(COMPARISON),
        }


@dataclass(frozen=True)
class Results:
    """Everything that was measured."""

    runtime: str
    tls: bool
    effort: Effort
    sizes: Mapping[str, Size]
    first: Footprint
    each: Footprint
    floor_each: Footprint
    cold: Mapping[str, Cold]
    warm: Mapping[str, Warm]
    memory: Memory
    beside: Beside | None = None


def gates(results: Results) -> list[Gate]:
    """What must hold."""
    warm, cold, effort = results.warm, results.cold, results.effort
    found = [
        Gate(
            "warm median, as a multiple of the floor's", ratio(warm["sluice"].medians, warm["floor"].medians), 1.5, "x"
        ),
        Gate("cold start, as a multiple of the floor's", ratio(cold["sluice"].init, cold["floor"].init), 1.5, "x"),
        Gate(
            "start to first answer, as a multiple of the floor's",
            ratio(cold["sluice"].to_answer, cold["floor"].to_answer),
            1.5,
            "x",
        ),
        Gate(
            "cold start, against the plainly packaged floor's",
            cold["sluice"].init.median,
            cold["floor-plain"].init.median,
            "ms",
        ),
        Gate(f"resident memory after {effort.memory_requests:,} requests", results.memory.last_mb, 128, "MB"),
        Gate("its growth over the second half of them", results.memory.growth_mb, 1, "MB"),
        Gate("round trips to the table for a request", results.each.table_round_trips, 3),
        Gate("write units for a request", results.each.write_units, 5),
    ]
    if "sleeper" in warm:
        usual, slower = warm["sluice"].medians, warm["sleeper"].medians
        name = f"spread of the rounds, against the gap that {effort.sleep_ms:g} ms of sleep make"
        found.append(Gate(name, max(usual.spread, slower.spread), slower.median - usual.median, "ms"))
    if results.beside:
        found.append(
            Gate(
                "warm median, against what LiteLLM adds",
                warm["sluice"].medians.median,
                results.beside.added.median,
                "ms",
            )
        )
    return found


def table(results: Results, checked: Sequence[Gate]) -> str:
    """For people."""
    sections = [
        _section(
            f"Cold starts, ms ({len(results.cold['sluice'].init_s)} processes each, in turns; spread: between the"
            " quartiles)",
            ("", "to first next", "spread", "first request", "to first answer"),
            [_cold_row(name, one) for name, one in results.cold.items()],
        ),
        _section(
            f"Warm requests, ms ({results.effort.rounds} rounds of {results.effort.requests}, in turns; spread: between"
            " the quartiles of their medians)",
            ("", "p50", "p95", "p99", "CPU", "spread"),
            [_warm_row(_NAMES.get(name, name), one) for name, one in results.warm.items()],
        ),
        _section("Per warm request", ("", "calls", "write units", "trace segments", "bytes of log"), _calls(results)),
        _section(
            "Packages, kB", ("", "zipped", "unzipped"), [_size_row(name, one) for name, one in results.sizes.items()]
        ),
        _memory(results.memory),
    ]
    if results.beside:
        sections.append(_beside(results.beside))
    sections.append(_section("Must hold", ("", "measured", "at most", ""), [_gate_row(gate) for gate in checked]))
    return "\n\n".join([_machine_line(results), *sections])


def _machine_line(results: Results) -> str:
    machine = _machine()
    runtime = "Lambda's own runtime client" if results.runtime == "awslambdaric" else "a runtime loop of ours"
    protocol = "TLS" if results.tls else "plain HTTP"
    return (
        f"{machine['python']} on {machine['system']} {machine['architecture']}, {machine['cores']} cores."
        f" Handlers are called by {runtime}.\n"
        f"AWS and the provider answer at once, by {protocol}, from another process on this machine."
    )


def _machine() -> dict[str, Any]:
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": platform.system(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 2),
    }


def _cold_row(name: str, cold: Cold) -> tuple[str, ...]:
    times = (cold.init.median, cold.init.spread, cold.first.median, cold.to_answer.median)
    return (_NAMES.get(name, name), *(f"{value:.1f}" for value in times))


def _warm_row(name: str, warm: Warm) -> tuple[str, ...]:
    cpu = f"{warm.cpu.median:.2f}" if warm.cpu_s else ""
    shares = tuple(f"{warm.percentile_ms(share):.2f}" for share in (0.5, 0.95, 0.99))
    return (name, *shares, cpu, f"{warm.medians.spread:.2f} ({warm.medians.spread_percent:.0f} %)")


def _calls(results: Results) -> list[tuple[str, ...]]:
    rows = (("Sluice", results.each), ("Sluice, first of a container", results.first), ("floor", results.floor_each))
    return [
        (
            name,
            ", ".join(f"{count:g} {call.split()[-1]}" for call, count in one.calls.items() if "provider" not in call),
            f"{one.write_units:g}",
            f"{one.segments:g}",
            f"{one.log_bytes:.0f}",
        )
        for name, one in rows
    ]


def _size_row(name: str, size: Size) -> tuple[str, ...]:
    names = {
        "functions/chat_completions.zip": "the function",
        "layers/dependencies.zip": "third-party layer",
        "layers/sluice.zip": "first-party layer",
        "plain": "third-party layer by pip install -t",
        "floor": "floor handler",
    }
    return names.get(name, name), f"{size.zipped / 1024:,.0f}", f"{size.unzipped / 1024:,.0f}"


def _memory(memory: Memory) -> str:
    steps = "  ".join(f"{requests}: {size / _MB:.1f}" for requests, size in memory.after)
    return f"Resident memory, MB, after so many requests of one process\n  {steps}"


def _beside(beside: Beside) -> str:
    rows = [_warm_row("provider directly", beside.direct), _warm_row("through LiteLLM", beside.proxied)]
    shown = _section(f"LiteLLM {beside.version}, ms", ("", "p50", "p95", "p99", "CPU", "spread"), rows)
    added = f"  adds {beside.added.median:.2f} ms; up after {beside.start_s:.1f} s; {beside.rss_mb:.0f} MB resident"
    return "\n".join([shown, added, *(f"  {line}" for line in COMPARISON)])


def _gate_row(gate: Gate) -> tuple[str, ...]:
    unit = f" {gate.unit}" if gate.unit else ""
    return gate.name, f"{gate.measured:.2f}{unit}", f"{gate.limit:.2f}{unit}", "ok" if gate.holds else "FAILED"


def _section(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    shown = [
        "  "
        + "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    return "\n".join([title, *shown])


def save(results: Results, checked: Sequence[Gate], folder: Path, name: str) -> None:
    """Write ``<name>.json``, ``<name>.txt`` (the table) and ``<name>.svg`` into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "taken_at": datetime.now(UTC).isoformat(timespec="seconds"),
        # Where other checkouts lie is nobody's business.
        "command": re.sub(r"=\S+", "=...", " ".join(["python -m load_tests.bench", *sys.argv[1:]])),
        "machine": {**_machine(), "runtime": results.runtime, "tls": results.tls},
        "contenders": {
            key: {
                **({"cold": results.cold[key].summary()} if key in results.cold else {}),
                **({"warm": results.warm[key].summary()} if key in results.warm else {}),
            }
            for key in (*results.cold, *(key for key in results.warm if key not in results.cold))
        },
        "sluice": {
            # What the capacity model reckons with.
            "cpu_ms_per_request": round(results.warm["sluice"].cpu.median, 3),
            "first_request": results.first.summary(),
            "each_request": results.each.summary(),
            "memory": results.memory.summary(),
        },
        "sizes": {key: {"zipped": size.zipped, "unzipped": size.unzipped} for key, size in results.sizes.items()},
        "litellm": results.beside.summary() if results.beside else None,
        "gates": [gate.summary() for gate in checked],
    }
    (folder / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")
    (folder / f"{name}.txt").write_text(table(results, checked) + "\n")
    (folder / f"{name}.svg").write_text(draw(_charts(results)))


def document(shown: str, page: Path) -> None:
    """Put the table between the marks that ``page`` has for it."""
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{page.name} has no place for the table")
    page.write_text(f"{before}{BEGIN}\n```\n{shown}\n```\n{END}{after}")


def _charts(results: Results) -> list[Chart]:
    warm = [
        Bar(_NAMES.get(name, name), one.medians.median, f"{one.medians.median:.2f} ms", strong=name == "sluice")
        for name, one in results.warm.items()
        if name != "sleeper"
    ]
    if results.beside:
        added = results.beside.added.median
        warm.append(Bar(f"added by LiteLLM {results.beside.version}", added, f"{added:.2f} ms"))
    cold = [
        Bar(
            _NAMES.get(name, name),
            one.init.median,
            f"{one.init.median:.0f} ms, then {one.first.median:.0f} ms",
            more=one.first.median,
            strong=name == "sluice",
        )
        for name, one in results.cold.items()
    ]
    return [
        Chart("A warm request: median, everything on", warm),
        Chart("A cold start, and the first request after it: medians", cold),
    ]
