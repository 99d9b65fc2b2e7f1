from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from local.errors import LocalError
from local.instance import Instance
from local.venvs import ministack_python

from .conftest import ROOT


@pytest.fixture
def checkout(tmp_path: Path) -> Instance:
    (tmp_path / "requirements").mkdir()
    shutil.copy(ROOT / "requirements" / "ministack.txt", tmp_path / "requirements")
    return Instance.named("default", tmp_path, {})


@pytest.mark.index
def test_a_broken_environment_is_rebuilt_once_and_holds_no_development_tools(checkout: Instance) -> None:
    requirements = (checkout.root / "requirements" / "ministack.txt").read_bytes()
    folder = checkout.venvs / "ministack"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to("/interpreter/that/was/removed")
    (folder / "sluice-requirements").write_text(hashlib.sha256(requirements + sys.version.encode()).hexdigest())

    python = ministack_python(checkout)
    finished = (folder / "sluice-requirements").stat().st_mtime_ns
    assert ministack_python(checkout) == python
    assert (folder / "sluice-requirements").stat().st_mtime_ns == finished
    # A function that forgot to package boto3 must fail here as on AWS.
    for module in ("boto3", "structlog", "pytest"):
        assert subprocess.run([python, "-c", f"import {module}"], capture_output=True, check=False).returncode != 0


def test_an_environment_that_cannot_be_built_is_explained_and_not_taken_for_whole(checkout: Instance) -> None:
    (checkout.root / "requirements" / "ministack.txt").write_text("./no-such-folder\n")
    with pytest.raises(LocalError, match=r"environment could not be built \(exit 1\)") as failed:
        ministack_python(checkout)
    assert not (checkout.venvs / "ministack" / "sluice-requirements").exists()
    assert failed.value.details
    assert str(checkout.logs / "venv.log") in failed.value.hint
