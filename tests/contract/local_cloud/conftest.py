"""A real local cloud and a real model server, on ports and in a folder of this run's own."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.instance import Instance, Ports, PortVariables
from local.supervisor import ensure_running, stop_all
from local.venvs import ministack_python

ROOT = Path(__file__).resolve().parents[3]


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in sockets]
    for server in sockets:
        server.close()
    return ports


@pytest.fixture(scope="session")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """Nothing runs yet; whatever a test starts is stopped at the end."""
    variables = PortVariables("SLUICE_CLOUD_PORT", "SLUICE_MODELS_PORT", "SLUICE_XRAY_PORT")
    made = Instance("contract", ROOT, tmp_path_factory.mktemp("local"), Ports(*free_ports(3)), variables)
    yield made
    stop_all(made)


@pytest.fixture(scope="session")
def python(instance: Instance) -> Path:
    return ministack_python(instance)


@pytest.fixture
def running(instance: Instance, python: Path) -> Instance:
    """Both processes run; what an earlier test broke is healed."""
    ensure_running(instance, python)
    return instance
