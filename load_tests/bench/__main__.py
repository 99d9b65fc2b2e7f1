"""`python -m load_tests.bench` (`make bench`): measures, prints a table, saves it, and fails when a gate does."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from infra.packaging.errors import PackagingError
from load_tests.bench.layout import Layout, add_build, lay_out, write_floor
from load_tests.bench.litellm import Proxy, ProxyError
from load_tests.bench.measure import (
    CONTENDERS,
    HANDLER,
    Contender,
    Effort,
    cold_starts,
    memory,
    observe,
    profile,
    warm_rounds,
)
from load_tests.bench.report import Beside, Results, document, gates, save, table
from load_tests.bench.runtime_api import SandboxError
from load_tests.bench.world import BenchError, World

__all__ = ["main", "measure"]

_RESULTS = Path(__file__).resolve().parents[1] / "results"
_DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "performance.md"


def measure(
    layout: Layout, effort: Effort, *, vs_litellm: bool = False, tls: bool = False, others: Sequence[str] = ()
) -> Results:
    """Everything there is to measure. ``others`` are builds of other checkouts, added to the layout by these names.

    :raises SandboxError: a function does not work under the stand-ins.
    :raises ProxyError: LiteLLM could not be installed or started.
    """
    with World(layout, tls=tls) as world:
        seen = observe(world, CONTENDERS["sluice"])
        floor_size = write_floor(layout, seen.calls)
        world.control("seed_floor")
        floor = observe(world, CONTENDERS["floor"])
        if (floor.first.calls, floor.each.calls) != (seen.first.calls, seen.each.calls):
            raise SandboxError(f"the floor handler makes other calls: {floor.each.calls}, not {seen.each.calls}")
        contenders = {name: CONTENDERS[name] for name in ("sluice", "floor")}
        if effort.sleep_ms > 0:
            contenders["sleeper"] = _sleeper(effort.sleep_ms)
        strangers = {name: Contender(name, HANDLER, layers=name) for name in others}
        cold = cold_starts(world, {**CONTENDERS, **strangers}, effort.cold_starts)
        grown = memory(world, CONTENDERS["sluice"], effort.memory_requests)
        with Proxy(world.upstream_url(), layout.folder) if vs_litellm else nullcontext() as proxy:
            warm, theirs = warm_rounds(world, {**contenders, **strangers}, effort, proxy)
            beside = (
                Beside(proxy.version, theirs["direct"], theirs["proxied"], proxy.start_s, proxy.rss_mb())
                if proxy
                else None
            )
    sizes = {**layout.sizes, "floor": floor_size}
    return Results(layout.runtime, tls, effort, sizes, seen.first, seen.each, floor.each, cold, warm, grown, beside)


def _sleeper(sleep_ms: float) -> Contender:
    return Contender("sleeper", "sleeper.handler.handler", environment={"SLEEP_MS": str(sleep_ms)})


def _others(layout: Layout, given: Sequence[str]) -> list[str]:
    names = []
    for each in given:
        name, _, folder = each.partition("=")
        add_build(layout, name, Path(folder))
        names.append(name)
    return names


def _profiled(layout: Layout, effort: Effort) -> str:
    with World(layout) as world:
        return profile(world, effort.memory_requests)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; the exit code is 1 when something that must hold does not."""
    usual = Effort()
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--vs", choices=["litellm"], help="measure what another gateway adds, beside us")
    parser.add_argument("--tls", action="store_true", help="AWS and the provider speak TLS, as they do outside")
    parser.add_argument("--cold-starts", type=int, default=usual.cold_starts, metavar="N")
    parser.add_argument("--rounds", type=int, default=usual.rounds, metavar="N")
    parser.add_argument("--requests", type=int, default=usual.requests, metavar="N", help="in each round")
    parser.add_argument("--memory-requests", type=int, default=usual.memory_requests, metavar="N")
    parser.add_argument("--sleep-ms", type=float, default=usual.sleep_ms, help="put in, and to be noticed; 0 for none")
    parser.add_argument("--save", default="bench", metavar="NAME", help="of the files in load_tests/results")
    parser.add_argument(
        "--against",
        action="append",
        default=[],
        metavar="NAME=FOLDER",
        help="measure another checkout's build/local in turns with this one's; may be given more than once",
    )
    parser.add_argument("--document", action="store_true", help="write the table into docs/performance.md, too")
    parser.add_argument("--profile", action="store_true", help="only tell where the CPU time of warm requests goes")
    options = parser.parse_args(arguments)
    effort = Effort(options.cold_starts, options.rounds, options.requests, options.memory_requests, options.sleep_ms)
    try:
        if options.profile:
            print(_profiled(lay_out(), effort))
            return 0
        layout = lay_out()
        others = _others(layout, options.against)
        results = measure(layout, effort, vs_litellm=options.vs == "litellm", tls=options.tls, others=others)
    except (BenchError, PackagingError, SandboxError, ProxyError) as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    checked = gates(results)
    print(table(results, checked))
    save(results, checked, _RESULTS, options.save)
    print(f"\nsaved: load_tests/results/{options.save}.json, .txt and .svg")
    if options.document:
        document(table(results, checked), _DOCUMENT)
    return 0 if all(gate.holds for gate in checked) else 1


if __name__ == "__main__":
    sys.exit(main())
