"""Resident memory of each worker process of a local platform, by the function that it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import psutil

from load_tests.gates import Verdict
from load_tests.watch import Probe, Sample
from local import cloud
from local.instance import Instance
from local.processes import Record

__all__ = ["Peak", "peaks", "verdicts", "worker_probe"]

# Every function is told its own name by this variable.
_NAME = "SLUICE_SERVICE"
_MB = 2**20
_SEPARATOR = " #"
# Between a file and one many times its size, a worker's peak may move by what allocators keep back.
_SHARE = 0.15
_UNITS_MB = 24.0
# These join small pieces in memory: at most eight parts of 8 MiB at once, each of them twice while it is sent, whatever
# the size of the file. A small file has fewer than eight.
_JOINING_MB = {"batch_assembler": 128.0, "uploads": 128.0}


@dataclass(frozen=True)
class Peak:
    """The memory of the workers of one function: how many there were, and what the largest came to, in MB."""

    workers: int
    median_mb: float
    largest_mb: float


def worker_probe(instance: Instance, children: Callable[[], Sequence[psutil.Process]] | None = None) -> Probe:
    """Resident memory in MB by worker: `batch_worker #<process id>`."""
    names: dict[int, str | None] = {}
    listed = children or (lambda: _children(instance))

    def probe() -> dict[str, float]:
        found = {}
        for process in listed():
            if process.pid not in names:
                names[process.pid] = _function(process)
            if name := names[process.pid]:
                found[f"{name}{_SEPARATOR}{process.pid}"] = _resident_mb(process)
        # One that ended while it was looked at weighs nothing.
        return {name: megabytes for name, megabytes in found.items() if megabytes}

    return probe


def _children(instance: Instance) -> Sequence[psutil.Process]:
    record = Record.load(instance, cloud.NAME)
    process = record.process() if record else None
    try:
        return process.children(recursive=True) if process else ()
    except psutil.Error:
        return ()


def _function(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(_NAME)
    except (psutil.Error, OSError):
        return None


def _resident_mb(process: psutil.Process) -> float:
    try:
        return float(process.memory_info().rss) / _MB
    except psutil.Error:
        return 0.0


def peaks(samples: Sequence[Sample]) -> dict[str, Peak]:
    """The memory of each function's workers over the samples."""
    largest: dict[str, float] = {}
    for sample in samples:
        for worker, megabytes in sample.values.items():
            largest[worker] = max(megabytes, largest.get(worker, 0.0))
    by_function: dict[str, list[float]] = {}
    for worker, megabytes in largest.items():
        by_function.setdefault(worker.partition(_SEPARATOR)[0], []).append(megabytes)
    return {name: _peak(sorted(found)) for name, found in sorted(by_function.items())}


def _peak(found: Sequence[float]) -> Peak:
    return Peak(len(found), found[len(found) // 2], found[-1])


def verdicts(small: Mapping[str, Peak], large: Mapping[str, Peak]) -> list[Verdict]:
    """Whether the largest worker of each function stayed as large as it was with a file of a fraction of the size."""
    return [_verdict(name, small[name], large[name]) for name in sorted(small.keys() & large.keys())]


def _verdict(name: str, small: Peak, large: Peak) -> Verdict:
    allowed = max(small.largest_mb * _SHARE, _JOINING_MB.get(name, _UNITS_MB))
    return Verdict(
        large.largest_mb - small.largest_mb <= allowed,
        f"memory of {name}: {small.largest_mb:.0f} MB with the small file, {large.largest_mb:.0f} MB with the large one"
        f" (growth of at most {allowed:.0f})",
    )
