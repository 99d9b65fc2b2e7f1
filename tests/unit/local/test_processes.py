from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from local.environment import MARKER, marker
from local.instance import Instance
from local.processes import Record, orphans, stop, tail

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
FAMILY = [
    sys.executable,
    "-c",
    "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])",
]


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(SLEEP) as process:
        yield process
        process.kill()


def record_of(pid: int, *, off_by_seconds: float = 0) -> Record:
    return Record("cloud", pid, psutil.Process(pid).create_time() + off_by_seconds, "run", 4566)


def test_a_record_finds_its_process_again(instance: Instance, sleeper: subprocess.Popen[bytes]) -> None:
    record_of(sleeper.pid).save(instance)
    loaded = Record.load(instance, "cloud")
    assert loaded is not None
    process = loaded.process()
    assert process is not None
    assert process.pid == sleeper.pid


def test_a_recycled_id_is_not_believed_alive(sleeper: subprocess.Popen[bytes]) -> None:
    assert record_of(sleeper.pid, off_by_seconds=-60).process() is None


def test_a_recycled_id_is_not_killed(instance: Instance, sleeper: subprocess.Popen[bytes]) -> None:
    record_of(sleeper.pid, off_by_seconds=-60).save(instance)
    assert stop(instance, "cloud") is False
    assert sleeper.poll() is None
    assert Record.load(instance, "cloud") is None


def test_a_process_that_died_but_was_not_collected_is_not_alive(sleeper: subprocess.Popen[bytes]) -> None:
    record = record_of(sleeper.pid)
    sleeper.kill()
    deadline = time.monotonic() + 5
    while record.process() is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert record.process() is None


@pytest.mark.parametrize("text", ["", "{", '{"pid": "1"}', '{"pid": 1, "started_at": 1.0, "run": "x"}'])
def test_a_broken_record_counts_as_none(instance: Instance, text: str) -> None:
    instance.processes.mkdir(parents=True)
    (instance.processes / "cloud.json").write_text(text)
    assert Record.load(instance, "cloud") is None
    assert stop(instance, "cloud") is False


def test_stopping_takes_the_children_too(instance: Instance) -> None:
    with subprocess.Popen(FAMILY) as parent:
        process = psutil.Process(parent.pid)
        deadline = time.monotonic() + 10
        while not process.children() and time.monotonic() < deadline:
            time.sleep(0.02)
        [child] = process.children()
        record_of(parent.pid).save(instance)
        assert stop(instance, "cloud") is True
        assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_only_processes_with_the_very_marker_are_orphans(instance: Instance) -> None:
    mine = {**os.environ, MARKER: marker(instance, "cloud")}
    other_name = {**os.environ, MARKER: marker(instance, "models")}
    other_instance = {**os.environ, MARKER: marker(Instance.named("test", instance.root, {}), "cloud")}
    children = [subprocess.Popen(SLEEP, env=env) for env in (mine, other_name, other_instance)]
    try:
        assert [process.pid for process in orphans(instance, "cloud")] == [children[0].pid]
        assert stop(instance, "cloud") is True
        assert [child.poll() is None for child in children[1:]] == [True, True]
    finally:
        for child in children:
            child.kill()
            child.wait()


def test_the_end_of_a_log_is_read_even_with_odd_bytes(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_bytes(b"first\n" * 1000 + b"\xff\nlast\n")
    assert tail(log, 2) == ("\N{REPLACEMENT CHARACTER}", "last")
    assert tail(tmp_path / "absent", 2) == ()
