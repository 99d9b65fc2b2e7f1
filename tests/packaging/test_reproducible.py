"""Equal sources give equal bytes, wherever they are checked out and whenever they were written."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from tests.packaging.conftest import Package


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in [*folder.glob("*/*.zip"), folder / "manifest.json"]
    }


def test_two_checkouts_give_the_same_bytes(package: Package, checkout: Path) -> None:
    for path in checkout.rglob("*.py"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    command = [sys.executable, "-m", "infra.packaging.build", "--target", package.target.name]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert digests(checkout / "build" / package.target.name) == digests(package.folder)
