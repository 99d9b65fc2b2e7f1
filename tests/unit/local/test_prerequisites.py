from __future__ import annotations

from pathlib import Path

import pytest

from local.errors import LocalError
from local.prerequisites import Terraform, find_terraform


def terraform(folder: Path, body: str) -> dict[str, str]:
    program = folder / "terraform"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)
    return {"PATH": f"{folder}:/bin:/usr/bin"}


def saying(folder: Path, version: str) -> dict[str, str]:
    return terraform(folder, f"""echo '{{"terraform_version": "{version}", "platform": "linux_amd64"}}'""")


@pytest.mark.parametrize("version", ["1.10.0", "1.11.4", "2.0.0", "1.10.0-beta1"])
def test_a_new_enough_terraform_is_taken(tmp_path: Path, version: str) -> None:
    found = find_terraform(saying(tmp_path, version))
    assert found == Terraform(str(tmp_path / "terraform"), version, "linux_amd64")


@pytest.mark.parametrize("version", ["0.15.5", "1.9.8"])
def test_an_old_terraform_is_named_with_its_version(tmp_path: Path, version: str) -> None:
    with pytest.raises(LocalError, match=rf"1\.10 or newer is needed, .*terraform is {version}"):
        find_terraform(saying(tmp_path, version))


def test_a_missing_terraform_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match=r"there is none on PATH") as missing:
        find_terraform({"PATH": str(tmp_path)})
    assert "install" in missing.value.hint


@pytest.mark.parametrize("body", ["exit 3", "echo no json", "echo '{}'"])
def test_something_else_called_terraform_is_explained(tmp_path: Path, body: str) -> None:
    with pytest.raises(LocalError, match="does not run as Terraform should"):
        find_terraform(terraform(tmp_path, body))
