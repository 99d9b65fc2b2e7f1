"""Takes the measurements. Whatever is compared is measured in turns, so that a busy machine is busy for all of it."""

from __future__ import annotations

import io
import json
import pstats
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Final

from load_tests.bench.figures import Cold, Memory, Warm
from load_tests.bench.layout import OURS, PLAIN
from load_tests.bench.litellm import Proxy
from load_tests.bench.runtime_api import Sandbox, SandboxError
from load_tests.bench.world import World, trace_id

__all__ = [
    "CONTENDERS",
    "HANDLER",
    "Contender",
    "Effort",
    "Footprint",
    "cold_starts",
    "memory",
    "observe",
    "profile",
    "warm_rounds",
]

_WARM_UP: Final = 100
_STEADY_REQUESTS: Final = 20
_PROFILE_LINES: Final = 45


@dataclass(frozen=True)
class Contender:
    """A handler as it is packaged: its folder below ``tasks``, its layers, and the stand-in port that it talks to."""

    task: str
    handler: str
    aws: str = "aws"
    layers: str = OURS
    environment: Mapping[str, str] = field(default_factory=dict)

    def sandbox(self, world: World) -> Sandbox:
        """A new one, not started."""
        return world.sandbox(
            self.task,
            self.handler,
            layers=self.layers,
            aws=self.aws,
            service="chat_completions",
            more=self.environment,
        )


HANDLER: Final = "functions.chat_completions.handler.handler"
CONTENDERS: Final[Mapping[str, Contender]] = {
    "sluice": Contender("chat_completions", HANDLER),
    "floor": Contender("floor", "floor.handler.handler", aws="floor"),
    "floor-plain": Contender("floor-plain", "floor.handler.handler", aws="floor", layers=PLAIN),
    "empty": Contender("empty", "empty.handler.handler"),
}


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    cold_starts: int = 15
    rounds: int = 9
    requests: int = 200
    memory_requests: int = 1_000
    sleep_ms: float = 2.0


@dataclass(frozen=True)
class Footprint:
    """What a request asks of AWS: calls by service and operation, request units, trace segments, bytes of log."""

    calls: Mapping[str, float]
    write_units: float
    read_units: float
    segments: float
    log_bytes: float

    @property
    def table_round_trips(self) -> float:
        """Calls of DynamoDB."""
        return sum(count for call, count in self.calls.items() if call.startswith("dynamodb "))

    def summary(self) -> dict[str, Any]:
        """For the results file."""
        return {
            "calls": dict(self.calls),
            "table_round_trips": self.table_round_trips,
            "write_units": self.write_units,
            "read_units": self.read_units,
            "trace_segments": self.segments,
            "log_bytes": round(self.log_bytes),
        }


@dataclass(frozen=True)
class Observed:
    """A container's first request and its later ones: what they ask of AWS, and the calls to repeat."""

    first: Footprint
    each: Footprint
    calls: Mapping[str, Sequence[Mapping[str, Any]]]


def observe(world: World, contender: Contender) -> Observed:
    """What one container of ``contender`` calls, first and later.

    :raises SandboxError: a request failed, or a call was made that the stand-in does not know.
    """
    with contender.sandbox(world) as sandbox:
        world.control("record")
        written = sandbox.log.stat().st_size
        _ask(sandbox, world)
        first = world.control("seen")
        first_log = sandbox.log.stat().st_size - written
        # The ones after the first, one by one: the most frequent list of calls is what a request makes.
        later: list[tuple[dict[str, Any], int]] = []
        for _ in range(_STEADY_REQUESTS):
            world.control("record")
            written = sandbox.log.stat().st_size
            _ask(sandbox, world)
            later.append((world.control("seen"), sandbox.log.stat().st_size - written))
        world.control("forget")
    unknown = [call for seen, _ in [(first, 0), *later] for call in seen["unknown"]]
    if unknown:
        raise SandboxError(f"the stand-in for AWS does not know: {', '.join(sorted(set(unknown)))}")
    each, each_log = _most_frequent(later)
    return Observed(
        _footprint(first, first_log, contender.aws),
        _footprint(each, each_log, contender.aws),
        {"first": _repeatable(first["calls"]), "each": _repeatable(each["calls"])},
    )


def _ask(sandbox: Sandbox, world: World) -> float:
    invocation = sandbox.invoke(world.event, trace_id=trace_id())
    if json.loads(invocation.answer)["statusCode"] != 200:
        raise SandboxError(invocation.answer.decode(errors="replace")[:2000])
    return invocation.seconds


def _most_frequent(later: Sequence[tuple[dict[str, Any], int]]) -> tuple[dict[str, Any], int]:
    kinds = Counter(_kind(seen) for seen, _ in later)
    usual = kinds.most_common(1)[0][0]
    return next(each for each in later if _kind(each[0]) == usual)


