"""The environment that every function has, and nothing left of the test before."""

from collections.abc import Iterator

import pytest

from sluice.runtime import invocation


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SLUICE_ENVIRONMENT", "test")
    monkeypatch.setenv("SLUICE_SERVICE", "function-under-test")
    invocation._settings.cache_clear()
    yield
    invocation._settings.cache_clear()
