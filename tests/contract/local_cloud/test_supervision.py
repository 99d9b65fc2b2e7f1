"""Processes that crash, ports that are taken and workers that are left behind."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from local import cloud, model_server
from local.errors import LocalError
from local.instance import Instance, Ports
from local.processes import Health, Record, answers, orphans
from local.state import Applied, applying, half_finished
from local.status import read_status
from local.supervisor import ensure_running, stop_all

LAMBDA_TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"},
    ],
}

SLEEPING_HANDLER = """
import pathlib, time

def handler(event, context):
    pathlib.Path({path!r}).touch()
    time.sleep(300)
"""


def record(instance: Instance, name: str) -> Record:
    found = Record.load(instance, name)
    assert found is not None
    return found


def kill(instance: Instance, name: str) -> Record:
    """Kill -9 of one process; returns what its record was."""
    killed = record(instance, name)
    os.kill(killed.pid, signal.SIGKILL)
    eventually(lambda: killed.process() is None, "the process is gone")
    return killed


def eventually(condition: Callable[[], bool], what: str, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def health_of(instance: Instance) -> list[Health]:
    return [line.health for line in read_status(instance).processes]


def test_both_processes_serve_and_a_second_start_leaves_them_alone(running: Instance, python: Path) -> None:
    assert answers(f"{running.cloud_url}/_ministack/ready")
    assert answers(f"{running.models_url}/health")
    before = [record(running, name) for name in (cloud.NAME, model_server.NAME)]
    assert ensure_running(running, python) == before[0].run
    assert [record(running, name) for name in (cloud.NAME, model_server.NAME)] == before
    status = read_status(running)
    assert [line.health for line in status.processes] == [Health.RUNNING, Health.RUNNING]
    assert all(line.memory_bytes > 10_000_000 for line in status.processes)
    # Nothing is applied here, and half a platform is not a healthy one.
    assert (status.platform, status.healthy) == ("not applied", False)


def test_nothing_listens_beyond_this_machine(running: Instance) -> None:
    for name in (cloud.NAME, model_server.NAME):
        listening = psutil.Process(record(running, name).pid).net_connections(kind="inet")
        assert {entry.laddr[0] for entry in listening if entry.status == psutil.CONN_LISTEN} == {"127.0.0.1"}


def test_a_killed_cloud_is_noticed_and_started_empty(running: Instance, python: Path) -> None:
    cloud.ensure_state_bucket(running)
    models = record(running, model_server.NAME)
    Applied("digest", record(running, cloud.NAME).run, {"api_id": "a", "stage_name": "api"}).save(running)
    killed = kill(running, cloud.NAME)
    assert health_of(running) == [Health.CRASHED, Health.RUNNING]
    assert read_status(running).platform == "not applied"

    assert ensure_running(running, python) != killed.run
    assert health_of(running) == [Health.RUNNING, Health.RUNNING]
    assert Applied.load(running) is None
    assert cloud.client(running, "s3").list_buckets()["Buckets"] == []
    assert record(running, model_server.NAME) == models


def test_a_killed_model_server_is_started_again_and_the_cloud_keeps_its_resources(
    running: Instance, python: Path
) -> None:
    cloud.ensure_state_bucket(running)
    run = record(running, cloud.NAME).run
    applied = Applied("digest", run, {"api_id": "a", "stage_name": "api"})
    applied.save(running)
    kill(running, model_server.NAME)
    assert health_of(running) == [Health.RUNNING, Health.CRASHED]

    assert ensure_running(running, python) == run
    assert health_of(running) == [Health.RUNNING, Health.RUNNING]
    assert Applied.load(running) == applied
    assert len(cloud.client(running, "s3").list_buckets()["Buckets"]) == 1


def test_an_apply_that_did_not_finish_makes_the_next_start_an_empty_one(running: Instance, python: Path) -> None:
    cloud.ensure_state_bucket(running)
    before = record(running, cloud.NAME)
    with pytest.raises(KeyboardInterrupt), applying(running):
        raise KeyboardInterrupt
    assert read_status(running).platform == "half applied"
    assert ensure_running(running, python) != before.run
    assert before.process() is None
    assert not half_finished(running)
    assert cloud.client(running, "s3").list_buckets()["Buckets"] == []


def test_a_taken_port_is_explained_and_nothing_is_started(
    running: Instance, python: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        other = replace(running, state=tmp_path, ports=Ports(cloud=running.ports.cloud, models=port, xray=1))
        with pytest.raises(LocalError) as by_cloud:
            ensure_running(other, python)
        with pytest.raises(LocalError) as by_us:
            ensure_running(replace(other, ports=Ports(cloud=running.ports.xray, models=port, xray=1)), python)
    assert f"port {running.ports.cloud}, which the local cloud needs, is taken by `" in by_cloud.value.message
    assert f"(pid {record(running, cloud.NAME).pid})" in by_cloud.value.message
    assert "SLUICE_CLOUD_PORT=" in by_cloud.value.hint
    assert f"port {port}, which the local model server needs" in by_us.value.message
    assert f"(pid {os.getpid()})" in by_us.value.message
    assert "SLUICE_MODELS_PORT=" in by_us.value.hint
    assert not (tmp_path / "processes").exists()


def test_a_worker_that_outlives_a_killed_cloud_is_found_and_stopped(running: Instance, python: Path) -> None:
    running_handler = running.temporary / "handler-runs"
    invoke_sleeping_function(running, running_handler)
    eventually(running_handler.exists, "the handler runs")
    cloud_pid = record(running, cloud.NAME).pid
    left_behind = [process for process in orphans(running, cloud.NAME) if process.pid != cloud_pid]
    kill(running, cloud.NAME)
    assert [process for process in left_behind if lives(process)]

    ensure_running(running, python)
    assert not [process for process in left_behind if lives(process)]
    assert health_of(running) == [Health.RUNNING, Health.RUNNING]


def invoke_sleeping_function(instance: Instance, announcement: Path) -> None:
    """A function that creates a file and sleeps for minutes, invoked without waiting for it."""
    source = SLEEPING_HANDLER.format(path=str(announcement))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("sleeping.py", source)
    role = cloud.client(instance, "iam").create_role(
        RoleName="sleeping", AssumeRolePolicyDocument=json.dumps(LAMBDA_TRUST)
    )["Role"]["Arn"]
    functions = cloud.client(instance, "lambda")
    functions.create_function(
        FunctionName="sleeping",
        Runtime="python3.13",
        Role=role,
        Handler="sleeping.handler",
        Timeout=600,
        Code={"ZipFile": archive.getvalue()},
    )
    functions.get_waiter("function_active_v2").wait(FunctionName="sleeping", WaiterConfig={"Delay": 1})
    functions.invoke(FunctionName="sleeping", InvocationType="Event", Payload=b"{}")


def test_down_stops_everything_keeps_logs_and_can_be_repeated(running: Instance) -> None:
    started = [record(running, name) for name in (cloud.NAME, model_server.NAME)]
    stop_all(running)
    stop_all(running)
    assert [process.process() for process in started] == [None, None]
    assert health_of(running) == [Health.STOPPED, Health.STOPPED]
    assert {path.name for path in running.logs.iterdir()} >= {"cloud.log", "models.log"}
    assert not running.ports_file.exists()
