"""An eye on memory and queues while load runs: samples, and whether anything grew.

Growth is the difference between two medians, of the first and of the last third of the time after everything has warmed
up. A single worker that starts or a single deep moment of a queue moves neither.
"""

from __future__ import annotations

import contextlib
import csv
import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import psutil
from botocore.exceptions import BotoCoreError, ClientError

from load_tests.gates import Verdict
from local import cloud, model_server
from local.connection import Connection
from local.instance import Instance
from local.processes import Record

__all__ = ["Allowance", "Sample", "Watch", "growth", "memory_probe", "queue_probe", "verdicts", "write"]

Probe = Callable[[], Mapping[str, float]]

_MB = 2**20
_EVERY_S = 5.0


@dataclass(frozen=True)
class Sample:
    """What the probes said at one moment, in seconds from the start: megabytes and messages by name."""

    at_s: float
    values: Mapping[str, float]


@dataclass(frozen=True)
class Allowance:
    """How much a series may grow: a share of what it was, or so many units if that is more."""

    share: float
    units: float

    def of(self, before: float) -> float:
        """The growth that passes, in the series' unit."""
        return max(before * self.share, self.units)


@dataclass
class Watch:
    """Samples its probes in a thread of its own, from entering the context to leaving it."""

    probes: Sequence[Probe]
    every_s: float = _EVERY_S
    samples: list[Sample] = field(default_factory=list)
    _done: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        if self._thread:
            self._thread.join()

    def _run(self) -> None:
        started = time.monotonic()
        while not self._done.is_set():
            self.samples.append(Sample(time.monotonic() - started, self.sample()))
            self._done.wait(self.every_s)

    def sample(self) -> dict[str, float]:
        """Ask every probe once. One that gets no answer is left out: the platform is busy, and has the next sample."""
        values: dict[str, float] = {}
        for probe in self.probes:
            with contextlib.suppress(OSError, BotoCoreError, ClientError):
                values |= probe()
        return values


def memory_probe(instance: Instance) -> Probe:
    """Resident memory of a local platform in MB: the cloud, its function workers, the model server."""
    local_cloud, models = Record.load(instance, cloud.NAME), Record.load(instance, model_server.NAME)

    def probe() -> dict[str, float]:
        cloud_process = local_cloud.process() if local_cloud else None
        models_process = models.process() if models else None
        workers = [_resident_mb(child) for child in _children(cloud_process)]
        return {
            "local cloud MB": _resident_mb(cloud_process),
            "model server MB": _resident_mb(models_process),
            "workers": len(workers),
            "largest worker MB": max(workers, default=0.0),
            "workers MB": sum(workers),
        }

    return probe


def _children(process: psutil.Process | None) -> list[psutil.Process]:
    try:
        return process.children(recursive=True) if process else []
    except psutil.Error:
        return []


def _resident_mb(process: psutil.Process | None) -> float:
    try:
        return float(process.memory_info().rss) / _MB if process else 0.0
    except psutil.Error:
        # It ended while it was looked at.
        return 0.0


def queue_probe(connection: Connection) -> Probe:
    """Messages in each queue that the connection names (SLUICE_…_QUEUE_URL, SLUICE_…_DLQ_URL), in flight included."""
    urls = {name: url for name, url in connection.values.items() if name.endswith(("_QUEUE_URL", "_DLQ_URL")) and url}
    sqs = connection.client("sqs") if urls else None

    def probe() -> dict[str, float]:
        return {_title(name): _depth(sqs, url) for name, url in urls.items()}

    return probe


def _title(name: str) -> str:
    return name.removeprefix("SLUICE_").removesuffix("_URL").lower().replace("_", " ")


def _depth(sqs: Any, url: str) -> float:
    names = [
        "ApproximateNumberOfMessages",
        "ApproximateNumberOfMessagesNotVisible",
        "ApproximateNumberOfMessagesDelayed",
    ]
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return float(sum(int(attributes.get(name, 0)) for name in names))


def growth(samples: Sequence[Sample], name: str, *, settled_s: float) -> tuple[float, float] | None:
    """A series' median in the first and in the last third of the time after `settled_s`.

    None when there are fewer than three samples in a third: too few to say anything.
    """
    values = [sample.values[name] for sample in samples if sample.at_s >= settled_s and name in sample.values]
    third = len(values) // 3
    if third < 3:
        return None
    return statistics.median(values[:third]), statistics.median(values[-third:])


def verdicts(samples: Sequence[Sample], allowances: Mapping[str, Allowance], *, settled_s: float) -> list[Verdict]:
    """One verdict for each series that something is allowed for; a dead letter is one too many at any time."""
    found = [_grown(samples, name, allowed, settled_s) for name, allowed in allowances.items()]
    return [*found, *_dead_letters(samples)]


def _grown(samples: Sequence[Sample], name: str, allowed: Allowance, settled_s: float) -> Verdict:
    ends = growth(samples, name, settled_s=settled_s)
    if ends is None:
        return Verdict(passed=False, text=f"{name}: too few samples")
    before, after = ends
    text = f"{name}: {before:.1f} at first, {after:.1f} at last (growth of at most {allowed.of(before):.1f})"
    return Verdict(after - before <= allowed.of(before), text)


def _dead_letters(samples: Sequence[Sample]) -> list[Verdict]:
    names = sorted({name for sample in samples for name in sample.values if name.endswith("dlq")})
    # Some may have been there before.
    worst = {name: max(each.values[name] for each in samples) - samples[0].values[name] for name in names}
    return [Verdict(more <= 0, f"{name}: {more:.0f} new dead letters") for name, more in worst.items()]


def write(samples: Sequence[Sample], path: Path) -> None:
    """Write the samples as CSV, a column for each series."""
    names = sorted({name for sample in samples for name in sample.values})
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("seconds", *names))
        rows.writerows((round(each.at_s, 1), *(each.values.get(name, "") for name in names)) for each in samples)
