from __future__ import annotations

import os

import psutil
import pytest

from local import ports
from local.errors import LocalError


def test_a_taken_port_names_its_holder_and_the_variable_to_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "is_free", lambda port: False)
    monkeypatch.setattr(ports, "holder_of", lambda port: psutil.Process())
    with pytest.raises(LocalError) as taken:
        ports.require_free(4566, "the local cloud", "SLUICE_CLOUD_PORT")
    assert taken.value.message.startswith("port 4566, which the local cloud needs, is taken by `")
    assert f"(pid {os.getpid()})" in taken.value.message
    assert taken.value.hint == "stop it, or choose another port: SLUICE_CLOUD_PORT=4666"


def test_a_holder_that_the_system_hides_is_not_invented(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "holder_of", lambda port: None)
    error = ports.explain_taken(65500, "the local cloud", "SLUICE_CLOUD_PORT")
    assert "taken by another process" in error.message
    assert error.hint.endswith("SLUICE_CLOUD_PORT=65400")


def test_a_free_port_is_no_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "is_free", lambda port: True)
    ports.require_free(4566, "the local cloud", "SLUICE_CLOUD_PORT")
