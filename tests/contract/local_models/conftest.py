"""One model server for all tests of this folder; each test finds it without faults and with no call counted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.local_models.support import Server, running


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("models") / "server") as server:
        yield server


@pytest.fixture
def server(shared_server: Server) -> Server:
    shared_server.call("DELETE", "/faults")
    shared_server.call("DELETE", "/requests")
    return shared_server
