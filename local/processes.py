"""Detached processes: started, recorded, recognised again, asked whether they are ready, and stopped.

A record holds the process id *and* the time the process started, so that a recycled id is neither believed alive nor
killed. Whatever a process of ours started carries our marker in its environment (`local.environment.MARKER`);
that is how the children of a process killed with -9 are found.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

import psutil
import urllib3

from local.environment import MARKER, marker
from local.errors import LocalError
from local.files import read_json, write_json
from local.instance import Instance

__all__ = [
    "Health",
    "Record",
    "Spec",
    "answers",
    "await_ready",
    "health",
    "launch",
    "log_file",
    "orphans",
    "stop",
    "tail",
    "terminate",
]

# A start time is derived from the boot time, which shifts a little when the clock is set.
_START_TIME_TOLERANCE_SECONDS = 2.0
_STOP_SECONDS = 8.0
_LOG_LIMIT_BYTES = 20_000_000

# Children of this process stay referenced: Popen warns about one that is collected while it runs.
_launched: dict[int, subprocess.Popen[bytes]] = {}


class Health(StrEnum):
    """What a process record says, compared with what really runs."""

    RUNNING = "running"
    UNRESPONSIVE = "unresponsive"
    CRASHED = "crashed"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Spec:
    """How to start one process. `ready_url` answers 200 once it serves; it has `deadline_seconds` to get there."""

    name: str
    title: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    folder: Path
    port: int
    port_variable: str
    ready_url: str
    deadline_seconds: float


@dataclass(frozen=True)
class Record:
    """A process we started. `run` is unique to this start; `started_at` is in epoch seconds as psutil reports it."""

    name: str
    pid: int
    started_at: float
    run: str
    port: int

    @classmethod
    def load(cls, instance: Instance, name: str) -> Record | None:
        """The record of the named process; None when there is none or it is broken."""
        match read_json(_record_file(instance, name)):
            case {
                "pid": int() as pid,
                "started_at": (int() | float()) as started_at,
                "run": str() as run,
                "port": int() as port,
            }:
                return cls(name, pid, float(started_at), run, port)
        return None

    def save(self, instance: Instance) -> None:
        """Remember this process."""
        write_json(_record_file(instance, self.name), asdict(self))

    def process(self) -> psutil.Process | None:
        """The recorded process if it still lives; never another one that got the same id."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started_at) < _START_TIME_TOLERANCE_SECONDS
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.Error:
            return None


def _record_file(instance: Instance, name: str) -> Path:
    return instance.processes / f"{name}.json"


def log_file(instance: Instance, name: str) -> Path:
    """Where the named process writes its output."""
    return instance.logs / f"{name}.log"


def answers(url: str, timeout_seconds: float = 2.0) -> bool:
    """True when a GET of the URL gives 200 in time."""
    try:
        response = urllib3.request("GET", url, timeout=timeout_seconds, retries=False)
    except urllib3.exceptions.HTTPError:
        return False
    return response.status == 200


def health(instance: Instance, spec: Spec) -> tuple[Health, Record | None]:
    """The state of a process, with its record if there is one."""
    record = Record.load(instance, spec.name)
    if record is None:
        return Health.STOPPED, None
    if record.process() is None:
        return Health.CRASHED, record
    # A cloud busy with a load run may take seconds over its own health check.
    return (Health.RUNNING if answers(spec.ready_url, timeout_seconds=10) else Health.UNRESPONSIVE), record


def launch(instance: Instance, spec: Spec) -> Record:
    """Start a process detached from this terminal; `await_ready` waits for it."""
    log = log_file(instance, spec.name)
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > _LOG_LIMIT_BYTES:
        log.replace(log.with_suffix(".log.1"))
    with log.open("ab") as output:
        popen = subprocess.Popen(
            spec.command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(spec.environment),
            cwd=spec.folder,
            start_new_session=True,
        )
    _launched[popen.pid] = popen
    record = Record(spec.name, popen.pid, psutil.Process(popen.pid).create_time(), uuid.uuid4().hex, spec.port)
    record.save(instance)
    return record


def await_ready(instance: Instance, spec: Spec, record: Record) -> None:
    """Wait until a launched process serves.

    Raises LocalError with the end of its log when it exits or is not ready in time; it is stopped then.
    """
    log = log_file(instance, spec.name)
    deadline = time.monotonic() + spec.deadline_seconds
    try:
        while not answers(spec.ready_url):
            if record.process() is None:
                raise LocalError(f"{spec.title} exited while starting", f"see {log}", tail(log, 8))
            if time.monotonic() > deadline:
                message = f"{spec.title} was not ready within {spec.deadline_seconds:.0f} s"
                raise LocalError(message, f"see {log}", tail(log, 8))
            time.sleep(0.1)
    except BaseException:
        stop(instance, spec.name)
        raise


def stop(instance: Instance, name: str) -> bool:
    """Stop the named process and everything it started: SIGTERM, wait, SIGKILL. True when anything was running.

    Works when there is no record, or when the process is gone and only its children are left.
    """
    record = Record.load(instance, name)
    process = record.process() if record else None
    family = [process, *_children(process)] if process else []
    if process:
        # Children are asked second: a worker that vanished under its parent would be started again.
        terminate([process], _STOP_SECONDS)
    leftovers = [*family[1:], *orphans(instance, name)]
    terminate(leftovers, seconds=2.0)
    _record_file(instance, name).unlink(missing_ok=True)
    if record and record.pid in _launched:
        _launched.pop(record.pid).wait()
    return bool(family or leftovers)


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def terminate(processes: Sequence[psutil.Process], seconds: float) -> None:
    """SIGTERM to each process, then SIGKILL to those that still live after `seconds`."""
    # psutil compares start times before each signal, so a recycled id is never hit.
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    for process in alive:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(alive, timeout=2.0)


def orphans(instance: Instance, name: str) -> list[psutil.Process]:
    """Processes that carry the marker of the named process, other than this one and its ancestors."""
    own = psutil.Process()
    excluded = {own.pid, *(parent.pid for parent in own.parents())}
    return [process for process in _marked(marker(instance, name)) if process.pid not in excluded]


def _marked(value: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        # Not ours to read means not ours.
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(MARKER) == value and process.status() != psutil.STATUS_ZOMBIE:
                yield process


def tail(path: Path, lines: int) -> tuple[str, ...]:
    """The last lines of a text file; nothing when it does not exist."""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - 400 * lines))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ()
    return tuple(text.splitlines()[-lines:])