def _kind(seen: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(sorted(f"{call['service']} {call['operation']}" for call in seen["calls"]))


def _footprint(seen: Mapping[str, Any], log_bytes: int, port: str) -> Footprint:
    units = seen["units"][port]
    calls = dict(sorted(Counter(_kind(seen)).items()))
    return Footprint(dict(calls), units["write"], units["read"], seen["segments"], log_bytes)


def _repeatable(calls: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The calls as boto3 takes them: a JSON protocol's body is the parameters by their names."""
    found = []
    for call in calls:
        if call["service"] == "s3":
            raise SandboxError("the floor handler cannot repeat calls of S3: their parameters are not in their bodies")
        body = {} if call["service"] == "provider" else json.loads(call["body"])
        found.append({"service": call["service"], "operation": call["operation"], "parameters": body})
    return found


def cold_starts(world: World, contenders: Mapping[str, Contender], times: int) -> dict[str, Cold]:
    """Fresh processes in turns; of each the start and the first request."""
    found: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in contenders}
    for number in range(times + 1):
        for name, contender in contenders.items():
            with contender.sandbox(world) as sandbox:
                first_s = _ask(sandbox, world)
            # The first of all brings the files into the page cache.
            if number:
                found[name][0].append(sandbox.init_s)
                found[name][1].append(first_s)
    return {name: Cold(tuple(inits), tuple(firsts)) for name, (inits, firsts) in found.items()}


def warm_rounds(
    world: World, contenders: Mapping[str, Contender], effort: Effort, proxy: Proxy | None
) -> tuple[dict[str, Warm], dict[str, Warm]]:
    """Warm requests in turns: of the contenders, and with a ``proxy`` through it and past it."""
    latencies: dict[str, list[tuple[float, ...]]] = {name: [] for name in contenders}
    cpu: dict[str, list[float]] = {name: [] for name in contenders}
    beside: dict[str, list[tuple[float, ...]]] = {"direct": [], "proxied": []} if proxy else {}
    proxy_cpu: list[float] = []
    with ExitStack() as stack:
        sandboxes = {name: stack.enter_context(each.sandbox(world)) for name, each in contenders.items()}
        for sandbox in sandboxes.values():
            _block(sandbox, world, _WARM_UP)
        for number in range(effort.rounds):
            for name in _in_turn(list(sandboxes), number):
                before = sandboxes[name].cpu_s()
                latencies[name].append(_block(sandboxes[name], world, effort.requests))
                cpu[name].append(sandboxes[name].cpu_s() - before)
            if proxy:
                beside["direct"].append(proxy.direct(effort.requests))
                before = proxy.cpu_s()
                beside["proxied"].append(proxy.through(effort.requests))
                proxy_cpu.append(proxy.cpu_s() - before)
    ours = {name: Warm(tuple(latencies[name]), tuple(cpu[name])) for name in contenders}
    theirs = {
        name: Warm(tuple(rounds), tuple(proxy_cpu) if name == "proxied" else ()) for name, rounds in beside.items()
    }
    return ours, theirs


def _in_turn(names: Sequence[str], number: int) -> list[str]:
    """Each goes first as often as every other."""
    start = number % len(names)
    return [*names[start:], *names[:start]]


def _block(sandbox: Sandbox, world: World, requests: int) -> tuple[float, ...]:
    return tuple(_ask(sandbox, world) for _ in range(requests))


def profile(world: World, requests: int) -> str:
    """Where the CPU time of ``requests`` warm requests goes: the functions that take most of it, as a text."""
    path = world.layout.folder / "profile.pstats"
    path.unlink(missing_ok=True)
    told = {"PROFILE_TO": str(path), "PROFILE_REQUESTS": str(requests)}
    with Contender("profiler", "profiler.handler.handler", environment=told).sandbox(world) as sandbox:
        while not path.exists():
            _ask(sandbox, world)
    text = io.StringIO()
    found = pstats.Stats(str(path), stream=text)
    for order in (pstats.SortKey.CUMULATIVE, pstats.SortKey.TIME):
        found.sort_stats(order).print_stats(_PROFILE_LINES)
    return text.getvalue().replace(f"{world.layout.folder}/", "")


def memory(world: World, contender: Contender, requests: int) -> Memory:
    """Resident memory of one process along ``requests`` requests, ten times."""
    step = max(1, requests // 10)
    found: list[tuple[int, int]] = []
    with contender.sandbox(world) as sandbox:
        for done in range(step, requests + 1, step):
            _block(sandbox, world, step)
            found.append((done, sandbox.rss_bytes()))
    return Memory(tuple(found))
