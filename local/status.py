"""What runs: one line per process, one for the platform."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from local import cloud, connection, model_server
from local.instance import Instance
from local.platform import is_answering
from local.processes import Health, Record, Spec, health, log_file
from local.state import Applied, half_finished, holder

__all__ = ["PlatformState", "ProcessStatus", "Status", "read_status"]

_NO_PYTHON = Path("python")

PlatformState = Literal["applied", "not applied", "half applied", "not answering"]


@dataclass(frozen=True)
class ProcessStatus:
    """A process and how it fares. Memory is in resident bytes, of the process and all its children."""

    title: str
    health: Health
    record: Record | None
    memory_bytes: int
    log: Path

    def __str__(self) -> str:
        head = f"{self.title:<20} {self.health:<13}"
        if self.record is None:
            return head.rstrip()
        place = f"pid {self.record.pid:<8} port {self.record.port:<6}"
        if self.health is Health.CRASHED:
            return f"{head} {place} see {self.log}"
        uptime = _duration(time.time() - self.record.started_at)
        return f"{head} {place} up {uptime:<8} {self.memory_bytes / 2**20:.0f} MB"


@dataclass(frozen=True)
class Status:
    """A whole instance. `url` is where the API should answer, `changed_by` who is at work on it just now."""

    processes: tuple[ProcessStatus, ...]
    platform: PlatformState
    url: str
    changed_by: str
    up_command: str

    @property
    def healthy(self) -> bool:
        """True when both processes run and the API answers."""
        return self.platform == "applied" and all(line.health is Health.RUNNING for line in self.processes)

    def __str__(self) -> str:
        return "\n".join([*map(str, self.processes), f"{'platform':<20} {self.platform:<13} {self.url}".rstrip()])

    @property
    def advice(self) -> str:
        """What to do about it; empty when nothing is wrong."""
        if self.changed_by:
            return f"{self.changed_by} is working on it."
        if self.healthy:
            return ""
        stopped = all(line.health is Health.STOPPED for line in self.processes)
        return f"`{self.up_command}` {'starts' if stopped else 'heals'} it."


def read_status(instance: Instance) -> Status:
    """Look at the processes and ask the API for its health."""
    local_cloud = _process(instance, cloud.spec(instance, _NO_PYTHON))
    models = _process(instance, model_server.spec(instance))
    platform, url = _platform(instance, local_cloud)
    return Status((local_cloud, models), platform, url, holder(instance), instance.up_command)


def _platform(instance: Instance, local_cloud: ProcessStatus) -> tuple[PlatformState, str]:
    applied = _applied_to(instance, local_cloud)
    if half_finished(instance):
        return "half applied", ""
    if applied is None:
        return "not applied", ""
    url = connection.local_values(instance, applied.outputs)["SLUICE_URL"]
    return ("applied" if is_answering(instance, applied) else "not answering"), url


def _applied_to(instance: Instance, local_cloud: ProcessStatus) -> Applied | None:
    """What was applied to the cloud that runs now; an earlier cloud took its resources with it."""
    applied = Applied.load(instance)
    if local_cloud.health is not Health.RUNNING or applied is None or local_cloud.record is None:
        return None
    return applied if applied.cloud_run == local_cloud.record.run else None


def _process(instance: Instance, spec: Spec) -> ProcessStatus:
    state, record = health(instance, spec)
    process = record.process() if record else None
    title = spec.title.removeprefix("the ")
    return ProcessStatus(title, state, record, _memory_bytes(process) if process else 0, log_file(instance, spec.name))


def _memory_bytes(process: psutil.Process) -> int:
    total = 0
    try:
        for member in (process, *process.children(recursive=True)):
            total += member.memory_info().rss
    except psutil.Error:
        # It went away while being measured.
        return total
    return total


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s"
