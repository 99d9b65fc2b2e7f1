"""One model server for all tests of this folder; each test finds it without faults and with no call counted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.local_models.support import Server, running


@pytest.fixture(scope="session")
def state_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that keeps the trained scorer."""
    return tmp_path_factory.mktemp("models") / "state"


@pytest.fixture(scope="session")
def shared_server(state_dir: Path) -> Iterator[Server]:
    with running(state_dir) as server:
        yield server


@pytest.fixture
def server(shared_server: Server) -> Server:
    shared_server.call("DELETE", "/faults")
    shared_server.call("DELETE", "/requests")
    return shared_server
