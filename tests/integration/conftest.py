"""The whole platform, once per run: the real Terraform root applied to a local cloud of the tests' own.

The ``test`` instance has its own ports and state folder, so a platform that ``make up`` is running is never touched.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.integration.support import STATE, Platform, local


@pytest.fixture(scope="session")
def platform() -> Iterator[Platform]:
    """``up`` at the start, ``down`` at the end (kept for a look when SLUICE_KEEP_TEST_PLATFORM is set)."""
    up = local("up")
    if up.returncode != 0:
        pytest.exit(f"the test platform did not come up:\n{up.stdout[-6000:]}\n{up.stderr[-3000:]}", returncode=1)
    lines = (STATE / "env").read_text().splitlines()
    env = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    with closing(Platform(env)) as connected:
        yield connected
    if not os.environ.get("SLUICE_KEEP_TEST_PLATFORM"):
        local("down")


@pytest.fixture
def healthy(platform: Platform) -> Iterator[Platform]:
    """The platform for a test that injects faults: they, and what they did to circuits, are gone before and after."""
    platform.heal()
    yield platform
    platform.heal()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs the whole machine runs last, when it has it; then what takes the platform down."""
    items.sort(key=lambda item: item.get_closest_marker("last") is not None)
