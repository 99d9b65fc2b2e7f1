"""What holds for every test: no account, no profile and no network of the machine it runs on can reach it.

Unit tests have no sockets at all. The other suites talk to servers they started themselves, on this machine only.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Generator
from pathlib import Path

import pytest

_TESTS = Path(__file__).parent
_LOOPBACK = ["127.0.0.1", "::1", "localhost"]

# The credentials are the local cloud's; anywhere else they are refused.
_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_REGION": "us-east-1",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
    # As in Lambda: without it the X-Ray SDK builds a botocore client while it is imported.
    "LAMBDA_TASK_ROOT": str(_TESTS.parent),
    "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
    "HYPOTHESIS_STORAGE_DIRECTORY": str(_TESTS.parent / ".local" / "cache" / "hypothesis"),
}
_INHERITED = ("AWS_", "SLUICE_", "OPENAI_")
# Whoever runs the suite may move the ports of its platform and keep it running afterwards.
_KEPT = ("AWS_CA_BUNDLE", "SLUICE_TEST_", "SLUICE_KEEP_")


def pytest_configure() -> None:
    """Replace the environment before any module of ours or of the AWS SDK is imported."""
    for name in [name for name in os.environ if name.startswith(_INHERITED) and not name.startswith(_KEPT)]:
        del os.environ[name]
    os.environ.update(_ENVIRONMENT)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sockets: none in unit tests, loopback only elsewhere."""
    unit = _TESTS / "unit"
    for item in items:
        if unit in item.path.parents:
            item.add_marker(pytest.mark.disable_socket)
        else:
            item.add_marker(pytest.mark.allow_hosts(_LOOPBACK))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown() -> None:
    """What a test leaves open is an error of this test, not of whichever runs when memory is next collected."""
    gc.collect()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, bool, bool]:
    """What outlives a module is never looked through again, so that collecting after each test is quick."""
    done = yield
    if nextitem is None or nextitem.path != item.path:
        gc.collect()
        gc.freeze()
    return done
